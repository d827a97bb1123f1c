"""The first LSTM, without forget gate (Hochreiter & Schmidhuber, 1997).

    i = σ(a_i)   g = 4σ(a_g) − 2   o = σ(a_o)      a = W x + R h₋ + b
    s = s₋ + i ⊙ g
    h = o ⊙ (2σ(s) − 1)

Cells form blocks of block_size, and the cells of a block share i and o: unit u belongs to block u // block_size.
gate_recurrence: R acts on (h₋, i₋, o₋), so that the gates are seen by everything.
gradient="truncated": the rule of the paper. What enters pre-activations from the step before (h₋, i₋, o₋) counts as
constant; only s carries gradient back in time. The result is the gradient of no function.
"""

from __future__ import annotations

import numpy as np

from .activations import sigmoid
from .products import Arrays, Sizes, blocks_of, preactivation, preactivation_backward


def gates(options: dict) -> tuple[str, ...]:
    return ("i", "g", "o")


def blocks(options: dict, H: int) -> int:
    return H // options.get("block_size", 1)


def states(options: dict, s: Sizes) -> dict[str, int]:
    widths = {"h": s.H, "s": s.H}
    if options.get("gate_recurrence", False):
        widths |= {"i": blocks(options, s.H), "o": blocks(options, s.H)}
    return widths


def tensors(options: dict, s: Sizes) -> dict[str, tuple[int, ...]]:
    B = blocks(options, s.H)
    rows = B + s.H + B
    columns = s.H + 2 * B if options.get("gate_recurrence", False) else s.H
    return {"W": (rows, s.I), "R": (rows, columns), "b": (rows,)}


def forward(p: Arrays, x: np.ndarray, previous: Arrays, options: dict) -> tuple[Arrays, tuple]:
    """One step: x (N, I). Returns the new state and what backward needs."""
    size, H = options.get("block_size", 1), previous["s"].shape[1]
    B = H // size
    recurrent = [previous["h"]]
    if options.get("gate_recurrence", False):
        recurrent += [previous["i"], previous["o"]]
    a, kept = preactivation(p, x, np.concatenate(recurrent, axis=1))
    i, gate_g, o = sigmoid(a[:, :B]), sigmoid(a[:, B : B + H]), sigmoid(a[:, B + H :])
    s = previous["s"] + np.repeat(i, size, axis=1) * (4.0 * gate_g - 2.0)
    gate_s = sigmoid(s)
    state = {"h": np.repeat(o, size, axis=1) * (2.0 * gate_s - 1.0), "s": s}
    if options.get("gate_recurrence", False):
        state |= {"i": i, "o": o}
    return state, (i, gate_g, o, gate_s, kept)


def backward(p: Arrays, d: Arrays, saved: tuple, options: dict) -> tuple[np.ndarray, Arrays, Arrays]:
    """d: ∂loss/∂state. Returns ∂loss/∂x, ∂loss/∂(previous state) and the gradients of the parameters."""
    i, gate_g, o, gate_s, kept = saved
    size, H = options.get("block_size", 1), gate_s.shape[1]
    fed_back = options.get("gate_recurrence", False)

    def sum_of_block(value: np.ndarray) -> np.ndarray:
        return value.reshape(len(value), H // size, size).sum(axis=2)

    d_o = sum_of_block(d["h"] * (2.0 * gate_s - 1.0))
    d_s = d["s"] + d["h"] * np.repeat(o, size, axis=1) * 2.0 * gate_s * (1.0 - gate_s)
    d_i = sum_of_block(d_s * (4.0 * gate_g - 2.0))
    d_g = d_s * np.repeat(i, size, axis=1)
    if fed_back:
        d_i, d_o = d_i + d["i"], d_o + d["o"]
    d_a = [d_i * i * (1.0 - i), d_g * 4.0 * gate_g * (1.0 - gate_g), d_o * o * (1.0 - o)]
    d_x, d_recurrent, gradient = preactivation_backward(p, np.concatenate(d_a, axis=1), kept)
    if options.get("gradient", "full") == "truncated":
        d_recurrent = np.zeros_like(d_recurrent)
    d_previous = {"h": d_recurrent[:, :H], "s": d_s}
    if fed_back:
        d_previous["i"], d_previous["o"] = blocks_of(d_recurrent[:, H:], 2)
    return d_x, d_previous, gradient
