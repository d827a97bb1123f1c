"""Thresholds from scores of what is normal. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["lower_quantile"]

Array = NDArray[Any]


def lower_quantile(scores: Array, weights: Array, level: float) -> float:
    """Below it lies `level` of all weight; between two scores, so that rounding moves none of them across."""
    order = np.argsort(scores[weights > 0], kind="stable")
    values, shares = scores[weights > 0][order], weights[weights > 0][order]
    above = np.flatnonzero(np.cumsum(shares) > level * shares.sum() * (1.0 + 1e-12))
    value = values[above[0] if len(above) else -1]
    below = values[values < value]
    return float(0.5 * (value + below[-1]) if len(below) else value - 1e-4 * abs(value))
