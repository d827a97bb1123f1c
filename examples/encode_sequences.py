"""Many sequences, few of them labelled: features learnt on all of them, a classifier on the few.

Handwritten digits are read row by row, eight steps of eight pixels. Needs: pip install "lstmcore[sklearn]".
"""

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import lstmcore
from lstmcore import SequenceClassifier, SequenceEncoder

digits = load_digits()
X_train, y_train = digits.images[:1200], digits.target[:1200]
X_test, y_test = digits.images[1200:], digits.target[1200:]
LABELLED = 3  # of each digit


def head():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


both = {"bidirectional": True, "max_iter": 20, "random_state": 0}
encoders = {
    "features of random layers": SequenceEncoder(None, bidirectional=True, pooling="mean", random_state=0),
    "features by autoencoder": SequenceEncoder("autoencoder", **both),
    "features by next step": SequenceEncoder("next_step", pooling="mean", **both),
}
for encoder in encoders.values():
    encoder.fit(X_train)  # 1200 sequences, no labels

accuracies = {name: [] for name in ("classifier on the few alone", *encoders)}
for draw in range(3):
    rng = np.random.default_rng(draw)
    few = np.concatenate([rng.choice(np.flatnonzero(y_train == c), LABELLED, replace=False) for c in range(10)])
    X, y = X_train[few], y_train[few]
    alone = SequenceClassifier(bidirectional=True, pooling="mean", max_iter=60, random_state=draw)
    accuracies["classifier on the few alone"].append(alone.fit(X, y).score(X_test, y_test))
    for name, encoder in encoders.items():
        model = head().fit(encoder.transform(X), y)
        accuracies[name].append(model.score(encoder.transform(X_test), y_test))
print(f"accuracy with {LABELLED} labelled sequences of each class, mean of three draws")
for name, values in accuracies.items():
    print(f"  {name:28} {np.mean(values):.3f}")

# In a pipeline the encoder learns what the others are given; here the fitted one is taken as it is.
model = make_pipeline(SequenceEncoder(pretrained=encoder, pooling="max"), head()).fit(X, y)
print(f"the same layers with another pooling: {model.score(X_test, y_test):.3f}")

path = Path(mkdtemp()) / "encoder.safetensors"
encoder.save(path)
network = lstmcore.load_model(path)  # needs NumPy and nothing else
assert np.array_equal(network.encode(X_test), encoder.transform(X_test))
