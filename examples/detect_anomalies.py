"""Find recordings, and moments in a series, that are not like the normal ones.

Needs: pip install "lstmcore[demo]" (for the data and the plot).
"""

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

import lstmcore
from lstmcore import SequenceAnomalyDetector
from lstmcore.datasets import load_japanese_vowels

# --- whole sequences: utterances of one speaker are normal, those of eight others are not ---
X_train, y_train = load_japanese_vowels("train")
X_test, y_test = load_japanese_vowels("test")
normal = [x for x, speaker in zip(X_train, y_train, strict=True) if speaker == 3]
other = y_test != 3

detector = SequenceAnomalyDetector(aggregation="mean", max_iter=60, random_state=0).fit(normal)
print(f"area under the ROC curve {roc_auc_score(other, -detector.score_samples(X_test)):.3f}")


def ten_steps(X):
    """What needs vectors gets each utterance brought to ten steps."""
    grid = np.linspace(0, 1, 10)
    return [np.concatenate([np.interp(grid, np.linspace(0, 1, len(x)), column) for column in x.T]) for x in X]


for peer in (IsolationForest(random_state=0), LocalOutlierFactor(novelty=True)):
    scores = peer.fit(ten_steps(normal)).score_samples(ten_steps(X_test))
    print(f"  by {type(peer).__name__:18} {roc_auc_score(other, -scores):.3f}")

# --- steps of a series: a machine's pressure, in which one stroke comes late and a valve sticks for a moment ---
rng = np.random.default_rng(0)


def pressure(steps):
    phase = np.cumsum(0.2 + 0.01 * rng.normal(size=steps))
    return np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.05 * rng.normal(size=steps)


machine = SequenceAnomalyDetector(step_contamination=0.0, max_iter=60, random_state=0).fit([pressure(3000)])
series = pressure(1000)
series[400:] = np.concatenate([series[385:400], series[400:-15]])  # 15 steps again
series[700:708] = series[700]
marked = np.flatnonzero(machine.predict_steps([series])[0] == -1)
print(f"abnormal steps: {marked.tolist()}")

# --- the same as it arrives, one value at a time ---
state, alarms = None, []
for t, value in enumerate(series):
    score, state = machine.step(value, state)
    if score < machine.step_offset_:
        alarms.append(t)
assert alarms == marked.tolist()

folder = Path(mkdtemp())
machine.plot([series])[0].figure.savefig(folder / "anomalies.png", dpi=150)
machine.save(folder / "machine.safetensors")
network = lstmcore.load_model(folder / "machine.safetensors")  # needs NumPy and nothing else
assert np.array_equal(network.predict_steps([series])[0], machine.predict_steps([series])[0])
