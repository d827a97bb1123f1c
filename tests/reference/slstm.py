"""sLSTM: exponential gates, a normaliser and a stabiliser (Beck et al., 2024).

    log f = log σ(a_f)  (forget_activation "sigmoid")  or  a_f  ("exponential")      a = W x + R h₋ + b
    m  = max(a_i, m₋ + log f)                 a_i where n₋ = 0, for then nothing has been stored
    i' = exp(a_i − m)     f' = exp(m₋ + log f − m)
    c  = f' ⊙ c₋ + i' ⊙ tanh(a_z)
    n  = f' ⊙ n₋ + i'
    h  = σ(a_o) ⊙ c / n

R has heads: a unit sees the h₋ of its own head only, so R is stored as [4H, H/heads].
m counts as a function of its arguments in the gradient, too: ∂m goes to the larger one, on a tie to a_i.
"""

from __future__ import annotations

import numpy as np

from .activations import log_sigmoid, sigmoid
from .products import Arrays, Sizes, blocks_of


def gates(options: dict) -> tuple[str, ...]:
    return ("i", "f", "z", "o")


def states(options: dict, s: Sizes) -> dict[str, int]:
    return {"h": s.H, "c": s.H, "n": s.H, "m": s.H}


def tensors(options: dict, s: Sizes) -> dict[str, tuple[int, ...]]:
    return {"W": (4 * s.H, s.I), "R": (4 * s.H, s.H // options.get("heads", 1)), "b": (4 * s.H,)}


def in_own_head(H: int, heads: int) -> np.ndarray:
    """[4H, H]: whether the unit of a row and the unit of a column are of one head."""
    head = np.arange(H) // (H // heads)
    return np.tile(head, 4)[:, None] == head


def dense(R: np.ndarray, heads: int) -> np.ndarray:
    """R [4H, H/heads] as a matrix [4H, H] with zeros between heads."""
    own = in_own_head(len(R) // 4, heads)
    full = np.zeros_like(R, shape=own.shape)
    full[own] = R.ravel()  # row by row, each row having H/heads columns of its own
    return full


def forward(p: Arrays, x: np.ndarray, previous: Arrays, options: dict) -> tuple[Arrays, tuple]:
    """One step: x (N, I). Returns the new state and what backward needs."""
    R = dense(p["R"], options.get("heads", 1))
    a_i, a_f, a_z, a_o = blocks_of(x @ p["W"].T + previous["h"] @ R.T + p["b"], 4)
    exponential = options.get("forget_activation", "sigmoid") == "exponential"
    a = previous["m"] + (a_f if exponential else log_sigmoid(a_f))
    from_input = (previous["n"] == 0.0) | (a_i >= a)
    m = np.where(from_input, a_i, a)
    i, f = np.exp(a_i - m), np.exp(a - m)
    z, o = np.tanh(a_z), sigmoid(a_o)
    c = f * previous["c"] + i * z
    n = f * previous["n"] + i
    return {"h": o * c / n, "c": c, "n": n, "m": m}, (x, previous, a_f, from_input, i, f, z, o, c, n)


def backward(p: Arrays, d: Arrays, saved: tuple, options: dict) -> tuple[np.ndarray, Arrays, Arrays]:
    """d: ∂loss/∂state. Returns ∂loss/∂x, ∂loss/∂(previous state) and the gradients of the parameters."""
    x, previous, a_f, from_input, i, f, z, o, c, n = saved
    d_o = d["h"] * c / n
    d_c = d["c"] + d["h"] * o / n
    d_n = d["n"] - d["h"] * o * c / n**2
    d_i = d_c * z + d_n
    d_f = d_c * previous["c"] + d_n * previous["n"]
    d_z = d_c * i
    # i = exp(a_i − m), f = exp(a − m), and m is one of a_i and a.
    d_a_i, d_a = d_i * i, d_f * f
    d_m = d["m"] - d_i * i - d_f * f
    d_a_i = d_a_i + np.where(from_input, d_m, 0.0)
    d_a = d_a + np.where(from_input, 0.0, d_m)
    exponential = options.get("forget_activation", "sigmoid") == "exponential"
    d_a_f = d_a if exponential else d_a * sigmoid(-a_f)
    together = np.concatenate([d_a_i, d_a_f, d_z * (1.0 - z**2), d_o * o * (1.0 - o)], axis=1)

    heads, H = options.get("heads", 1), z.shape[1]
    d_R = (together.T @ previous["h"])[in_own_head(H, heads)].reshape(p["R"].shape)
    gradient = {"W": together.T @ x, "R": d_R, "b": together.sum(axis=0)}
    d_previous = {"h": together @ dense(p["R"], heads), "c": d_c * f, "n": d_n * f, "m": d_a}
    return together @ p["W"], d_previous, gradient
