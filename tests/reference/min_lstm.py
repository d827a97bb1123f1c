"""minLSTM (Feng et al., 2024): gates that see the input only.

    i = σ(a_i)   f = σ(a_f)      a = W x + b
    i' = i / (i + f)    f' = f / (i + f)
    h  = f' ⊙ h₋ + i' ⊙ a_g

Computed as i' = σ(log i − log f), which is the same and does not become 0/0 where both gates are shut.
"""

from __future__ import annotations

import numpy as np

from .activations import log_sigmoid, sigmoid
from .products import Arrays, Sizes, blocks_of


def gates(options: dict) -> tuple[str, ...]:
    return ("i", "f", "g")


def states(options: dict, s: Sizes) -> dict[str, int]:
    return {"h": s.H}


def tensors(options: dict, s: Sizes) -> dict[str, tuple[int, ...]]:
    return {"W": (3 * s.H, s.I), "b": (3 * s.H,)}


def forward(p: Arrays, x: np.ndarray, previous: Arrays, options: dict) -> tuple[Arrays, tuple]:
    """One step: x (N, I). Returns the new state and what backward needs."""
    a_i, a_f, g = blocks_of(x @ p["W"].T + p["b"], 3)
    ratio = log_sigmoid(a_i) - log_sigmoid(a_f)
    i, f = sigmoid(ratio), sigmoid(-ratio)
    return {"h": f * previous["h"] + i * g}, (x, previous["h"], a_i, a_f, g, i, f)


def backward(p: Arrays, d: Arrays, saved: tuple, options: dict) -> tuple[np.ndarray, Arrays, Arrays]:
    """d: ∂loss/∂h. Returns ∂loss/∂x, ∂loss/∂h₋ and the gradients of the parameters."""
    x, h_previous, a_i, a_f, g, i, f = saved
    d_ratio = d["h"] * (g - h_previous) * i * f
    together = np.concatenate([d_ratio * sigmoid(-a_i), -d_ratio * sigmoid(-a_f), d["h"] * i], axis=1)
    return together @ p["W"], {"h": d["h"] * f}, {"W": together.T @ x, "b": together.sum(axis=0)}
