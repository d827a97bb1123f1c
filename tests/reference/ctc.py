"""Connectionist temporal classification by counting all alignments."""

from __future__ import annotations

from itertools import groupby, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def log_softmax(logits: Array) -> Array:
    below = logits - logits.max(axis=-1, keepdims=True)
    result: Array = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))
    return result


def collapse(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """Repeats merged, then blanks dropped."""
    return tuple(k for k, _ in groupby(path) if k != blank)


def probabilities(logits: Array, blank: int) -> dict[tuple[int, ...], float]:
    """p of every label sequence."""
    y = np.exp(log_softmax(logits))
    steps, outputs = y.shape
    found: dict[tuple[int, ...], float] = {}
    for path in product(range(outputs), repeat=steps):
        labels = collapse(path, blank)
        found[labels] = found.get(labels, 0.0) + float(np.prod(y[np.arange(steps), path]))
    return found


def loss(logits: Array, labels: tuple[int, ...], blank: int) -> float:
    return -float(np.log(probabilities(logits, blank)[labels]))
