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

__all__ = ["LabelSequences", "LabelTargets", "NumberTargets"]

Array = NDArray[Any]


class LabelTargets:
    """For an EpochEstimator with a parameter class_weight: one label a sample."""

    class_weight: dict[Any, float] | str | None
    classes_: Array

    def _read_targets(self, y: Any, reset: bool, name: str, classes: Any = None) -> Array:
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
                known = np.unique(column_or_1d(classes))
                if len(known) < 2:
                    raise ValueError(
                        f"classes has {len(known)} distinct label(s): {type(self).__name__} needs at least 2 classes."
                    )
            self.classes_ = known
        elif classes is not None and not np.array_equal(np.unique(column_or_1d(classes)), self.classes_):
            raise ValueError(
                f"classes={np.unique(classes).tolist()!r} are not those of the first call, {self.classes_.tolist()!r}."
            )
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
        if classes is None and not hasattr(self, "model_"):
            raise ValueError("classes must be passed on the first call to partial_fit.")

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
        given = None if classes is None else np.unique(np.asarray(classes))
        if reset:
            self.classes_ = np.unique(flat) if given is None else given
            if not len(self.classes_):
                raise ValueError(f"{name} has no labels at all.")
        elif given is not None and not np.array_equal(given, self.classes_):
            raise ValueError(f"classes={given.tolist()!r} are not those of the first call, {self.classes_.tolist()!r}.")
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
        values = check_array(y, dtype=np.float64, ensure_2d=False, input_name=name)
        if values.ndim not in (1, 2):
            raise ValueError(f"{name} has {values.ndim} dimensions (shape={values.shape}). Expected (N,) or (N, K).")
        single = values.ndim == 1
        values = values.reshape(len(values), -1)
        if reset:
            self._single = single
            self._n_targets = values.shape[1]
        elif values.shape[1] != self._n_targets:
            raise ValueError(f"{name} has {values.shape[1]} targets, but the model was fitted on {self._n_targets}.")
        return np.ascontiguousarray(values)

    def _target_scaling(self, y: Array, weights: Array | None) -> tuple[Array, Array]:
        mean = np.average(y, axis=0, weights=weights)
        deviation = np.sqrt(np.average(np.square(y - mean), axis=0, weights=weights))
        # The mean of a constant is off by rounding, so its deviation can be of that size instead of zero.
        deviation[deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 0.0
        return mean, deviation

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        """R², mean over the targets; NaN for fewer than two sequences, where it is undefined."""
        if len(y) < 2:
            return float("nan")
        from sklearn.metrics import r2_score

        return float(r2_score(y, outputs, sample_weight=sample_weight))
