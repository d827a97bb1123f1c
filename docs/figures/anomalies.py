"""A blood pressure with an anomaly, and how abnormal each step is; draws anomalies.png.

The series is 135 InternalBleeding16 of the UCR Anomaly Archive (Wu & Keogh 2021), which the package aeon carries.
Needs: pip install "lstmcore[demo]"; pip install --no-deps aeon.

    python docs/figures/anomalies.py [folder]
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

from lstmcore import SequenceAnomalyDetector

spec = importlib.util.find_spec("aeon")
if spec is None:
    sys.exit("the series comes with aeon: pip install --no-deps aeon")
data = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "KDD-TSAD_135"
train, test = (
    np.genfromtxt(data / f"135_UCR_Anomaly_InternalBleeding16_{part}.csv", delimiter=",", skip_header=1)
    for part in ("TRAIN", "TEST")
)
detector = SequenceAnomalyDetector(n_iter_no_change=None, random_state=0).fit([train[:, 1]])
series, score = detector.plot([test[3600:4800, 1]])
first, last = np.flatnonzero(test[3600:4800, 2])[[0, -1]]
for axes in (series, score):
    axes.axvspan(first, last, color="#d55e00", alpha=0.15, linewidth=0)
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
series.figure.savefig(folder / "anomalies.png", dpi=120)
