"""`datasets.make_moving_digits`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["make_moving_digits"]

Float = NDArray[np.floating[Any]]

# Images of scikit-learn's set from this one on are the test part.
_FIRST_TEST = 1297


def make_moving_digits(
    n_sequences: int = 1000,
    n_frames: int = 20,
    size: int = 64,
    n_digits: int = 2,
    *,
    digit_size: int | None = None,
    split: Literal["train", "test"] | None = None,
    random_state: int | np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """Handwritten digits that fly about in a box and bounce off its walls: frames to forecast.

    After Srivastava, Mansimov & Salakhutdinov (2015, "Unsupervised Learning of Video Representations using LSTMs",
    ICML), whose Moving MNIST has digits of 28 × 28 pixels; these are scikit-learn's of 8 × 8, enlarged by linear
    interpolation. Each digit keeps its speed, between 0.05 and 0.1 of the room it has along a side, and starts anywhere
    in any direction; where digits overlap, the brighter pixel is seen.

    Parameters
    ----------
    n_sequences, n_frames : int, default 1000, 20
        N and T, at least 1.
    size : int, default 64
        Rows and columns of a frame, at least 8.
    n_digits : int, default 2
        Digits in a frame, at least 1.
    digit_size : int, optional
        Side of an enlarged digit in pixels, 4 ... size − 1; by default 5/16 of `size` (20 of 64).
    split : "train", "test" or None
        Which digits fly: the first 1297 of the set, the last 500, or all.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : array (N, T, size, size), float32 in [0, 1]

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    ValueError
        An argument out of range.
    """
    for name, value, least in (
        ("n_sequences", n_sequences, 1),
        ("n_frames", n_frames, 1),
        ("size", size, 8),
        ("n_digits", n_digits, 1),
    ):
        _check(name, value, least)
    side = size * 5 // 16 if digit_size is None else digit_size
    side = max(side, 4) if digit_size is None else side
    _check("digit_size", side, 4)
    if side >= size:
        raise ValueError(f"digit_size must be smaller than size={size}, got {digit_size!r}")
    if split not in (None, "train", "test"):
        raise ValueError(f"split must be 'train', 'test' or None, got {split!r}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("make_moving_digits() needs scikit-learn: pip install scikit-learn") from error
    images = np.asarray(load_digits().images / 16.0)
    parts = {None: images, "train": images[:_FIRST_TEST], "test": images[_FIRST_TEST:]}
    digits = _enlarge(parts[split], side).astype(np.float32)

    rng = np.random.default_rng(random_state)
    shape = (n_sequences, n_digits)
    which = rng.integers(0, len(digits), shape)
    room = size - side
    start = rng.uniform(0.0, room, (*shape, 2))
    speed = rng.uniform(0.05 * room, 0.1 * room, shape)
    angle = rng.uniform(0.0, 2.0 * np.pi, shape)
    velocity = speed[..., None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    # A path between two walls is a straight one in a hall of mirrors.
    path = start[:, :, None] + velocity[:, :, None] * np.arange(n_frames)[:, None]
    path = np.mod(path, 2.0 * room)
    corner = np.rint(np.where(path > room, 2.0 * room - path, path)).astype(int)
    X = np.zeros((n_sequences, n_frames, size, size), dtype=np.float32)
    for n in range(n_sequences):
        for k in range(n_digits):
            digit = digits[which[n, k]]
            for frame, (y, x) in zip(X[n], corner[n, k], strict=True):
                box = frame[y : y + side, x : x + side]
                np.maximum(box, digit, out=box)
    return X


def _enlarge(images: Float, side: int) -> Float:
    """(M, 8, 8) → (M, side, side), linear between the middles of pixels."""
    old = images.shape[1]
    at = np.clip((np.arange(side) + 0.5) * old / side - 0.5, 0.0, old - 1.0)
    low = np.minimum(at.astype(int), old - 2)
    share = at - low
    weights = np.zeros((side, old))
    weights[np.arange(side), low] = 1.0 - share
    weights[np.arange(side), low + 1] += share
    result: Float = np.einsum("ai,mij,bj->mab", weights, images, weights, optimize=True)
    return result


def _check(name: str, value: Any, least: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an int of at least {least}, got {value!r}")
