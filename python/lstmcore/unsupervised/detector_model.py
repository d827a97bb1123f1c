"""`DetectorModel`: what SequenceAnomalyDetector has as ``model_``. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._layer_network import LayerModel
from .._steps import object_array

__all__ = ["AnomalyStream", "DetectorModel"]

Array = NDArray[Any]


class AnomalyStream:
    """Where N streams stand between calls of `SequenceAnomalyDetector.step`; never modified."""

    def __init__(self, count: int, inner: Any) -> None:
        self.count, self.inner = count, inner

    def __len__(self) -> int:
        """N."""
        return self.count


class DetectorModel(LayerModel):
    """A trained `ForecastNetwork` with its thresholds; needs NumPy only.

    X: as for `SequenceAnomalyDetector.fit`. All scores are lower for what is more abnormal.
    """

    @property
    def n_features(self) -> int:
        """I."""
        return int(self.network.config["inputs"])

    @property
    def offset(self) -> float:
        """Score of a sequence below which it is abnormal."""
        return float(self.network.constants["offset"][0])

    @property
    def step_offset(self) -> float:
        """Score of a step below which it is abnormal."""
        return float(self.network.constants["step_offset"][0])

    def score_steps(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N,) objects: the scores of each sequence's steps, (T,)."""
        return self.outputs(X, n_jobs)

    def score_samples(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N,) scores of sequences."""
        return self.sequence_scores(self.outputs(X, n_jobs))

    def predict(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N,) −1 for abnormal sequences, 1 for normal ones."""
        return np.where(self.score_samples(X, n_jobs) < self.offset, -1, 1)

    def predict_steps(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N,) objects: −1 for abnormal steps, 1 for normal ones, (T,) each."""
        return self.marked(self.outputs(X, n_jobs))

    def marked(self, scores: Array) -> Array:
        """Scores of steps → −1 and 1."""
        return object_array(np.where(item < self.step_offset, -1, 1) for item in scores)

    def sequence_scores(self, scores: Array) -> Array:
        """Scores of steps → scores of sequences (N,)."""
        network: Any = self.network
        return np.array([network.aggregate(item) for item in scores])

    def step(self, x: ArrayLike, state: AnomalyStream | None = None) -> tuple[Any, AnomalyStream]:
        """Score of the next step: a float, or (N,) for N streams; and the state for the next call."""
        network: Any = self.network
        values = np.asarray(x)
        if values.ndim == 0 and self.n_features == 1:
            values = values[None]
        rows, single = network.read_step(values)
        if state is not None and not isinstance(state, AnomalyStream):
            raise TypeError(f"state: expected what step returned, or None to start; got {type(state).__name__}")
        if state is not None and len(state) != len(rows):
            raise ValueError(f"state: it is of {len(state)} stream(s), x has {len(rows)} row(s)")
        scores, inner = network.stream(rows, None if state is None else state.inner)
        return (float(scores[0]) if single else scores), AnomalyStream(len(rows), inner)
