"""Independently recurrent network (Li et al., 2018): h = φ(W x + u ⊙ h₋ + b), φ rectified linear or tanh."""

from __future__ import annotations

import numpy as np

from .products import Arrays, Sizes


def gates(options: dict) -> tuple[str, ...]:
    return ("a",)


def states(options: dict, s: Sizes) -> dict[str, int]:
    return {"h": s.H}


def tensors(options: dict, s: Sizes) -> dict[str, tuple[int, ...]]:
    return {"W": (s.H, s.I), "b": (s.H,), "u": (s.H,)}


def forward(p: Arrays, x: np.ndarray, previous: Arrays, options: dict) -> tuple[Arrays, tuple]:
    """One step: x (N, I). Returns the new state and what backward needs."""
    a = x @ p["W"].T + p["u"] * previous["h"] + p["b"]
    h = np.tanh(a) if options.get("nonlinearity", "relu") == "tanh" else np.maximum(a, 0.0)
    return {"h": h}, (x, previous["h"], h)


def backward(p: Arrays, d: Arrays, saved: tuple, options: dict) -> tuple[np.ndarray, Arrays, Arrays]:
    """d: ∂loss/∂h. Returns ∂loss/∂x, ∂loss/∂h₋ and the gradients of the parameters."""
    x, h_previous, h = saved
    slope = 1.0 - h**2 if options.get("nonlinearity", "relu") == "tanh" else h > 0
    d_a = d["h"] * slope
    gradient = {"W": d_a.T @ x, "b": d_a.sum(axis=0), "u": (d_a * h_previous).sum(axis=0)}
    return d_a @ p["W"], {"h": d_a * p["u"]}, gradient
