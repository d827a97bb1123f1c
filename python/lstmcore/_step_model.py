"""`StepModel`: what SequenceTagger and its like have as ``model_``. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._layer_network import LayerModel
from ._steps import Steps, object_array

__all__ = ["StepModel", "check_state"]

Array = NDArray[Any]


class StepModel(LayerModel):
    """A trained network with an output at every step, and what its outputs mean; needs NumPy only.

    `predict` gives (N,) objects, an array of labels each; `predict_proba` (T, K) probabilities each. The network is a
    `_step_network.StepNetwork` with decode(x), (N,) objects of class indices, and probabilities(scores).
    """

    # Sequences decoded at a time, at least.
    _together = 1

    def outputs(self, X: Any, n_jobs: int | None = None) -> Array:
        return self.core.predict(self._read(X, n_jobs))

    def predict(self, X: Any, n_jobs: int | None = None) -> Array:
        return self.labels(self._read(X, n_jobs))

    def labels(self, x: Steps, **options: Any) -> Array:
        """(N,) objects: the labels of each sequence. options: of the network's decode."""
        assert self.classes is not None
        return object_array(self.classes[item] for item in self.codes(x, **options))

    def codes(self, x: Steps, **options: Any) -> list[Array]:
        """The same as indices in `classes`."""
        with np.errstate(all="ignore"):  # weights that have grown too large show in the outputs
            return [
                item
                for part in self.core.parts(x, self._together)
                for item in self._steps_network.decode(part, **options)
            ]

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """One step of one stream or of N: probabilities (K,) or (N, K), and the state for the next call."""
        network = self._steps_network
        reasons = {
            "crf": "the labels of a chain depend on later steps",
            "bidirectional": "one direction reads from the end",
        }
        for name, reason in reasons.items():
            if network.config.get(name):
                raise ValueError(f"step: {reason}. Fit with {name}=False.")
        inputs, single = network.read_step(x)
        if state is not None:
            check_state(state, len(inputs))
        scores, state = network.step(inputs, state)
        probabilities: Array = network.probabilities(scores)
        return (probabilities[0] if single else probabilities), state

    @property
    def _steps_network(self) -> Any:
        return self.network

    def _read(self, X: Any, n_jobs: int | None) -> Steps:
        from ._parameters import thread_count

        network = self._steps_network
        network.n_threads = thread_count(n_jobs)
        x: Steps = network.prepare(network.read(X, "X", self.dtype), "X")
        return x


def check_state(state: Any, count: int) -> None:
    """TypeError or ValueError where a state cannot be what step returned for so many streams."""
    if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
        raise TypeError(f"state: expected what step returned, or None to start; got {type(state).__name__}")
    for value in state.values():
        if value.ndim < 2 or value.shape[1] != count:
            raise ValueError(f"state: it is of {value.shape[1] if value.ndim > 1 else 0} stream(s), x has {count}")
