"""Labels without alignment: rows of handwritten digits, read column by column.

Two to five of scikit-learn's digits stand side by side, with gaps and overlaps of random width; a network that reads
from both sides learns to write them down from the digits alone, without being told where each one stands.
Needs: pip install "lstmcore[sklearn]".
"""

import numpy as np
from sklearn.datasets import load_digits

from lstmcore import SequenceTranscriber
from lstmcore.metrics import label_error_rate

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8) / 16.0
rng = np.random.default_rng(0)


def rows_of_digits(first: int, last: int, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures 8 pixels high as (columns, 8) arrays, and the digits in them."""
    X, y = [], []
    for _ in range(count):
        chosen = rng.integers(first, last, size=rng.integers(2, 6))
        pieces = []
        for k in chosen:
            pieces += [np.zeros((rng.integers(0, 4), 8)), images[k].T]
        X.append(np.concatenate(pieces))
        y.append(labels[chosen])
    return X, y


# Digits in test rows are of other writers than those in training rows.
X_train, y_train = rows_of_digits(0, 1297, 2000)
X_test, y_test = rows_of_digits(1297, 1797, 500)
print(f"{len(X_train)} rows of {min(map(len, X_train))} to {max(map(len, X_train))} columns")

reader = SequenceTranscriber(
    bidirectional=True, hidden_size=48, standardize=False, learning_rate="cosine", max_iter=25, random_state=0
)
reader.fit(X_train, y_train)
found = reader.predict(X_test)
whole = np.mean([np.array_equal(a, b) for a, b in zip(found, y_test, strict=True)])
print(f"greedy: label error rate {label_error_rate(y_test, found):.4f}, {whole:.3f} of the rows without any error")
print("written:", found[0].tolist(), "was:", y_test[0].tolist())

reader.set_params(decoder="beam", beam_width=8)
print(f"beam search: label error rate {label_error_rate(y_test, reader.predict(X_test)):.4f}")

# What else a row could be, and what a rule of one's own makes of it: no digit twice in a row.
for digits, log_p in reader.decode(X_test[:1])[0][:3]:
    print(f"  {digits.tolist()}: {np.exp(log_p):.4f}")
strict = reader.decode(X_test[:1], score=lambda prefix, digit: -np.inf if prefix[-1:] == (digit,) else 0.0)
print("without repeats:", strict[0][0][0].tolist())
assert 1.0 - reader.score(X_test, y_test) < 0.1
