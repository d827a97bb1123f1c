"""What SequenceEncoder and SequenceAnomalyDetector share: sequences without labels, trained on in pieces."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._base import SequenceReader
from .._layer_training import LayerEstimator
from .._step_estimator import RecurrentParameters

__all__ = ["UnlabelledEstimator", "without_labels"]

Array = NDArray[Any]


class UnlabelledEstimator(SequenceReader, RecurrentParameters, LayerEstimator):
    """Base of both; not for use on its own."""

    bptt_steps: int | None
    standardize: bool
    class_weight: None

    def _piece_steps(self) -> int | None:
        return None if self.bptt_steps is None else int(self.bptt_steps)

    def _step_features(self) -> int:
        return int(self.model_.network.config["inputs"])

    def _read(self, X: Any, y: Any, reset: bool, prefix: str = "", classes: Any = None) -> tuple[Any, Array]:
        return X, np.zeros(len(X.lengths))

    def _fitted_document(self) -> dict[str, Any]:
        return {**super()._fitted_document(), **self._reader_document()}

    def _restore_fitted(self, model: Any, fitted: dict[str, Any]) -> None:
        if type(model.network) is not self._network:
            raise ValueError(f"{type(self).__name__} with a {type(model.network).__name__}")
        self._restore_reader(model.n_features, fitted)
        self._restore_architecture(fitted)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = False
        return tags


def without_labels(eval_set: Any) -> Any:
    """X of an eval_set, X or (X, None); ValueError for (X, y), whose y nothing would read."""
    if not isinstance(eval_set, (tuple, list)) or not len(eval_set):
        return eval_set
    if isinstance(eval_set, tuple) and len(eval_set) == 2 and eval_set[1] is None:
        return eval_set[0]
    first = eval_set[0]
    if isinstance(first, (list, tuple)) and len(first):
        several = isinstance(first, tuple) or getattr(first[0], "ndim", 0) > 0
    else:
        several = getattr(first, "ndim", 0) > 2
    if several:
        raise ValueError(
            f"eval_set: expected sequences as X, or (X, None), since labels are not read here; got a "
            f"{type(eval_set).__name__} of {len(eval_set)}. Pass X alone."
        )
    return eval_set
