"""Encoder and decoder with attention: dates as people write them, to ISO 8601.

"Tuesday, the 4th of May 2021", "may 4, 21" and "04.05.21" all become "2021-05-04", character by character, learnt from
pairs alone. Test dates are days that training has not seen in any form.
Needs: pip install "lstmcore[demo]".

    python examples/translate_dates.py [attention.png]
"""

import sys
import time

from lstmcore import SequenceTranslator
from lstmcore.datasets import make_dates
from lstmcore.metrics import label_error_rate
from lstmcore.plotting import plot_attention

X, y = make_dates(10000, random_state=0)
seen = set(y)
unseen = [(text, date) for text, date in zip(*make_dates(4000, random_state=1), strict=True) if date not in seen]
X_test, y_test = (list(part) for part in zip(*unseen[:1000], strict=True))
print(
    f"{len(X)} dates to learn from, such as {X[0]!r} -> {y[0]}; {len(X_test)} days to test on that are not among them"
)

start = time.perf_counter()
translator = SequenceTranslator(
    hidden_size=64, embedding_size=32, learning_rate_init=5e-3, learning_rate="cosine", max_iter=12, random_state=0
)
translator.fit(X, y)
found = translator.predict(X_test)
right = translator.score(X_test, y_test)
print(f"{time.perf_counter() - start:.0f} s; whole dates right: {right:.4f}, wrong characters: "
      f"{label_error_rate(y_test, found):.5f}")  # fmt: skip
for text, date in zip(X_test[:5], found[:5], strict=True):
    print(f"  {text:40} {date}")

text = "Tuesday, the 4th of May 2021"
best, second = translator.decode([text], beam_width=5, n_best=2, return_attention=True)[0]
print(f"beam search: {best.output} ({best.score:.4f}), then {second.output} ({second.score:.4f})")
if len(sys.argv) > 1:
    plot_attention(text, best.output, best.attention).figure.savefig(sys.argv[1], dpi=150)
    print("attention map in", sys.argv[1])
assert right >= 0.98
