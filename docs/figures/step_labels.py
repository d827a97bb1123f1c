"""What a tagger and a transcriber say step by step; draws step_labels.png. A few seconds.

Above: a drifting level that is seen through noise. Below: a noisy signal whose marks the transcriber reads, without
having been told in training where they are. Needs: pip install "lstmcore[demo]".

    python docs/figures/step_labels.py [folder]
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lstmcore import SequenceTagger, SequenceTranscriber

MARKS = np.array(["a", "b", "c"])


def walks(count, seed):
    """A drifting level seen through noise; labels: where it is."""
    rng = np.random.default_rng(seed)
    levels = [np.cumsum(rng.normal(0, 0.6, 60)) for _ in range(count)]
    y = [np.array(["low", "middle", "high"])[np.digitize(level, [-1.5, 1.5])] for level in levels]
    return [(level + rng.normal(0, 1.0, 60))[:, None] for level in levels], y


def signals(count, seed):
    """Marks of uneven length with gaps between, noisy; labels: the marks in order."""
    rng = np.random.default_rng(seed)
    X, y = [], []
    for _ in range(count):
        marks = rng.integers(3, size=rng.integers(3, 6))
        steps = [k for mark in marks for k in [mark] * rng.integers(3, 7) + [3] * rng.integers(2, 6)]
        X.append(np.eye(4)[steps] + rng.normal(0, 0.35, (len(steps), 4)))
        y.append(MARKS[marks].tolist())
    return X, y


folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
tagger = SequenceTagger("gru", hidden_size=24, bidirectional=True, max_iter=20, random_state=0).fit(*walks(200, 0))
transcriber = SequenceTranscriber(hidden_size=24, learning_rate_init=2e-2, max_iter=30, random_state=0)
transcriber.fit(*signals(300, 0))

figure = Figure(figsize=(8.4, 5.2), layout="constrained")
above, below = figure.subplots(2, 1)
X, y = walks(30, 1)
print(f"tagger: {tagger.score(X, y):.3f} of steps right")
tagger.plot_labels(X, y, above, sequence=2)
X, y = signals(30, 1)
print(f"transcriber: {transcriber.score(X, y):.3f} (1 - label error rate)")
transcriber.plot_labels(X, y, below, sequence=1)
above.set_title("SequenceTagger: squares are its labels", fontsize=10)
figure.savefig(folder / "step_labels.png", dpi=110)
