"""Blocks of xLSTM (Beck et al., 2024), forward only: whole sequences, one after the other, in plain steps.

Block "m":  x, z = halves of W_up LN(u)     y = swish(conv(x))     q, k = W_q y, W_k y, v = W_v x, head by head
            a_i, a_f = W_if [q; k; v] + b_if      out = u + W_down ((LN_heads(memory) + skip ⊙ y) ⊙ swish(z))
Block "s":  x = LN(u), y = swish(conv(x)); the sLSTM's i and f read y, its z and o read x
            u' = u + LN_heads(h);   out = u' + W_mlp_down (gelu(a) ⊙ b),  a, b = halves of W_mlp_up LN(u')
The input of the first block, and of every block where there are two directions, is projected to u: W_in, b_in.
The last block's outputs are normalised. LN has a gain and no shift. The convolution sees a step and the three before.
"""

from __future__ import annotations

import numpy as np

from . import mlstm, slstm
from .activations import sigmoid
from .products import Arrays

BEFORE = 3


def kinds(options: dict, num_layers: int) -> str:
    return options.get("blocks", "ms") * num_layers


def sizes(kind: str, H: int) -> int:
    return 2 * H if kind == "m" else H


def states(options: dict, H: int) -> dict[str, int]:
    """Name and width of every state: of the widest block that has it."""
    blocks, heads = options.get("blocks", "ms"), options.get("heads", 1)
    widths = {"h": H}
    if "m" in blocks:
        widths["C"] = 4 * H * H // heads
    if "s" in blocks:
        widths["c"] = H
    widths["n"] = 2 * H if "m" in blocks else H
    widths["m"] = max(heads if "m" in blocks else 1, H if "s" in blocks else 1)
    widths["conv"] = BEFORE * widths["n"]
    return widths


def shapes(options: dict, I: int, H: int, num_layers: int, directions: int) -> dict[str, tuple[int, ...]]:
    heads, blocks = options.get("heads", 1), kinds(options, num_layers)
    mlp = -(-4 * H // 3)
    result: dict[str, tuple[int, ...]] = {}
    for layer, kind in enumerate(blocks):
        inner = sizes(kind, H)
        for direction in range(directions):
            one: dict[str, tuple[int, ...]] = {}
            if layer == 0 or directions > 1:
                one |= {"W_in": (H, I if layer == 0 else directions * H), "b_in": (H,)}
            one["norm"] = (H,)
            if kind == "m":
                one["W_up"] = (2 * inner, H)
            one |= {"conv": (inner, BEFORE + 1), "conv_b": (inner,)}
            if kind == "m":
                one |= {f"W_{name}": (inner, inner // heads) for name in "qkv"}
                one |= {"W_if": (2 * heads, 3 * inner), "b_if": (2 * heads,), "norm_h": (inner,), "skip": (inner,)}
                one["W_down"] = (H, inner)
            else:
                one |= {"W": (4 * H, H), "R": (4 * H, H // heads), "b": (4 * H,), "norm_h": (H,), "norm_mlp": (H,)}
                one |= {"W_mlp_up": (2 * mlp, H), "W_mlp_down": (H, mlp)}
            if layer == len(blocks) - 1:
                one["norm_out"] = (H,)
            result |= {f"{name}_l{layer}" + "_reverse" * direction: shape for name, shape in one.items()}
    return result


def norm(x: np.ndarray, gain: np.ndarray, heads: int = 1) -> np.ndarray:
    parts = x.reshape(*x.shape[:-1], heads, -1)
    parts = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + 1e-5)
    return parts.reshape(x.shape) * gain


def swish(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def conv(x: np.ndarray, p: Arrays, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of one sequence x (T, F); before (3, F). Also the last three values."""
    seen = np.concatenate([before, x])
    a = p["conv_b"] + sum(p["conv"][:, tap] * seen[tap : tap + len(x)] for tap in range(BEFORE + 1))
    return swish(a), seen[len(seen) - BEFORE :]


def headwise(W: np.ndarray, x: np.ndarray, heads: int) -> np.ndarray:
    d = W.shape[1]
    parts = [x[..., h * d : (h + 1) * d] @ W[h * d : (h + 1) * d].T for h in range(heads)]
    return np.concatenate(parts, axis=-1)


def block_m(p: Arrays, u: np.ndarray, state: Arrays, options: dict) -> tuple[np.ndarray, Arrays]:
    heads = options.get("heads", 1)
    exponential = options.get("forget_activation", "sigmoid") == "exponential"
    T, H = u.shape
    inner = 2 * H
    d = inner // heads
    up = norm(u, p["norm"]) @ p["W_up"].T
    x, z = up[:, :inner], up[:, inner:]
    y, kept = conv(x, p, state["conv"].reshape(BEFORE, -1))
    q, k, v = headwise(p["W_q"], y, heads), headwise(p["W_k"], y, heads), headwise(p["W_v"], x, heads)
    gates = np.concatenate([q, k, v], axis=1) @ p["W_if"].T + p["b_if"]
    C, n, m = state["C"].reshape(1, heads, d, d), state["n"].reshape(1, heads, d), state["m"].reshape(1, heads)
    h = np.zeros((T, inner))
    for t in range(T):
        q_t, k_t, v_t = (a[t].reshape(1, heads, d) for a in (q, k, v))
        i_t, f_t = gates[t, :heads][None], gates[t, heads:][None]
        r, C, n, m, _ = mlstm.memory(q_t, k_t / np.sqrt(d), v_t, i_t, f_t, C, n, m, exponential)
        h[t] = r.ravel()
    mixed = (norm(h, p["norm_h"], heads) + p["skip"] * y) * swish(z)
    return u + mixed @ p["W_down"].T, {"C": C.ravel(), "n": n.ravel(), "m": m.ravel(), "conv": kept.ravel()}


def block_s(p: Arrays, u: np.ndarray, state: Arrays, options: dict) -> tuple[np.ndarray, Arrays]:
    heads = options.get("heads", 1)
    T, H = u.shape
    x = norm(u, p["norm"])
    y, kept = conv(x, p, state["conv"].reshape(BEFORE, -1))
    now = {name: state[name][None] for name in ("h", "c", "n", "m")}
    # The cell of reference/slstm.py on [y; x], the parts of W that a gate does not read being zero.
    zero = np.zeros((2 * H, H))
    W = np.block([[p["W"][: 2 * H], zero], [zero, p["W"][2 * H :]]])
    h = np.zeros((T, H))
    for t in range(T):
        now, _ = slstm.forward(
            {"W": W, "R": p["R"], "b": p["b"]}, np.concatenate([y[t], x[t]])[None], now, {**options, "heads": heads}
        )
        h[t] = now["h"][0]
    u = u + norm(h, p["norm_h"], heads)
    up = norm(u, p["norm_mlp"]) @ p["W_mlp_up"].T
    a, b = np.split(up, 2, axis=1)
    final = {name: value[0] for name, value in now.items()} | {"conv": kept.ravel()}
    return u + (gelu(a) * b) @ p["W_mlp_down"].T, final


def forward(
    options: dict,
    parameters: Arrays,
    x: np.ndarray,
    H: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    lengths: np.ndarray | None = None,
    state: Arrays | None = None,
) -> tuple[np.ndarray, Arrays]:
    """Outputs (N, T, D·H) and final states (blocks·D, N, width)."""
    N, T, _ = x.shape
    blocks, D = kinds(options, num_layers), 2 if bidirectional else 1
    lengths = np.full(N, T) if lengths is None else lengths
    y = np.zeros((N, T, D * H))
    final = {name: np.zeros((len(blocks) * D, N, width)) for name, width in states(options, H).items()}
    for n in range(N):
        below = x[n, : lengths[n]]
        for layer, kind in enumerate(blocks):
            inner = sizes(kind, H)
            used = {"h": H, "c": H, "C": inner * inner // options.get("heads", 1), "n": inner, "conv": BEFORE * inner}
            used["m"] = options.get("heads", 1) if kind == "m" else H
            above = np.zeros((lengths[n], D * H))
            for direction in range(D):
                suffix = f"_l{layer}" + "_reverse" * direction
                p = {name.removesuffix(suffix): value for name, value in parameters.items() if name.endswith(suffix)}
                u = below[::-1] if direction else below
                if "W_in" in p:
                    u = u @ p["W_in"].T + p["b_in"]
                run = layer * D + direction
                start = {
                    name: np.zeros(used[name]) if state is None else state[name][run, n, : used[name]] for name in final
                }
                out, now = (block_m if kind == "m" else block_s)(p, u, start, options)
                if "norm_out" in p:
                    out = norm(out, p["norm_out"])
                above[:, direction * H : (direction + 1) * H] = out[::-1] if direction else out
                for name, value in now.items():
                    final[name][run, n, : len(value)] = value
            below = above
        y[n, : lengths[n]] = below
    return y, final
