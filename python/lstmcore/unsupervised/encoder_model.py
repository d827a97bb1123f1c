"""`EncoderModel`: what SequenceEncoder has as ``model_``. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._layer_network import LayerModel
from .._step_model import check_state
from .._steps import Steps

__all__ = ["EncoderModel"]

Array = NDArray[Any]


class EncoderModel(LayerModel):
    """A trained `EncoderNetwork`; needs NumPy only. X: as for `SequenceEncoder.fit`."""

    @property
    def n_features(self) -> int:
        """I of what users pass; 1 for tokens."""
        config = self.network.config
        return 1 if config["vocabulary"] is not None else int(config["inputs"])

    def encode(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N, W) features of sequences."""
        return self.sequence_features(self._read(X, n_jobs))

    def sequence_features(self, x: Steps) -> Array:
        """(N, W)."""
        network: Any = self.network
        return np.concatenate([network.encoded(part) for part in self.core.parts(x)])

    def _read(self, X: Any, n_jobs: int | None) -> Steps:
        from .._parameters import thread_count

        network: Any = self.network
        network.n_threads = thread_count(n_jobs)
        x: Steps = network.read_fitted(X, "X")
        return x

    def outputs(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N,) objects: features of steps, (T, W) each."""
        return self.core.predict(self._read(X, n_jobs))

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """Features of the next step, (W,) or (N, W) for N streams, and the state for the next call."""
        network: Any = self.network
        if network.config["separate"] or network.config["bidirectional"]:
            raise ValueError("step: one direction reads from the end. Fit with bidirectional=False.")
        rows, single = network.read_step(x)
        if state is not None:
            check_state(state, len(rows))
        features, state = network.stream(rows, state)
        return (features[0] if single else features), state
