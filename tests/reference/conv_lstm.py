"""Convolutional recurrent layers (Shi et al., 2015) in plain NumPy, forward only: tests differentiate numerically.

A sequence is run alone, image by image; a convolution is a sum over taps of shifted images, zero outside:

    (K * x)[:, y, x] = Σ over (i, j) of K[:, :, i, j] · x[:, y + (i − m)·dilation, x + (j − m)·dilation],  m = (k − 1)/2

lstm       i, f, o = σ(a_i), σ(a_f), σ(a_o)   g = tanh(a_g)   a = W * x + R * h₋ + b
           c = f ⊙ c₋ + i ⊙ g   h = o ⊙ tanh(c)
peephole   a_i += P_i ⊙ c₋   a_f += P_f ⊙ c₋   a_o += P_o ⊙ c
gru        r, z = σ(…)   n = tanh(W_n * x + b_n + r ⊙ (R_n * h₋ + bR_n))   h = (1 − z) ⊙ n + z ⊙ h₋
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .activations import sigmoid

GATES = {"lstm": 4, "peephole": 4, "gru": 3}
STATES = {"lstm": ("h", "c"), "peephole": ("h", "c"), "gru": ("h",)}


def convolve(image: np.ndarray, kernel: np.ndarray, dilation: int) -> np.ndarray:
    """image (C, Y, X), kernel (O, C, k, k) → (O, Y, X)."""
    _, height, width = image.shape
    size = kernel.shape[2]
    reach = (size - 1) // 2 * dilation
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)))
    out = np.zeros((kernel.shape[0], height, width))
    for i in range(size):
        for j in range(size):
            shifted = padded[:, i * dilation : i * dilation + height, j * dilation : j * dilation + width]
            out += np.einsum("oc,cyx->oyx", kernel[:, :, i, j], shifted)
    return out


def step(
    cell: str, p: dict[str, np.ndarray], x: np.ndarray, state: dict[str, np.ndarray], dilation: int
) -> dict[str, np.ndarray]:
    """One layer, one step: x (C, Y, X), state (H, Y, X) by name, p by kind."""
    from_x = convolve(x, p["W"], dilation) + p["b"][:, None, None]
    from_h = convolve(state["h"], p["R"], dilation)
    if cell == "gru":
        from_h = from_h + p["bR"][:, None, None]
        (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(from_x, 3), np.split(from_h, 3)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        return {"h": (1.0 - z) * n + z * state["h"]}
    a_i, a_f, a_g, a_o = np.split(from_x + from_h, 4)
    if cell == "peephole":
        a_i = a_i + p["P"][0] * state["c"]
        a_f = a_f + p["P"][1] * state["c"]
    c = sigmoid(a_f) * state["c"] + sigmoid(a_i) * np.tanh(a_g)
    if cell == "peephole":
        a_o = a_o + p["P"][2] * c
    return {"h": sigmoid(a_o) * np.tanh(c), "c": c}


def forward(
    cell: str,
    parameters: dict[str, np.ndarray],
    x: Sequence[np.ndarray],
    state: dict[str, np.ndarray] | None = None,
    dilation: int = 1,
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """x: arrays (T_i, C, Y, X); state: (L, N, H, Y, X) by name. Returns y as x, and the final state."""
    layers = sum(name.startswith("W_l") for name in parameters)
    hidden = parameters["W_l0"].shape[0] // GATES[cell]
    images = x[0].shape[2:]
    final = {name: np.zeros((layers, len(x), hidden, *images)) for name in STATES[cell]}
    outputs = [np.asarray(sequence, dtype=np.float64) for sequence in x]
    for layer in range(layers):
        p = {name.partition("_")[0]: value for name, value in parameters.items() if name.endswith(f"_l{layer}")}
        for n, sequence in enumerate(outputs):
            now = {name: value[layer, n] if state is None else state[name][layer, n] for name, value in final.items()}
            steps = []
            for frame in sequence:
                now = step(cell, p, frame, now, dilation)
                steps.append(now["h"])
            outputs[n] = np.stack(steps)
            for name, value in now.items():
                final[name][layer, n] = value
    return outputs, final
