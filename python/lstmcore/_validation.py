"""Sequences as users hold them → arrays that are checked and have one length each. NumPy only.

Shape letters: T time steps, N sequences, I input features.

What counts as sequences:

- (N, T, I) array: N sequences. A tail of steps that are NaN in every feature is padding, so the sequence is shorter.
- list, tuple or 1-D object array of (T_i, I) or (T_i,) arrays: a sequence each, (T_i,) being one feature. NaN tails as
  above.
- a *table*: 2-D array, list of equally long rows of numbers, or data frame: N sequences of T steps of one feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core

__all__ = [
    "SequenceArrays",
    "check_count",
    "check_numbers",
    "check_resolution",
    "holds_text",
    "is_table",
    "moments",
    "read_sequences",
    "read_weights",
]

Array = NDArray[Any]

_CONVERTERS = (
    "A frame is read as a table whose rows are whole sequences of one feature. For frames in long format use "
    "lstmcore.converters.from_pandas, for sktime panels lstmcore.converters.from_sktime."
)
_PADDING = (
    "Fill the gap or drop the step. NaN is read as padding only where every feature is NaN from a step on to the end "
    "of the sequence."
)
_EXPECTED = "expected sequences of numbers, (N, T, I) or a list of arrays"
# Sequences that are standardised at a time: bounds the float64 copy that the sums need.
_CHUNK = 256


class SequenceArrays(NamedTuple):
    """N checked sequences: every value of a real step is finite.

    data: (N, T, I) array, or list of (T_i, I) arrays, float32 or float64; lengths: (N,), each ≥ 1; features: I.
    """

    data: Array | list[Array]
    lengths: NDArray[np.int64]
    features: int
    name: str

    def to_core(self, dtype: str) -> _core.Sequences:
        """The same in the model's dtype; ValueError where a value is too large for it."""
        listed = isinstance(self.data, list)
        arrays = self.data if isinstance(self.data, list) else [self.data]
        if dtype == "float32" and any(array.dtype != np.float32 for array in arrays):
            with np.errstate(over="ignore"):
                arrays = [array.astype(np.float32) for array in arrays]
            converted = SequenceArrays(arrays if listed else arrays[0], self.lengths, self.features, self.name)
            where = converted._first_nonfinite()
            if where is not None:
                raise ValueError(
                    f"Input {self._at(where)} is too large for dtype('float32'). Rescale it or use precision='float64'."
                )
        return _core.Sequences(arrays if listed else arrays[0], self.lengths, dtype=dtype)

    def moments(self, weights: NDArray[np.float64] | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of each feature over all real steps, (I,) each, in two passes of float64.

        weights: (N,), each sequence's weight for all its steps. A constant feature has deviation 0 exactly.
        """
        if weights is None:
            weights = np.ones(len(self.lengths))
        total = float(weights @ self.lengths)
        mean = np.zeros(self.features)
        for rows, row_weights in self._rows(weights):
            mean += row_weights @ rows
        mean /= total
        variance = np.zeros(self.features)
        for rows, row_weights in self._rows(weights):
            variance += row_weights @ np.square(rows - mean)
        return mean, _deviation(mean, variance / total)

    def _rows(self, weights: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """All real steps, some sequences at a time: (steps, I) and the weight of each step."""
        for start in range(0, len(self.lengths), _CHUNK):
            part = slice(start, start + _CHUNK)
            lengths = self.lengths[part]
            if isinstance(self.data, list):
                rows = np.concatenate([x[:n] for x, n in zip(self.data[part], lengths, strict=True)])
            else:
                rows = self.data[part][np.arange(self.data.shape[1]) < lengths[:, None]]
            yield rows.astype(np.float64), np.repeat(weights[part], lengths)

    def _first_nonfinite(self) -> tuple[int, int, int] | None:
        """(sequence, step, feature) of the first NaN or infinity in a real step."""
        if not isinstance(self.data, list):
            if _sums_are_finite([self.data]).all():
                return None
            bad = ~np.isfinite(self.data)
            bad &= (np.arange(self.data.shape[1]) < self.lengths[:, None])[:, :, None]
            if not bad.any():
                return None
            flat = int(np.argmax(bad))
            n, within = divmod(flat, bad.shape[1] * bad.shape[2])
            return n, *divmod(within, self.features)
        real = [x[:length] for x, length in zip(self.data, self.lengths, strict=True)]
        for n in np.flatnonzero(~_sums_are_finite(real)).tolist():
            bad = ~np.isfinite(real[n])
            if bad.any():
                return n, *divmod(int(np.argmax(bad)), self.features)
        return None

    def _at(self, where: tuple[int, int, int]) -> str:
        return f"{self.name}: sequence {where[0]}, step {where[1]}, feature {where[2]}"

    def checked(self) -> SequenceArrays:
        """self; ValueError naming the sequence and step where a value is not finite."""
        where = self._first_nonfinite()
        if where is not None:
            n, t, i = where
            kind = "NaN" if np.isnan(self.data[n][t, i]) else "infinity"
            advice = _PADDING if kind == "NaN" else "Clip it or drop the step."
            raise ValueError(f"Input {self._at(where)} contains {kind}. {advice}")
        return self


def check_numbers(X: Any, name: str) -> None:
    """Refuses what is no sequences of numbers at a glance, in words that say so."""
    if X is None or isinstance(X, (str, bytes, type)):
        raise TypeError(f"{name}: {_EXPECTED}, got {X!r:.40}")
    if hasattr(X, "toarray"):
        raise TypeError(
            f"Sparse data was passed for {name}, but dense data is required. Use '.toarray()' to convert to a dense "
            "array."
        )
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise TypeError(
            f"{name} is a masked array, whose mask would get lost. Pass {name}.filled(numpy.nan): NaN steps at "
            "the end of a sequence are padding."
        )
    if isinstance(X, (list, tuple)) and not X:
        raise ValueError(f"{name} is empty: expected at least one sequence, an array (T, I) or (T,) each.")
    if holds_text(X):
        raise ValueError(f"{name} holds text. Expected numbers: the features of every step, (N, T, I).")
    if isinstance(X, (list, tuple)):
        if X[0] is None:
            raise ValueError(f"{name}[0] is None. Expected an array (T, I) or (T,).")
        dimensions = 1 if isinstance(X[0], (int, float, np.number, np.bool_)) else 2
    else:
        array = X if hasattr(X, "ndim") and hasattr(X, "dtype") else np.asarray(X)
        if array.ndim == 0 and array.dtype == object:
            advice = f" Make a list of it: list({name})." if hasattr(X, "__next__") else ""
            raise TypeError(f"{name}: {_EXPECTED}, got {type(X).__name__}.{advice}")
        dimensions = 2 if array.ndim == 1 and _holds_sequences(np.asarray(array)) else array.ndim
    if dimensions == 0:
        raise ValueError(f"{name}: {_EXPECTED}, got the number {X!r:.40}. Reshape your data: one step is [[{name}]].")
    if dimensions == 1:
        raise ValueError(
            f"{name} has 1 dimension: one series of {len(X)} steps? Reshape your data: as a list of one, [{name}]."
        )


def holds_text(X: Any) -> bool:
    """Whether any of the first tokens is text."""
    if isinstance(X, np.ndarray) and X.dtype.kind in "UST":
        return True
    if not isinstance(X, (list, tuple)) and not (isinstance(X, np.ndarray) and X.dtype == object):
        return False
    for item in X if getattr(X, "ndim", 1) else ():
        if isinstance(item, (str, bytes)):
            return True
        if isinstance(item, np.ndarray) and item.dtype.kind in "UST":
            return True
        if isinstance(item, (list, tuple)) or (isinstance(item, np.ndarray) and item.dtype == object):
            first = next((token for token in item if token is not None), None)
            if first is not None:
                return isinstance(first, (str, bytes))
        elif item is not None:
            return False
    return False


def is_table(X: Any, name: str = "X") -> bool:
    """Whether X is, or was meant as, N rows of T numbers: what scikit-learn's own array checks are made for.

    ValueError for frames that are not tables, naming the converter to use.
    """
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        _check_frame(X, name)
        return True
    if hasattr(X, "toarray"):  # sparse
        return True
    if isinstance(X, (list, tuple)):
        return _is_list_of_rows(X)
    if isinstance(X, np.ndarray) or hasattr(X, "__array__"):
        array = np.asarray(X)
        return array.ndim < 3 and not _holds_sequences(array)
    return True


def _is_list_of_rows(items: Sequence[Any]) -> bool:
    """Rows are plain lists of scalars of one length; everything else with a length is a sequence of its own."""
    if not all(isinstance(item, (list, tuple)) for item in items):
        return all(_is_scalar(item) for item in items[:1])
    if len({len(item) for item in items}) > 1:
        return False
    return all(_is_scalar(value) for item in items[:1] for value in item[:1])


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, (list, tuple)) and getattr(value, "ndim", 0) == 0


def _holds_sequences(array: Array) -> bool:
    return array.dtype == object and array.ndim == 1 and array.size > 0 and not _is_scalar(array[0])


def _check_frame(X: Any, name: str) -> None:
    if getattr(X.index, "nlevels", 1) > 1:
        raise ValueError(f"{name} is a frame with a {X.index.nlevels}-level index. {_CONVERTERS}")
    nested = [column for position, column in enumerate(X.columns) if len(X) and not _is_scalar(X.iloc[0, position])]
    if nested:
        raise ValueError(f"{name} is a frame with whole series in its cells (column {nested[0]!r}). {_CONVERTERS}")


def read_sequences(X: Any, name: str = "X") -> SequenceArrays:
    """X in any of the forms above, checked. Errors name the argument (`name`), the sequence and the step.

    Floats stay float32 or float64, float16 becomes float32, integers and bool become float64; complex numbers, text,
    dates and objects are refused.
    """
    check_numbers(X, name)
    if isinstance(X, (list, tuple)) and not _is_list_of_rows(X):
        return _read_list(X, name)
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        _check_frame(X, name)
    array = np.asarray(X)
    if _holds_sequences(array):
        return _read_list(list(array), name)
    array = _numbers(array, name)
    if array.shape[:1] == (0,):
        raise ValueError(f"Found array {name} with 0 sample(s) (shape={array.shape}) while a minimum of 1 is required.")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise ValueError(
            f"{name} has {array.ndim} dimensions (shape={array.shape}). Expected (N, T, I), or (N, T) for one feature, "
            "or a list of (T_i, I) arrays. Reshape your data: one sequence is x[None]."
        )
    for axis, noun in ((1, "step(s)"), (2, "feature(s)")):
        if array.shape[axis] == 0:
            raise ValueError(
                f"Found array {name} with 0 {noun} (shape={array.shape}) while a minimum of 1 is required."
            )
    lengths = np.full(array.shape[0], array.shape[1], dtype=np.int64)
    if not _sums_are_finite([array]).all():
        real = ~np.isnan(array).all(axis=2)
        lengths = np.where(real.any(axis=1), array.shape[1] - np.argmax(real[:, ::-1], axis=1), 0).astype(np.int64)
        _check_lengths(lengths, name)
    return SequenceArrays(array, lengths, array.shape[2], name).checked()


def moments(values: Array, weights: Array | None) -> tuple[Array, Array]:
    """Weighted mean and standard deviation over the first axis; a constant has deviation 0 exactly."""
    mean = np.average(values, axis=0, weights=weights)
    return mean, _deviation(mean, np.average(np.square(values - mean), axis=0, weights=weights))


def _deviation(mean: Array, variance: Array) -> Array:
    deviation = np.sqrt(variance)
    # The mean of a constant is off by rounding, so its deviation can be of that size instead of zero.
    deviation[deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 0.0
    return deviation


def check_count(count: int, name: str, expected: int, reference: str) -> None:
    if count != expected:
        raise ValueError(
            f"{name} has {count} entries, but {reference} has {expected} sequences: inconsistent numbers of samples."
        )


def read_weights(sample_weight: Any, count: int, name: str) -> NDArray[np.float64] | None:
    """(N,) finite weights ≥ 0, not all zero; a copy, so that the caller's are never written to."""
    if sample_weight is None:
        return None
    try:
        if np.asarray(sample_weight).dtype.kind not in "iufbO":
            raise ValueError(f"dtype {np.asarray(sample_weight).dtype}")
        weights = np.array(sample_weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not numeric: {error}. Expected ({count},) weights >= 0, or None.") from error
    if weights.ndim == 0:
        weights = np.full(count, weights)
    if weights.shape != (count,):
        raise ValueError(f"{name} has shape {weights.shape}. Expected ({count},), one weight for each sequence.")
    if not np.isfinite(weights).all() or (weights < 0).any():
        at = int(np.argmax(~(np.isfinite(weights) & (weights >= 0))))
        raise ValueError(f"{name}[{at}] is {weights[at]:g}. Expected finite weights >= 0.")
    if not weights.any():
        raise ValueError(f"{name}: the weights are all zero. Sample weights must contain at least one non-zero number.")
    return weights


def check_resolution(mean: Array, deviation: Array, precision: str) -> None:
    """X reaches the network in its dtype, so a small variation on a large offset can be lost on the way."""
    lost = (deviation > 0) & (np.abs(mean) * np.finfo(precision).eps > 0.01 * deviation)
    if lost.any():
        i = int(np.argmax(lost))
        raise ValueError(
            f"Feature {i} of X varies by {deviation[i]:.3g} around {mean[i]:.6g}, which {precision} cannot resolve. "
            "Subtract the offset from X, or use precision='float64'."
        )


def _read_list(items: Sequence[Any], name: str) -> SequenceArrays:
    arrays: list[Array] = []
    for n, item in enumerate(items):
        array = _numbers(np.asarray(item), f"{name}[{n}]")
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2:
            raise ValueError(
                f"{name}[{n}] has {array.ndim} dimensions (shape={array.shape}). Expected (T_i, I), or (T_i,) for one "
                "feature."
            )
        if arrays and array.shape[1] != arrays[0].shape[1]:
            raise ValueError(
                f"{name}[{n}] has {array.shape[1]} feature(s), but {name}[0] has {arrays[0].shape[1]}. "
                "Expected the same number in all sequences."
            )
        arrays.append(array)
    features = arrays[0].shape[1]
    if features == 0:
        raise ValueError(
            f"Found {name}[0] with 0 feature(s) (shape={arrays[0].shape}) while a minimum of 1 is required."
        )
    finite = _sums_are_finite(arrays)
    lengths = np.array([len(x) if ok else _length(x) for x, ok in zip(arrays, finite, strict=True)], dtype=np.int64)
    _check_lengths(lengths, name)
    sequences = SequenceArrays(arrays, lengths, features, name)
    return sequences if finite.all() else sequences.checked()


def _length(x: Array) -> int:
    """Steps before the NaN tail."""
    real = np.flatnonzero(~np.isnan(x).all(axis=1))
    return int(real[-1]) + 1 if real.size else 0


def _check_lengths(lengths: NDArray[np.int64], name: str) -> None:
    empty = np.flatnonzero(lengths == 0)
    if empty.size:
        raise ValueError(
            f"{name}: sequence {empty[0]} has no real step (it is empty or all NaN). Every sequence needs at least one."
        )


def _numbers(array: Array, name: str) -> Array:
    """float32 or float64."""
    kind = array.dtype.kind
    if kind == "c":
        raise ValueError(
            f"Complex data not supported: {name} has dtype {array.dtype}. Pass real and imaginary parts as features."
        )
    if kind == "f":
        return array if array.dtype in (np.float32, np.float64) else array.astype("f4" if array.itemsize == 2 else "f8")
    if kind in "iub":
        return array.astype(np.float64)
    if kind == "O":
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} has dtype object and is not numeric: {error}") from error
    raise ValueError(f"{name} has dtype {array.dtype}. Expected numbers: float, integer or bool.")


def _sums_are_finite(arrays: Sequence[Array]) -> NDArray[np.bool_]:
    """For each array a quick yes; a no may also come from overflow of the sum and needs a closer look."""
    with np.errstate(all="ignore"):
        return np.isfinite(np.array([np.add.reduce(x, axis=None) for x in arrays], dtype=np.float64))
