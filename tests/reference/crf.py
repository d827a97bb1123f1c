"""Linear-chain conditional random fields by counting all label sequences."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def paths(emissions: Array, transitions: Array, start: Array, end: Array) -> tuple[Array, Array]:
    """All label sequences (K^T, T) and their scores (K^T,)."""
    steps, labels = emissions.shape
    every = np.array(list(product(range(labels), repeat=steps)))
    scores = start[every[:, 0]] + end[every[:, -1]]
    for t in range(steps):
        scores = scores + emissions[t, every[:, t]]
    for t in range(1, steps):
        scores = scores + transitions[every[:, t - 1], every[:, t]]
    return every, scores


def log_sum(scores: Array) -> float:
    top = scores.max()
    return float(top + np.log(np.exp(scores - top).sum())) if np.isfinite(top) else float("-inf")


def log_partition(*chain: Array) -> float:
    return log_sum(paths(*chain)[1])


def marginals(*chain: Array) -> Array:
    every, scores = paths(*chain)
    shares = np.exp(scores - log_sum(scores))
    labels = chain[0].shape[1]
    return np.array([[shares[every[:, t] == k].sum() for k in range(labels)] for t in range(every.shape[1])])


def loss(emissions: Array, path: Array, transitions: Array, start: Array, end: Array, weights: Array) -> float:
    """−Σ_t w_t log p(y_t | y_0 … y_{t−1}), each as a quotient of two sums over sequences."""
    every, scores = paths(emissions, transitions, start, end)
    total = 0.0
    agree = np.ones(len(every), dtype=bool)
    for t, label in enumerate(path):
        before = log_sum(scores[agree])
        agree &= every[:, t] == label
        total -= weights[t] * (log_sum(scores[agree]) - before)
    return total


def best(*chain: Array) -> tuple[Array, float]:
    every, scores = paths(*chain)
    return every[np.argmax(scores)], float(scores.max())
