"""Functions that several cells use."""

from __future__ import annotations

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function, without overflow and with full relative accuracy in both tails."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    """log σ(x), without overflow and without the underflow of σ; its derivative is σ(−x)."""
    return np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x)))
