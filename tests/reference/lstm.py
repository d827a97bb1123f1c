"""LSTM with forget gate (Gers, Schmidhuber & Cummins, 2000).

    i = σ(a_i)   f = σ(a_f)   g = tanh(a_g)   o = σ(a_o)
    c = f ⊙ c₋ + i ⊙ g
    h = o ⊙ tanh(c)

where a = W x + R h₋ + b is computed by the driver.
"""

from __future__ import annotations

import numpy as np

from .activations import sigmoid

GATES = ("i", "f", "g", "o")
STATES = ("h", "c")

State = dict[str, np.ndarray]


def forward(a: np.ndarray, previous: State, options: dict) -> tuple[State, tuple]:
    """a: (N, 4H) pre-activations; previous: h and c, each (N, H). Returns the new state and what backward needs."""
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
    c = f * previous["c"] + i * g
    tanh_c = np.tanh(c)
    return {"h": o * tanh_c, "c": c}, (i, f, g, o, tanh_c, previous["c"])


def backward(d: State, saved: tuple, options: dict) -> tuple[np.ndarray, State]:
    """d: ∂loss/∂(h, c). Returns ∂loss/∂a and the part of ∂loss/∂(h₋, c₋) that does not go through a."""
    i, f, g, o, tanh_c, c_previous = saved
    d_c = d["c"] + d["h"] * o * (1.0 - tanh_c**2)
    d_a = [
        d_c * g * i * (1.0 - i),
        d_c * c_previous * f * (1.0 - f),
        d_c * i * (1.0 - g**2),
        d["h"] * tanh_c * o * (1.0 - o),
    ]
    return np.concatenate(d_a, axis=1), {"h": np.zeros_like(d_c), "c": d_c * f}
