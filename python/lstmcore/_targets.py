"""What y is: class labels or numbers, one entry a sample; shared by all estimators that predict them."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from ._labels import class_weights, encode_labels
from ._steps import object_array
from ._validation import moments

__all__ = [
    "LabelSequences",
    "LabelTargets",
    "NumberTargets",
    "check_first_classes",
    "check_same_classes",
    "distinct_classes",
]

Array = NDArray[Any]


def _as_array(y: Any, name: str, expected: str) -> Array:
    """y as an array of at least one dimension; TypeError or ValueError for what is none, in words that name it."""
    known = isinstance(y, (list, tuple)) or (hasattr(y, "__array__") and not isinstance(y, type))
    if not known or getattr(y, "ndim", 1) == 0:
        raise TypeError(f"{name}: expected {expected}, got {y!r:.40}")
    try:
        array = np.asarray(y)
    except ValueError as error:
        raise ValueError(f"{name}: expected {expected}, got entries of different shapes") from error
    if array.shape[0] == 0:
        raise ValueError(f"{name} is empty: expected {expected}.")
    if array.dtype.kind == "U" and isinstance(y, (list, tuple)) and array.ndim == 1:
        mixed = next((n for n, label in enumerate(y) if not isinstance(label, str)), None)
        if mixed is not None:
            raise ValueError(f"{name}[{mixed}] is {y[mixed]!r}: labels that are text do not mix with others")
    return array


def distinct_classes(classes: Any, least: int = 1) -> Array:
    """(K,) sorted labels from `classes` of partial_fit; ValueError where they are none."""
    array = _as_array(classes, "classes", "the labels (K,) that any call will bring")
    if array.ndim != 1:
        raise ValueError(f"classes has shape {array.shape}. Expected (K,), the labels that any call will bring.")
    if any(label is None or label != label for label in array.tolist()):
        raise ValueError("classes holds None or NaN. Expected labels: text, integers, numbers or bool.")
    known = np.unique(array)
    if len(known) < least:
        raise ValueError(f"classes has {len(known)} distinct label(s): at least {least} classes are needed.")
    return known


def check_first_classes(estimator: Any, classes: Any) -> None:
    """ValueError where partial_fit has no classes from an earlier call either."""
    if classes is None and not hasattr(estimator, "model_"):
        raise ValueError(
            "classes must be passed on the first call to partial_fit: all labels that any call will bring."
        )


def check_same_classes(classes: Any, known: Array) -> None:
    """ValueError where a later call of partial_fit names others than the first."""
    now = distinct_classes(classes)
    if not np.array_equal(now, known):
        raise ValueError(f"classes={now.tolist()!r} are not those of the first call, {known.tolist()!r}.")


class LabelTargets:
    """For an EpochEstimator with a parameter class_weight: one label a sample."""

    class_weight: dict[Any, float] | str | None
    classes_: Array

    def _read_targets(self, y: Any, reset: bool, name: str, classes: Any = None) -> Array:
        if not hasattr(y, "toarray"):  # sparse: scikit-learn's own error says what to do
            given = _as_array(y, name, "one label a sample, (N,)")
            if given.ndim > 2:
                raise ValueError(f"{name} should be a 1d array, got an array of shape {given.shape} instead.")
            if given.dtype == object and given.ndim == 1 and any(label is None for label in given):
                at = next(n for n, label in enumerate(given) if label is None)
                raise ValueError(f"{name}[{at}] is None. Expected one label a sample.")
        labels = column_or_1d(y, warn=True)
        if labels.dtype.kind == "f":
            assert_all_finite(labels, input_name=name)
        check_classification_targets(labels)
        if reset:
            if classes is None:
                known = np.unique(labels)
                if len(known) < 2:
                    raise ValueError(
                        f"{name} has only one class, {known.tolist()[0]!r}: at least 2 classes are needed."
                    )
            else:
                known = distinct_classes(classes, least=2)
            self.classes_ = known
        elif classes is not None:
            check_same_classes(classes, self.classes_)
        return encode_labels(labels, self.classes_, name)

    def _loss_weights(self, y: Array, sample_weight: Array | None) -> Array | None:
        factors = class_weights(self.class_weight, self.classes_, y, sample_weight)
        weights = sample_weight
        if factors is not None:
            weights = factors[y] if sample_weight is None else sample_weight * factors[y]
        return weights

    def _check_training_weights(self, y: Array, weights: Array) -> None:
        present = np.unique(y[weights > 0])
        if len(present) == 1 and len(np.unique(y)) > 1:
            label = self.classes_.tolist()[present[0]]
            raise ValueError(
                f"Only one class, {label!r}, has weights other than zero (sample_weight, class_weight): at least 2 "
                "classes are needed."
            )

    def _check_partial(self, classes: ArrayLike | None) -> None:
        """ValueError for a call of partial_fit that lacks what it needs."""
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit: the classes' shares in all the data are not "
                "known. Compute the weights and pass them as a dict."
            )
        check_first_classes(self, classes)

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        return float(np.average(np.argmax(outputs, axis=1) == y, weights=sample_weight))

    def _strata(self, y: Array) -> Array | None:
        return y


class LabelSequences:
    """A sequence of labels a sample, of any length."""

    classes_: Array

    def _read_label_sequences(self, y: Any, reset: bool, name: str, classes: Any) -> Array:
        """(N,) objects: places in classes_, (L,) each."""
        if isinstance(y, str) or not (isinstance(y, (list, tuple)) or hasattr(y, "__array__")):
            raise TypeError(f"{name}: expected N sequences of labels, got {type(y).__name__}")
        arrays = []
        for n, labels in enumerate(y):
            array = np.asarray(labels)
            if array.ndim != 1:
                raise ValueError(f"{name}[{n}]: expected a sequence of labels, (L,), got {repr(labels)[:60]}")
            if array.dtype.kind == "U" and not all(isinstance(label, str) for label in labels):
                raise ValueError(f"{name}[{n}]: labels that are text do not mix with others")
            arrays.append(array)
        flat = np.array([label for array in arrays for label in array.tolist()])
        if flat.dtype.kind in "US" and not all(array.dtype.kind in "USO" for array in arrays if len(array)):
            raise ValueError(f"{name}: labels that are text do not mix with others")
        if flat.dtype.kind == "O" or (flat.dtype.kind == "f" and not np.isfinite(flat).all()):
            raise ValueError(f"{name}: labels are text or integers; None and NaN are none")
        if len(flat):
            check_classification_targets(flat)
        if reset:
            self.classes_ = np.unique(flat) if classes is None else distinct_classes(classes)
            if not len(self.classes_):
                raise ValueError(f"{name} has no labels at all.")
        elif classes is not None:
            check_same_classes(classes, self.classes_)
        places = {label: k for k, label in enumerate(self.classes_.tolist())}
        found = []
        for n, array in enumerate(arrays):
            codes = np.array([places.get(label, -1) for label in array.tolist()], dtype=np.int64)
            if (codes < 0).any():
                raise ValueError(
                    f"{name}[{n}]: the label {array[np.argmax(codes < 0)].item()!r} is unknown. Known labels: "
                    f"{', '.join(map(repr, self.classes_.tolist()[:10]))}."
                )
            found.append(codes)
        return object_array(found)


class NumberTargets:
    """For an EpochEstimator: one or several numbers a sample."""

    # Whether y was 1-D, and predictions are to be.
    _single: bool
    _n_targets: int

    def _read_targets(self, y: Any, reset: bool, name: str, classes: Any = None) -> Array:
        if not hasattr(y, "toarray"):  # sparse: scikit-learn's own error says what to do
            given = _as_array(y, name, "numbers (N,) or (N, K)")
            if given.ndim > 2:
                raise ValueError(f"{name} has {given.ndim} dimensions (shape={given.shape}). Expected (N,) or (N, K).")
        try:
            values = check_array(y, dtype=np.float64, ensure_2d=False, input_name=name)
        except (TypeError, ValueError) as error:
            if not str(error).startswith(("could not convert", "float()")):
                raise
            raise type(error)(f"{name} is not numeric: {error}. Expected numbers (N,) or (N, K).") from error
        single = values.ndim == 1
        values = values.reshape(len(values), -1)
        if reset:
            self._single = single
            self._n_targets = values.shape[1]
        elif values.shape[1] != self._n_targets:
            raise ValueError(f"{name} has {values.shape[1]} targets, but the model was fitted on {self._n_targets}.")
        return np.ascontiguousarray(values)

    def _target_scaling(self, y: Array, weights: Array | None) -> tuple[Array, Array]:
        return moments(y, weights)

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        """R², mean over the targets; NaN for fewer than two sequences, where it is undefined."""
        if len(y) < 2:
            return float("nan")
        from sklearn.metrics import r2_score

        return float(r2_score(y, outputs, sample_weight=sample_weight))
