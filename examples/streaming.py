"""Answer while the sequence is still arriving, step by step, for several streams at once.

A bit has to be kept through noise (see lstmcore.datasets.two_sequence). Needs: pip install "lstmcore[sklearn]".
"""

import numpy as np

from lstmcore import SequenceClassifier
from lstmcore.datasets import two_sequence

X, y = two_sequence(600, 60, random_state=0)
model = SequenceClassifier(hidden_size=16, max_iter=15, random_state=0)  # one direction: the end is not known yet
model.fit(X[:500], y[:500])
print(f"test accuracy {model.score(X[500:], y[500:]):.3f}")

# The first 60 steps of three sequences, as they would come from three sensors: one row a stream.
streams = np.stack([x[:60] for x in X[500:503]])  # (streams, steps, features)
state = None
for t in range(60):
    probabilities, state = model.step(streams[:, t], state)
    if t % 15 == 14:
        print(f"after {t + 1:2d} steps, probability of class 1:", probabilities[:, 1].round(3))
print("true classes:", y[500:503])

# The last answer is that of predict_proba on the whole sequence.
assert np.allclose(probabilities, model.predict_proba(streams), atol=1e-5)

# state.copy() branches off: what if the next value were 5?
surprise, _ = model.step(np.full((3, 1), 5.0), state.copy())
usual, _ = model.step(np.zeros((3, 1)), state)
print("class 1 after a 5:", surprise[:, 1].round(3), "after a 0:", usual[:, 1].round(3))
