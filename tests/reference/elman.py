"""Simple recurrent network (Elman, 1990): h = φ(a), a = W x + R h₋ + b, φ tanh or rectified linear.

With layer_norm (Ba, Kiros & Hinton, 2016): a = ln_x ⊙ norm(W x) + ln_r ⊙ norm(R h₋) + b.
"""

from __future__ import annotations

import numpy as np

from .products import Arrays, Sizes, preactivation, preactivation_backward


def gates(options: dict) -> tuple[str, ...]:
    return ("a",)


def states(options: dict, s: Sizes) -> dict[str, int]:
    return {"h": s.H}


def tensors(options: dict, s: Sizes) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"W": (s.H, s.I), "R": (s.H, s.H), "b": (s.H,)}
    if options.get("layer_norm", False):
        shapes |= {"ln_x": (s.H,), "ln_r": (s.H,)}
    return shapes


def forward(p: Arrays, x: np.ndarray, previous: Arrays, options: dict) -> tuple[Arrays, tuple]:
    """One step: x (N, I). Returns the new state and what backward needs."""
    a, kept = preactivation(p, x, previous["h"])
    h = np.maximum(a, 0.0) if options.get("nonlinearity", "tanh") == "relu" else np.tanh(a)
    return {"h": h}, (h, kept)


def backward(p: Arrays, d: Arrays, saved: tuple, options: dict) -> tuple[np.ndarray, Arrays, Arrays]:
    """d: ∂loss/∂h. Returns ∂loss/∂x, ∂loss/∂h₋ and the gradients of the parameters."""
    h, kept = saved
    slope = h > 0 if options.get("nonlinearity", "tanh") == "relu" else 1.0 - h**2
    d_x, d_h, gradient = preactivation_backward(p, d["h"] * slope, kept)
    return d_x, {"h": d_h}, gradient
