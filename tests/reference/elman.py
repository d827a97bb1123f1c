"""Simple recurrent network (Elman, 1990): h = φ(a), a = W x + R h₋ + b, φ tanh or rectified linear."""

from __future__ import annotations

import numpy as np

GATES = ("a",)
STATES = ("h",)

State = dict[str, np.ndarray]


def forward(a: np.ndarray, previous: State, options: dict) -> tuple[State, tuple]:
    """a: (N, H) pre-activations. Returns the new state and what backward needs."""
    h = np.maximum(a, 0.0) if options.get("nonlinearity", "tanh") == "relu" else np.tanh(a)
    return {"h": h}, (h,)


def backward(d: State, saved: tuple, options: dict) -> tuple[np.ndarray, State]:
    """d: ∂loss/∂h. Returns ∂loss/∂a and the part of ∂loss/∂h₋ that does not go through a (none)."""
    (h,) = saved
    slope = (h > 0).astype(h.dtype) if options.get("nonlinearity", "tanh") == "relu" else 1.0 - h**2
    return d["h"] * slope, {"h": np.zeros_like(h)}
