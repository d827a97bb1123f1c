"""Products with W and R, layer-normalised where the parameters say so, forward and backward.

Parameters come as a dict by kind ("W", "R", "b", …), without the suffix of layer and direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]

EPSILON = 1e-5
GAINS = {"W": "ln_x", "R": "ln_r"}


@dataclass(frozen=True)
class Sizes:
    """Of one layer: I inputs, H hidden units, P outputs (H, or fewer with a projection)."""

    I: int
    H: int
    P: int


def blocks_of(a: np.ndarray, count: int) -> np.ndarray:
    """The columns of a (N, count·H) as count blocks (N, H)."""
    return a.reshape(len(a), count, -1).swapaxes(0, 1)


def normalise(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Layer normalisation (Ba, Kiros & Hinton, 2016) of each row: mean 0, biased variance 1. Also 1/deviation."""
    centred = v - v.mean(axis=1, keepdims=True)
    scale = 1.0 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
    return centred * scale, scale


def normalise_backward(d: np.ndarray, normed: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """∂loss/∂v for d = ∂loss/∂normed."""
    mean, slope = d.mean(axis=1, keepdims=True), (d * normed).mean(axis=1, keepdims=True)
    return scale * (d - mean - normed * slope)


def weighted(p: Arrays, kind: str, v: np.ndarray, widths: tuple[int, ...]) -> tuple[np.ndarray, tuple]:
    """Product of v (N, width) with W or R, and what backward needs. Where the parameters have the gain of a layer
    normalisation, it is gain ⊙ norm(product), the columns of each of the widths being normalised by themselves."""
    product = v @ p[kind].T
    if GAINS[kind] not in p:
        return product, (v, None)
    parts = [normalise(part) for part in np.split(product, np.cumsum(widths)[:-1], axis=1)]
    return p[GAINS[kind]] * np.concatenate([normed for normed, _ in parts], axis=1), (v, parts)


def weighted_backward(p: Arrays, kind: str, d: np.ndarray, kept: tuple) -> tuple[np.ndarray, Arrays]:
    """∂loss/∂v and the gradients of the matrix and of its gain, for d = ∂loss/∂(what weighted returned)."""
    v, parts = kept
    gradient = {}
    if parts is not None:
        gain = GAINS[kind]
        gradient[gain] = (d * np.concatenate([normed for normed, _ in parts], axis=1)).sum(axis=0)
        ends = np.cumsum([normed.shape[1] for normed, _ in parts])
        d_parts = np.split(d * p[gain], ends[:-1], axis=1)
        d = np.concatenate([normalise_backward(d_part, *part) for d_part, part in zip(d_parts, parts, strict=True)], 1)
    gradient[kind] = d.T @ v
    return d @ p[kind], gradient


def preactivation(p: Arrays, x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, tuple]:
    """W x + R h₋ + b, both products normalised jointly over all gates where there are gains."""
    rows = (len(p["b"]),)
    from_x, kept_x = weighted(p, "W", x, rows)
    from_h, kept_h = weighted(p, "R", h, rows)
    return from_x + from_h + p["b"], (kept_x, kept_h)


def preactivation_backward(p: Arrays, d: np.ndarray, kept: tuple) -> tuple[np.ndarray, np.ndarray, Arrays]:
    """∂loss/∂x, ∂loss/∂h₋ and gradients, for d = ∂loss/∂(pre-activations)."""
    kept_x, kept_h = kept
    d_x, gradient_x = weighted_backward(p, "W", d, kept_x)
    d_h, gradient_h = weighted_backward(p, "R", d, kept_h)
    return d_x, d_h, {**gradient_x, **gradient_h, "b": d.sum(axis=0)}
