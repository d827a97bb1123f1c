"""Losses of language models in plain NumPy: softmax, sampled softmax, adaptive softmax. All in float64.

Letters: R rows, W inputs, V symbols, S samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def log_softmax(scores: Array) -> Array:
    below = scores - scores.max(axis=-1, keepdims=True)
    result: Array = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))
    return result


def softmax_losses(x: Array, W: Array, b: Array, labels: Array) -> Array:
    """(R,): −log softmax(W x + b)[label]."""
    result: Array = -log_softmax(x @ W.T + b)[np.arange(len(x)), labels]
    return result


def softmax_gradients(x: Array, W: Array, b: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Of the sum of the losses, with respect to x, W and b."""
    slopes = np.exp(log_softmax(x @ W.T + b))
    slopes[np.arange(len(x)), labels] -= 1.0
    return slopes @ W, slopes.T @ x, slopes.sum(axis=0)


def sampled_losses(
    x: Array, W: Array, b: Array, labels: Array, samples: Array, log_expected: Array, label_log_expected: Array
) -> Array:
    """(R,): Jean et al. (2015), with the samples shared by all rows and a row's own label not among its samples."""
    losses = []
    for r, label in enumerate(labels):
        others = [j for j, symbol in enumerate(samples) if symbol != label]
        scores = [W[label] @ x[r] + b[label] - label_log_expected[r]]
        scores += [W[samples[j]] @ x[r] + b[samples[j]] - log_expected[j] for j in others]
        losses.append(-log_softmax(np.array(scores))[0])
    return np.array(losses)


def adaptive_log_probabilities(x: Array, head: tuple[Array, Array], tails: list[tuple[Array, Array, Array]]) -> Array:
    """(R, V): Grave et al. (2017). head: W, b; tails: P, W, b of each cluster."""
    first = log_softmax(x @ head[0].T + head[1])
    own = first.shape[1] - len(tails)
    pieces = [first[:, :own]]
    for c, (P, W, b) in enumerate(tails):
        pieces.append(first[:, own + c, None] + log_softmax(x @ P.T @ W.T + b))
    return np.concatenate(pieces, axis=1)
