"""SequenceAnomalyDetector beside IsolationForest and LocalOutlierFactor, on real data.

- vowels: utterances of one speaker to train on, those of all nine to tell apart, nine times (`load_japanese_vowels`).
  The peers read utterances brought to ten steps by interpolation. Area under the ROC curve, mean and lowest.
- bleeding, heartbeat: one series to train on, one with an anomaly in it. The peers read windows, and a step's score is
  the mean over the windows that hold it. Area under the ROC curve and average precision of steps; and whether the most
  abnormal step lies within the anomaly or at most a tenth of its length, at least 100 steps, off (Wu & Keogh 2021).

The series are files that the packages aeon (UCR Anomaly Archive, 135 InternalBleeding16) and sktime (MIT-BIH Arrhythmia
Database, Moody & Mark 2001) carry: pip install sktime, pip install --no-deps aeon. What is not installed is left out.

    python bench/anomalies.py [max_iter]
"""

import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from lstmcore import SequenceAnomalyDetector
from lstmcore.datasets import load_japanese_vowels

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
PEERS = {
    "IsolationForest": lambda: IsolationForest(random_state=0),
    "LocalOutlierFactor": lambda: LocalOutlierFactor(novelty=True),
}


def file_of(package, path):
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    found = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / path
    return found if found.is_file() else None


def ours(**settings):
    return SequenceAnomalyDetector(max_iter=EPOCHS, n_iter_no_change=None, random_state=0, **settings)


def resampled(X, steps=10):
    grid = np.linspace(0, 1, steps)
    return np.stack([np.concatenate([np.interp(grid, np.linspace(0, 1, len(x)), column) for column in x.T]) for x in X])


def vowels():
    X, y = load_japanese_vowels("train")
    X_test, y_test = load_japanese_vowels("test")
    rows = {}
    for speaker in np.unique(y):
        own = [x for x, label in zip(X, y, strict=True) if label == speaker]
        scores = {name: make().fit(resampled(own)).score_samples(resampled(X_test)) for name, make in PEERS.items()}
        for aggregation in ("max", "mean"):
            detector = ours(aggregation=aggregation).fit(own)
            scores[f"ours, aggregation={aggregation!r}"] = detector.score_samples(X_test)
        for name, values in scores.items():
            rows.setdefault(name, []).append(roc_auc_score(y_test != speaker, -values))
    print("vowels, nine speakers in turn: AUC mean, lowest")
    for name, values in rows.items():
        print(f"  {name:36} {np.mean(values):.3f}  {min(values):.3f}", flush=True)


def by_windows(model, train, test, width):
    windows = np.lib.stride_tricks.sliding_window_view
    scores = model.fit(windows(train, width)).score_samples(windows(test, width))
    total = np.convolve(scores, np.ones(width))
    return total / np.convolve(np.ones(len(scores)), np.ones(width))


def series(name, train, test, labels):
    first, last = np.flatnonzero(labels)[[0, -1]]
    margin = max(100, (last - first) // 10)
    print(f"{name}: {len(train)} steps to train on, {len(test)} to judge, abnormal {first} to {last}: AUC, AP, found")

    def report(what, scores, seconds):
        worst = int(np.argmin(scores))
        found = "yes" if first - margin <= worst <= last + margin else f"no (step {worst})"
        area, precision = roc_auc_score(labels, -scores), average_precision_score(labels, -scores)
        print(f"  {what:36} {area:.3f}  {precision:.3f}  {found}   {seconds:.1f} s", flush=True)

    for what, make in PEERS.items():
        for width in (20, 50, 100):
            start = time.perf_counter()
            scores = by_windows(make(), train, test, width)
            report(f"{what}, windows of {width}", scores, time.perf_counter() - start)
    for settings in ({}, {"horizon": 8}, {"loss": "gaussian"}):
        start = time.perf_counter()
        scores = ours(**settings).fit([train]).score_steps([test])[0]
        report(
            "ours" + "".join(f", {key}={value!r}" for key, value in settings.items()),
            scores,
            time.perf_counter() - start,
        )


vowels()
folder = "KDD-TSAD_135/135_UCR_Anomaly_InternalBleeding16_{}.csv"
if (path := file_of("aeon", folder.format("TRAIN"))) is not None:
    train = np.genfromtxt(path, delimiter=",", skip_header=1)
    test = np.genfromtxt(file_of("aeon", folder.format("TEST")), delimiter=",", skip_header=1)
    series("bleeding", train[:, 1], test[:, 1], test[:, 2])
if (path := file_of("sktime", "mitdb/mitdb.csv")) is not None:
    heart = np.genfromtxt(path, delimiter=",", skip_header=1)[::4]  # 90 steps a second
    series("heartbeat", heart[:1000, 0], heart[1000:, 0], heart[1000:, 1])
