"""8-bit weights, and activations rounded to 8 bits as they come: what the layers of a quantised model compute.

    weights       w ≈ s q     s = largest |w| of the row / 127, to 17 significant bits  q nearest to w / s
    activations   a ≈ s q     s = largest |a| of the row / 127                          q nearest to a · 127 / largest

half to even, q from −127 to 127. Sums of products are exact; here they are float64 sums of s q, which is the same but
for the last bits of float64.
"""

from __future__ import annotations

import numpy as np

from . import driver
from .products import Arrays


def round_weights(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 [rows, columns] and float32 [rows] of float32 weights."""
    largest = np.abs(w).max(axis=1).astype(np.float32)
    bits = (largest / np.float32(127)).view(np.uint32)
    scale = ((bits + np.uint32(64)) & ~np.uint32(127)).view(np.float32)
    scale[largest < 2.0**-100] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(scale[:, None] > 0, np.rint(w / scale[:, None]), 0)
    return q.astype(np.int8), scale


class Rounding(np.ndarray):
    """A matrix whose products round the rows of what stands on their left. Counts how near they come to a tie: there
    float32 may go the other way."""

    nearest_tie = 0.5

    def __rmatmul__(self, left: np.ndarray) -> np.ndarray:
        largest = np.abs(left).max(axis=1, keepdims=True)
        exact = left * np.divide(127.0, largest, out=np.zeros_like(largest), where=largest > 0)
        q = np.rint(exact)
        Rounding.nearest_tie = min(Rounding.nearest_tie, float((0.5 - np.abs(exact - q)).min()))
        return (q * largest / 127.0) @ np.asarray(self)


def forward(
    stack: driver.Stack, parameters: Arrays, x: np.ndarray, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Outputs (N, T, D·P) of rounded weights, and the smallest distance that any number had to a tie."""
    Rounding.nearest_tie = 0.5
    rounding = {
        name: value.astype(np.float64).view(Rounding) if name[:3] in ("W_l", "R_l") else value
        for name, value in parameters.items()
    }
    y, _, _ = driver.forward(stack, rounding, x, lengths)
    return y, Rounding.nearest_tie
