"""The network of SequenceTranscriber: connectionist temporal classification over its steps. NumPy only.

Shape letters: N sequences, T time steps, K labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._dense_head import softmax
from ._step_model import StepModel
from ._step_network import StepNetwork
from ._steps import Steps, object_array

__all__ = ["TranscriberNetwork"]

Array = NDArray[Any]


class TranscriberNetwork(StepNetwork):
    """config: that of `StepNetwork`, outputs being K + 1: the last one is the blank."""

    # What model files of this network become.
    model_class = StepModel

    @property
    def blank(self) -> int:
        return int(self._config["outputs"]) - 1

    def loss_and_gradients(
        self, x: Steps, y: Array, weights: NDArray[np.float64] | None, seed: int, training: bool = True
    ) -> tuple[float, float, dict[str, Array]]:
        """y: (N,) objects, (L,) class indices each."""
        found = self._forward(x, seed, training)
        labels, counts = np.concatenate(y), [len(item) for item in y]
        share = float(len(y)) if weights is None else float(weights.sum())
        each = np.full(len(y), 1.0) if weights is None else weights
        losses, d_scores = _core.ctc_loss(
            found.scores, labels, counts, self.blank, found.lengths, each / max(share, 1e-300), training, self.n_threads
        )
        total = float(losses.sum()) * share
        return total, share, self._backward(found, d_scores) if training else {}

    def probabilities(self, scores: Array) -> Array:
        """Of each label; what is missing to 1 is that of none."""
        return softmax(scores)[..., : self.blank]

    def outputs(self, x: Steps) -> Array:
        """(N,) objects: (T, K) probabilities of each sequence's steps."""
        return x.split(self.probabilities(self._forward(x, 0, training=False).scores))

    def decode(self, x: Steps, beam_width: int = 0) -> Array:
        """(N,) objects: (L,) labels by best path, or by prefix beam search where a width is given."""
        scores = self._forward(x, 0, training=False).scores
        if not beam_width:
            return object_array(_core.ctc_greedy(scores, self.blank, x.lengths))
        found = _core.ctc_beam(scores, self.blank, beam_width, None, x.lengths)
        return object_array(beams[0][0] if beams else np.zeros(0, dtype=np.int32) for beams in found)

    def hypotheses(self, x: Steps, beam_width: int, score: Any) -> list[list[tuple[Array, float]]]:
        """Of each sequence (labels, score), the best first."""
        scores = self._forward(x, 0, training=False).scores
        return _core.ctc_beam(scores, self.blank, beam_width, score, x.lengths)
