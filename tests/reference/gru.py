"""Gated recurrent unit (Cho et al., 2014).

    r = σ(W_r x + b_r + R_r h₋ + bR_r)
    z = σ(W_z x + b_z + R_z h₋ + bR_z)
    n = tanh(W_n x + b_n + r ⊙ (R_n h₋ + bR_n))       reset after the product, the default
    n = tanh(W_n x + b_n + R_n (r ⊙ h₋))              reset before it, as first published; there is no bR then
    h = (1 − z) ⊙ n + z ⊙ h₋

With layer_norm (Ba, Kiros & Hinton, 2016) W x becomes ln_x ⊙ norm(W x) and R h₋ becomes ln_r ⊙ norm(R h₋), where r and
z are normalised jointly and n by itself.
"""

from __future__ import annotations

import numpy as np

from .activations import sigmoid
from .products import Arrays, Sizes, blocks_of, weighted, weighted_backward


def gates(options: dict) -> tuple[str, ...]:
    return ("r", "z", "n")


def states(options: dict, s: Sizes) -> dict[str, int]:
    return {"h": s.H}


def tensors(options: dict, s: Sizes) -> dict[str, tuple[int, ...]]:
    rows = 3 * s.H
    shapes: dict[str, tuple[int, ...]] = {"W": (rows, s.I), "R": (rows, s.H), "b": (rows,)}
    if options.get("reset_after", True):
        shapes["bR"] = (rows,)
    if options.get("layer_norm", False):
        shapes |= {"ln_x": (rows,), "ln_r": (rows,)}
    return shapes


def forward(p: Arrays, x: np.ndarray, previous: Arrays, options: dict) -> tuple[Arrays, tuple]:
    """One step: x (N, I). Returns the new state and what backward needs."""
    h_previous = previous["h"]
    H = h_previous.shape[1]
    from_x, kept_x = weighted(p, "W", x, (2 * H, H))
    x_r, x_z, x_n = blocks_of(from_x + p["b"], 3)
    if options.get("reset_after", True):
        from_h, kept_h = weighted(p, "R", h_previous, (2 * H, H))
        h_r, h_z, h_n = blocks_of(from_h + p["bR"], 3)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
    else:
        R_r, R_z, R_n = np.split(p["R"], 3)
        r, z = sigmoid(x_r + h_previous @ R_r.T), sigmoid(x_z + h_previous @ R_z.T)
        n = np.tanh(x_n + (r * h_previous) @ R_n.T)
        h_n, kept_h = None, None
    return {"h": (1.0 - z) * n + z * h_previous}, (h_previous, r, z, n, h_n, kept_x, kept_h)


def backward(p: Arrays, d: Arrays, saved: tuple, options: dict) -> tuple[np.ndarray, Arrays, Arrays]:
    """d: ∂loss/∂h. Returns ∂loss/∂x, ∂loss/∂h₋ and the gradients of the parameters."""
    h_previous, r, z, n, h_n, kept_x, kept_h = saved
    d_a_n = d["h"] * (1.0 - z) * (1.0 - n**2)
    d_a_z = d["h"] * (h_previous - n) * z * (1.0 - z)
    d_h = d["h"] * z
    if options.get("reset_after", True):
        d_a_r = d_a_n * h_n * r * (1.0 - r)
        d_from_h = np.concatenate([d_a_r, d_a_z, d_a_n * r], axis=1)
        through_R, gradient = weighted_backward(p, "R", d_from_h, kept_h)
        gradient["bR"] = d_from_h.sum(axis=0)
        d_h = d_h + through_R
    else:
        R_r, R_z, R_n = np.split(p["R"], 3)
        d_reset = d_a_n @ R_n  # ∂loss/∂(r ⊙ h₋)
        d_a_r = d_reset * h_previous * r * (1.0 - r)
        d_h = d_h + d_reset * r + d_a_r @ R_r + d_a_z @ R_z
        gradient = {"R": np.concatenate([d_a_r.T @ h_previous, d_a_z.T @ h_previous, d_a_n.T @ (r * h_previous)])}
    d_from_x = np.concatenate([d_a_r, d_a_z, d_a_n], axis=1)
    d_x, of_W = weighted_backward(p, "W", d_from_x, kept_x)
    return d_x, {"h": d_h}, gradient | of_W | {"b": d_from_x.sum(axis=0)}
