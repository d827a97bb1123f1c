"""mLSTM: a matrix memory written with keys and values and read with queries (Beck et al., 2024), step by step.

    log f = log σ(a_f)  (forget_activation "sigmoid")  or  a_f  ("exponential")      a = W x + b,  k = a_k / √d
    m  = max(log f + m₋, a_i)     i' = exp(a_i − m)     f' = exp(log f + m₋ − m)
    C  = f' C₋ + i' v kᵀ          n  = f' n₋ + i' k
    h  = σ(a_o) ⊙ C q / max(|nᵀ q|, exp(−m))

Heads of d = H/heads units have a memory, an i and an f each. Rows of W: q, k, v (H each), i, f (heads each), o (H).
m counts as a function of its arguments in the gradient: ∂m goes to the larger one.
"""

from __future__ import annotations

import numpy as np

from .activations import log_sigmoid, sigmoid
from .products import Arrays, Sizes


def gates(options: dict) -> tuple[str, ...]:
    return ("q", "k", "v", "i", "f", "o")


def states(options: dict, s: Sizes) -> dict[str, int]:
    heads = options.get("heads", 1)
    return {"h": s.H, "C": s.H * s.H // heads, "n": s.H, "m": heads}


def tensors(options: dict, s: Sizes) -> dict[str, tuple[int, ...]]:
    rows = 4 * s.H + 2 * options.get("heads", 1)
    return {"W": (rows, s.I), "b": (rows,)}


def memory(q, k, v, a_i, a_f, C_, n_, m_, exponential):
    """One step of the memory: q, k, v, n_ (N, heads, d), C_ (N, heads, d, d), a_i, a_f, m_ (N, heads); k is scaled."""
    log_f = a_f if exponential else log_sigmoid(a_f)
    from_input = a_i > log_f + m_
    m = np.where(from_input, a_i, log_f + m_)
    i, f = np.exp(a_i - m), np.exp(log_f + m_ - m)
    C = f[..., None, None] * C_ + i[..., None, None] * v[..., :, None] * k[..., None, :]
    n = f[..., None] * n_ + i[..., None] * k
    s = np.einsum("nhd,nhd->nh", n, q)
    low = np.exp(-m)
    active = np.abs(s) > low
    size = np.where(active, np.abs(s), low)
    h = np.einsum("nhvk,nhk->nhv", C, q) / size[..., None]
    return h, C, n, m, (q, k, v, a_f, C_, n_, C, n, m, i, f, s, low, active, size, h, from_input, exponential)


def memory_backward(dh, dC, dn, dm, saved):
    q, k, v, a_f, C_, n_, C, n, m, i, f, s, low, active, size, h, from_input, exponential = saved
    dr = dh / size[..., None]
    d_size = -np.einsum("nhd,nhd->nh", dh, h) / size
    ds = np.where(active, np.sign(s) * d_size, 0.0)
    dm = dm + np.where(active, 0.0, -low * d_size)
    dC = dC + dr[..., :, None] * q[..., None, :]
    dn = dn + ds[..., None] * q
    dq = np.einsum("nhvk,nhv->nhk", C, dr) + ds[..., None] * n
    di = np.einsum("nhvk,nhv,nhk->nh", dC, v, k) + np.einsum("nhk,nhk->nh", dn, k)
    df = np.einsum("nhvk,nhvk->nh", dC, C_) + np.einsum("nhk,nhk->nh", dn, n_)
    dv = i[..., None] * np.einsum("nhvk,nhk->nhv", dC, k)
    dk = i[..., None] * (np.einsum("nhvk,nhv->nhk", dC, v) + dn)
    dC_, dn_ = f[..., None, None] * dC, f[..., None] * dn
    dm = dm - di * i - df * f
    da_i = di * i + np.where(from_input, dm, 0.0)
    d_log_f = df * f + np.where(from_input, 0.0, dm)
    da_f = d_log_f if exponential else d_log_f * sigmoid(-a_f)
    return dq, dk, dv, da_i, da_f, dC_, dn_, d_log_f


def split(a: np.ndarray, H: int, heads: int) -> list[np.ndarray]:
    """Pre-activations (N, 4H + 2·heads) as q, k, v (N, heads, d), i, f (N, heads), o (N, H)."""
    q, k, v = (a[:, g * H : (g + 1) * H].reshape(len(a), heads, -1) for g in range(3))
    return [q, k, v, a[:, 3 * H : 3 * H + heads], a[:, 3 * H + heads : 3 * H + 2 * heads], a[:, 3 * H + 2 * heads :]]


def forward(p: Arrays, x: np.ndarray, previous: Arrays, options: dict) -> tuple[Arrays, tuple]:
    heads = options.get("heads", 1)
    N, H = previous["h"].shape
    d = H // heads
    exponential = options.get("forget_activation", "sigmoid") == "exponential"
    q, k, v, a_i, a_f, a_o = split(x @ p["W"].T + p["b"], H, heads)
    C_, n_ = previous["C"].reshape(N, heads, d, d), previous["n"].reshape(N, heads, d)
    r, C, n, m, saved = memory(q, k / np.sqrt(d), v, a_i, a_f, C_, n_, previous["m"], exponential)
    o = sigmoid(a_o)
    h = o * r.reshape(N, H)
    return {"h": h, "C": C.reshape(N, -1), "n": n.reshape(N, -1), "m": m}, (x, o, saved)


def backward(p: Arrays, d: Arrays, saved: tuple, options: dict) -> tuple[np.ndarray, Arrays, Arrays]:
    x, o, of_memory = saved
    N, H = o.shape
    heads = options.get("heads", 1)
    width = H // heads
    r = of_memory[15].reshape(N, H)
    d_r = (d["h"] * o).reshape(N, heads, width)
    dq, dk, dv, da_i, da_f, dC, dn, dm = memory_backward(
        d_r, d["C"].reshape(N, heads, width, width), d["n"].reshape(N, heads, width), d["m"], of_memory
    )
    parts = [dq, dk / np.sqrt(width), dv, da_i, da_f, d["h"] * r * o * (1.0 - o)]
    together = np.concatenate([part.reshape(N, -1) for part in parts], axis=1)
    gradient = {"W": together.T @ x, "b": together.sum(axis=0)}
    d_previous = {"h": np.zeros((N, H)), "C": dC.reshape(N, -1), "n": dn.reshape(N, -1), "m": dm}
    return together @ p["W"], d_previous, gradient
