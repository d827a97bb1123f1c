"""The network of SequenceTagger: a label a step, by softmax or by a linear-chain conditional random field. NumPy only.

Shape letters: N sequences, T time steps, K labels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._dense_head import cross_entropy, softmax
from ._step_model import StepModel
from ._step_network import Shapes, StepNetwork
from ._steps import Steps, object_array

__all__ = ["StepTargets", "TaggerNetwork"]

Array = NDArray[Any]

_CHAIN = ("transitions", "start", "end")


class StepTargets(NamedTuple):
    """Labels of one sequence's steps."""

    values: NDArray[np.int32]  #: (T,) class indices
    weights: NDArray[np.float64]  #: (T,) factor of each step in the loss; written to by the estimator


class TaggerNetwork(StepNetwork):
    """config: that of `StepNetwork` and crf. With crf further parameters "crf_transitions" (K, K), from row to column,
    "crf_start" and "crf_end" (K,), and constants "allowed_transitions", "allowed_start", "allowed_end" of these shapes,
    1 or 0.
    """

    # What model files of this network become.
    model_class = StepModel

    _extra = ("crf",)

    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        super().__init__(config, seed)
        labels = config["outputs"]
        self._chain: dict[str, Array] = {}
        if config["crf"]:
            for name, shape in zip(_CHAIN, ((labels, labels), (labels,), (labels,)), strict=True):
                self._chain["crf_" + name] = np.zeros(shape, dtype=config["dtype"])
                self._constants["allowed_" + name] = np.ones(shape)

    @property
    def parameters(self) -> dict[str, Array]:
        return super().parameters | self._chain

    def _chain_scores(self) -> tuple[Array, Array, Array]:
        """transitions, start, end; minus infinity where forbidden."""

        def scores(name: str) -> Array:
            allowed = self._constants["allowed_" + name] > 0.0
            found: Array = np.where(allowed, self._chain["crf_" + name], -np.inf).astype(self._config["dtype"])
            return found

        return scores("transitions"), scores("start"), scores("end")

    def loss_and_gradients(
        self, x: Steps, y: Array, weights: NDArray[np.float64] | None, seed: int, training: bool = True
    ) -> tuple[float, float, dict[str, Array]]:
        """y: N StepTargets. Σ w is over steps, each with its sequence's weight."""
        found = self._forward(x, seed, training)
        labels = np.concatenate([item.values for item in y])
        factors = np.concatenate([item.weights for item in y])
        if weights is not None:
            factors *= np.repeat(weights, x.lengths)
        run = self._chain_loss if self._config["crf"] else self._step_loss
        total, share, d_scores, gradients = run(found.scores, found.lengths, labels, factors, training)
        if not training:
            return total, share, {}
        return total, share, {**self._backward(found, d_scores), **gradients}

    def _step_loss(
        self, scores: Array, lengths: Array, labels: Array, weights: Array, training: bool
    ) -> tuple[float, float, Array, dict[str, Array]]:
        real = np.arange(scores.shape[1]) < lengths[:, None]
        total, share, slopes = cross_entropy(scores[real], labels, weights)
        d_scores = np.zeros_like(scores)
        d_scores[real] = slopes
        return total, share, d_scores, {}

    def _chain_loss(
        self, scores: Array, lengths: Array, labels: Array, weights: Array, training: bool
    ) -> tuple[float, float, Array, dict[str, Array]]:
        share = float(weights.sum())
        chain = self._chain_scores()
        if any(np.isnan(part).any() or np.isposinf(part).any() for part in chain):
            return float("nan"), share, scores, {}  # diverged: the trainer says so
        losses, found = _core.crf_loss(
            scores, labels, *chain, lengths, weights / max(share, 1e-300), training, self.n_threads
        )
        total = float(losses.sum()) * share
        if not training:
            return total, share, scores, {}
        return total, share, found["emissions"], {"crf_" + name: found[name] for name in _CHAIN}

    def probabilities(self, scores: Array) -> Array:
        """Of each label, without crf."""
        return softmax(scores)

    def outputs(self, x: Steps) -> Array:
        """(N,) objects: (T, K) probabilities of each sequence's steps; with crf given the whole of it."""
        found = self._forward(x, 0, training=False)
        if not self._config["crf"]:
            return x.split(softmax(found.scores))
        marginals, _ = _core.crf_marginals(found.scores, *self._chain_scores(), found.lengths, self.n_threads)
        return x.split(marginals)

    def decode(self, x: Steps) -> Array:
        """(N,) objects: (T,) labels, the most probable ones; with crf the most probable path."""
        if not self._config["crf"]:
            return object_array(np.argmax(item, axis=1) for item in self.outputs(x))
        scores = self._forward(x, 0, training=False).scores
        labels, best = _core.crf_decode(scores, *self._chain_scores(), x.lengths, self.n_threads)
        if np.isneginf(best).any():
            length = int(x.lengths[np.argmax(np.isneginf(best))])
            raise ValueError(f"constraints: they allow no sequence of {length} labels at all.")
        return object_array(np.split(labels, np.cumsum(x.lengths)[:-1]))

    @classmethod
    def shapes(cls, config: dict[str, Any]) -> tuple[Shapes, Shapes, str]:
        shapes, constants, dtype = super().shapes(config)
        if type(config["crf"]) is not bool:
            raise ValueError(f"config: crf: expected true or false, got {config['crf']!r}")
        if config["crf"]:
            K = config["outputs"]
            for name, shape in zip(_CHAIN, ((K, K), (K,), (K,)), strict=True):
                shapes["crf_" + name] = shape
                constants["allowed_" + name] = shape
        return shapes, constants, dtype
