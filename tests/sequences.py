"""Small ragged problems for the tests of the estimators, learnt within a second."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Settings that learn these problems and keep tests quick.
FAST: dict[str, Any] = {"hidden_size": 12, "max_iter": 12, "learning_rate_init": 2e-2, "random_state": 0, "n_jobs": 1}


def ragged(n: int = 60, features: int = 3, seed: int = 0, shortest: int = 3, longest: int = 12) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rng.integers(shortest, longest + 1), features)) for _ in range(n)]


def two_classes(X: list[Array]) -> Array:
    """Sign of the first feature of the last step."""
    return np.array(["down", "up"])[[int(x[-1, 0] > 0) for x in X]]


def three_classes(X: list[Array]) -> Array:
    """Which feature of the last step is largest, as integers that are not 0, 1, 2."""
    return np.array([10, 20, 30])[[int(np.argmax(x[-1, :3])) for x in X]]


def last_value(X: list[Array]) -> Array:
    return np.array([100.0 + 7.0 * x[-1, 0] for x in X])


def pad(X: list[Array], fill: float = np.nan) -> Array:
    """(N, T, I) with `fill` past the end of each sequence."""
    out = np.full((len(X), max(len(x) for x in X), X[0].shape[1]), fill)
    for n, x in enumerate(X):
        out[n, : len(x)] = x
    return out
