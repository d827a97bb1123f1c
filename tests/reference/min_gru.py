"""minGRU (Feng et al., 2024): gates that see the input only.

z = σ(a_z)      a = W x + b
h = (1 − z) ⊙ h₋ + z ⊙ a_n        z weighs the new value, unlike that of the GRU
"""

from __future__ import annotations

import numpy as np

from .activations import sigmoid
from .products import Arrays, Sizes, blocks_of


def gates(options: dict) -> tuple[str, ...]:
    return ("z", "n")


def states(options: dict, s: Sizes) -> dict[str, int]:
    return {"h": s.H}


def tensors(options: dict, s: Sizes) -> dict[str, tuple[int, ...]]:
    return {"W": (2 * s.H, s.I), "b": (2 * s.H,)}


def forward(p: Arrays, x: np.ndarray, previous: Arrays, options: dict) -> tuple[Arrays, tuple]:
    """One step: x (N, I). Returns the new state and what backward needs."""
    a_z, n = blocks_of(x @ p["W"].T + p["b"], 2)
    z = sigmoid(a_z)
    return {"h": (1.0 - z) * previous["h"] + z * n}, (x, previous["h"], z, n)


def backward(p: Arrays, d: Arrays, saved: tuple, options: dict) -> tuple[np.ndarray, Arrays, Arrays]:
    """d: ∂loss/∂h. Returns ∂loss/∂x, ∂loss/∂h₋ and the gradients of the parameters."""
    x, h_previous, z, n = saved
    together = np.concatenate([d["h"] * (n - h_previous) * z * (1.0 - z), d["h"] * z], axis=1)
    return together @ p["W"], {"h": d["h"] * (1.0 - z)}, {"W": together.T @ x, "b": together.sum(axis=0)}
