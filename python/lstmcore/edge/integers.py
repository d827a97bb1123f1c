"""Rows of floats → rows of small integers with a scale each, such that no sum can overflow, whatever the input.

The runtime forms, in 32 bits, s = Σ w·a + bias, then (s << shift)·multiplier / 2^32, which is the result in Qn. Here
w and bias are chosen with a scale a row, and one shift a matrix, so that

    (Σ |w|·limit + |bias|) · 2^shift < 2^31    and    multiplier < 2^30

for every row. Results thus stay below 2^29, and rounding of the multiplier costs less than half a unit of Qn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .program import Matrix

__all__ = [
    "ACTIVATION_BITS",
    "OUTPUT_BITS",
    "WEIGHTS",
    "WideSum",
    "integer_matrix",
    "round_parts",
    "round_rows",
    "zero_blocks",
]

Array = NDArray[Any]

#: Fraction bits of pre-activations and of outputs.
ACTIVATION_BITS, OUTPUT_BITS = 12, 16
#: What `weights` may be.
WEIGHTS = ("int8", "int4", "sparse")

_LARGEST_SUM = 2**31 - 1
_LARGEST_MULTIPLIER = 2**30 - 1
# From this share of blocks of zeros on, leaving them out saves more than the lists of the others take.
_SPARSE_FROM = 0.3
# Share of the largest weight that stands for the largest integer of 4 bits: what rounds to it loses less than the rest
# of the row gains.
_SHRINK = np.linspace(0.5, 1.0, 26)
# Largest shift of the first columns.
_LARGEST_FIRST_SHIFT = 7


class WideSum(Exception):
    """Sums of these activations do not fit; with the largest activation `factor` times as large they would."""

    def __init__(self, factor: float) -> None:
        super().__init__(factor)
        self.factor = factor


def round_rows(rows: Array, storage: str) -> tuple[Array, Array]:
    """Integers (rows, columns) and the scale of each row, (rows,): weights ≈ integers·scale[:, None].

    "int4": −7 … 7, the scale by least squares; otherwise −127 … 127, the largest weight being 127. A row of zeros has
    scale 0.
    """
    largest = np.abs(rows).max(axis=1)
    levels = 7 if storage == "int4" else 127
    scale = largest / levels
    if storage == "int4":
        best = np.full(len(rows), np.inf)
        for share in _SHRINK:
            tried = share * largest / levels
            error = _divided(rows, tried, levels) * tried[:, None] - rows
            total = np.square(error / np.maximum(largest, 1e-300)[:, None]).sum(axis=1)
            better = total < best
            scale[better], best[better] = tried[better], total[better]
    return _divided(rows, scale, levels), scale


def round_parts(rows: Array, first: int, storage: str) -> tuple[Array, Array, int]:
    """As `round_rows`, with the `first` columns 2^shift times as coarse as the others, for the shift that loses least.

    Returns integers, the scale (rows, columns) of each, and the shift; 0 where first is 0.
    """
    best: tuple[Array, Array, int] | None = None
    least = np.inf
    for shift in range(_LARGEST_FIRST_SHIFT + 1 if first else 1):
        times = np.ones(rows.shape[1])
        times[:first] = 2.0**shift
        integers, scale = round_rows(rows / times, storage)
        scales = scale[:, None] * times
        error = float(np.square(integers * scales - rows).sum())
        if error < least:
            best, least = (integers, scales, shift), error
    assert best is not None  # weights are finite
    return best


def _divided(rows: Array, scale: Array, levels: int) -> Array:
    safe = np.where(scale > 0, scale, 1.0)
    return np.clip(np.rint(rows / safe[:, None]), -levels, levels)


def integer_matrix(
    rows: Array, bias: Array, limit: int, bits: int, storage: str, name: str, first: int = 0, first_shift: int = 0
) -> Matrix:
    """Weights and biases as floats → a matrix whose results are in Q(bits).

    Parameters
    ----------
    rows : (rows, columns)
        In units of the result for one unit of the activation.
    bias : (rows,)
    limit : int
        Activations lie in [−limit, limit].
    storage : "int8" or "int4"
        "int8" becomes "sparse" where at least 30% of the blocks are zero.
    name : str
        For messages.
    first, first_shift : int
        Columns of x, which count 2^first_shift times as much as the others, as does the bias.

    Raises
    ------
    WideSum
        Too many columns for activations so large.
    ValueError
        Results that can reach 2^29 in Q(bits), which the runtime cannot represent.
    """
    factor = 16 if storage == "int4" else 1  # sums of 4-bit weights come out times 16
    levels = 7 if storage == "int4" else 127
    times = np.ones(rows.shape[1])
    times[:first] = 2.0**first_shift
    rows = rows / times
    bias = bias / 2.0**first_shift
    integers, scale = round_rows(rows, storage)
    reach = np.abs(integers) @ times * limit * factor
    if float(reach.max()) > 0.75 * _LARGEST_SUM and limit > 127:
        raise WideSum(0.7 * _LARGEST_SUM / float(reach.max()))
    # A row of zeros has no scale of its own: one that leaves its bias 24 bits.
    scale = np.where(scale > 0, scale, np.abs(bias) * 2.0**-24)
    for shift in range(31):
        capacity = _LARGEST_SUM >> shift
        fitted = _fit(rows, bias, scale / factor, capacity, times * (limit * factor), factor, levels, first_shift)
        if fitted is None:
            break
        integers, offsets, unit = fitted
        multiplier = np.rint(unit * 2.0 ** (32 + bits - shift))
        if multiplier.max() <= _LARGEST_MULTIPLIER:
            kept = "sparse" if storage == "int8" and zero_blocks(integers) >= _SPARSE_FROM else storage
            return Matrix(
                weights=integers.astype(np.int8),
                bias=offsets.astype(np.int32),
                multiplier=multiplier.astype(np.int32),
                shift=shift,
                storage=kept,
                first_blocks=first // 4 if first_shift else 0,
                first_shift=first_shift,
            )
    largest = float((np.abs(rows) @ times * limit + np.abs(bias) * 2.0**first_shift).max())
    raise ValueError(
        f"quantize: {name}: its sums can reach {largest:.3g}, where the runtime ends at {2.0 ** (29 - bits):g}. "
        "Weights or inputs are too large for integers: train with clip_norm, max_norm or alpha, or use "
        "scheme='float32'."
    )


def _fit(
    rows: Array, bias: Array, unit: Array, capacity: int, limits: Array, factor: int, levels: int, first_shift: int
) -> tuple[Array, Array, Array] | None:
    """Integers, biases in units of the sum, and what that unit is. limits: (columns,), what each can add to the sum.

    The unit is made larger in rows that do not fit: those whose bias is many times their weights. None: none fits.
    """
    unit = unit.copy()
    for _ in range(100):
        safe = np.where(unit > 0, unit, 1.0)
        integers = _divided(rows, unit * factor, levels)
        offsets = np.rint(bias / safe)
        reach = np.abs(integers) @ limits + np.abs(offsets) * 2.0**first_shift
        wide = reach > capacity
        if not wide.any():
            return integers, offsets, unit
        unit[wide] *= np.maximum(reach[wide] / capacity, 1.001)
    return None


def zero_blocks(weights: Array) -> float:
    """Share of the 4×4 blocks of (rows, columns) that hold nothing but zeros."""
    groups, blocks = weights.shape[0] // 4, weights.shape[1] // 4
    tiles = weights.reshape(groups, 4, blocks, 4)
    return float(np.mean(~tiles.any(axis=(1, 3))))
