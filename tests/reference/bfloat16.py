"""Products in bf16: what layers with precision="bfloat16" compute.

Every product of matrices rounds both operands to 8 significant bits, half to even, and adds up exactly: activations,
states and weights forward, gradients of pre-activations with weights and with what the weights were multiplied with
backward. Nothing else is rounded. Sums of float32 differ from that by their own rounding only, unless a number lies so
near to a tie that float32 takes it to the other side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import driver
from .products import Arrays


def rounded(v: np.ndarray) -> np.ndarray:
    """The nearest numbers of 8 significant bits."""
    mantissa, exponent = np.frexp(np.asarray(v, dtype=np.float64))
    return np.ldexp(np.rint(mantissa * 256.0), exponent - 8)


class Bf16(np.ndarray):
    """A matrix that rounds both sides of its products, and makes what comes of them do so too. Counts how near numbers
    come to a tie, in units of the last place."""

    nearest_tie = 0.5

    @staticmethod
    def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
        for v in (left, right):
            computed = v[v != v.astype(np.float32)]  # the others are float32 here as there
            exact = np.frexp(computed)[0] * 256.0
            distance = 0.5 - np.abs(exact - np.rint(exact))
            Bf16.nearest_tie = min(Bf16.nearest_tie, float(distance.min(initial=0.5)))
        return (rounded(left) @ rounded(right)).view(Bf16)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Also where NumPy would return a plain array: concatenate()."""
        result = super().__array_function__(function, types, args, kwargs)
        return result.view(Bf16) if type(result) is np.ndarray else result

    def __matmul__(self, right: Any) -> np.ndarray:
        return Bf16.product(self, right)

    def __rmatmul__(self, left: Any) -> np.ndarray:
        return Bf16.product(left, self)


def forward(
    stack: driver.Stack,
    parameters: Arrays,
    x: np.ndarray,
    lengths: np.ndarray | None = None,
    state: Arrays | None = None,
) -> tuple[np.ndarray, Arrays, driver.Tape]:
    """As driver.forward."""
    Bf16.nearest_tie = 0.5
    matrices = {name: np.asarray(value, dtype=np.float64).view(Bf16) for name, value in parameters.items()}
    return driver.forward(stack, matrices, x, lengths, state)


def backward(tape: driver.Tape, dy: np.ndarray, dstate: Arrays | None = None) -> tuple[np.ndarray, Arrays, Arrays]:
    """As driver.backward."""
    return driver.backward(tape, dy, dstate)


def nearest_tie() -> float:
    """Since the last forward()."""
    return Bf16.nearest_tie
