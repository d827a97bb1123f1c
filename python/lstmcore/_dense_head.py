"""A dense layer and losses in NumPy, with gradients: the top of networks that are put together in Python.

Shape letters: N samples, H inputs of the head, K outputs. Losses and their reductions are those of the C++ engine
(train/losses.hpp): Σ w l / Σ w over samples, mean over what one sample predicts. Arithmetic of the losses is in double.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cross_entropy", "dense_backward", "dense_forward", "dense_init", "numeric_loss", "softmax"]

Array = NDArray[Any]


def dense_init(seed: int, inputs: int, outputs: int, dtype: Any, prefix: str = "head_") -> dict[str, Array]:
    """{prefix + "W": (K, H), prefix + "b": (K,)}: W uniform in ±√(6 / (H + K)) (Glorot & Bengio 2010), b zero."""
    bound = np.sqrt(6.0 / (inputs + outputs))
    # RandomState's stream is frozen for good, default_rng's is not.
    weights = np.random.RandomState(seed % 2**32).uniform(-bound, bound, size=(outputs, inputs))
    return {prefix + "W": weights.astype(dtype), prefix + "b": np.zeros(outputs, dtype=dtype)}


def dense_forward(x: Array, W: Array, b: Array) -> Array:
    """x (…, H) → x Wᵀ + b, (…, K)."""
    # einsum and not a BLAS product, whose bits may depend on the number of threads.
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    scores = np.einsum("nh,kh->nk", rows, W) + b
    result: Array = scores.reshape((*x.shape[:-1], len(b)))
    return result


def dense_backward(x: Array, W: Array, d_scores: Array) -> tuple[Array, Array, Array]:
    """Gradients of x (…, H), W (K, H) and b (K,) from those of the scores (…, K)."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    slopes = np.ascontiguousarray(d_scores).reshape(-1, d_scores.shape[-1])
    d_x: Array = np.einsum("nk,kh->nh", slopes, W)
    d_W: Array = np.einsum("nk,nh->kh", slopes, rows)
    d_b: Array = np.add.reduce(slopes, axis=0)
    return d_x.reshape(x.shape), d_W, d_b


def softmax(scores: Array) -> Array:
    """Probabilities along the last axis, in the scores' dtype; no overflow for any finite scores."""
    wide = scores.astype(np.float64)
    terms = np.exp(wide - wide.max(axis=-1, keepdims=True))
    probabilities: Array = terms / terms.sum(axis=-1, keepdims=True)
    return probabilities.astype(scores.dtype)


def cross_entropy(
    scores: Array, labels: Array, weights: Array | None = None, label_smoothing: float = 0.0
) -> tuple[float, float, Array]:
    """Cross-entropy of softmax(scores).

    Parameters
    ----------
    scores : (N, K)
    labels : (N,) integers 0 … K−1
    weights : (N,) numbers ≥ 0, or None for ones
    label_smoothing : float in [0, 1)
        Share of the target that is spread over all classes (Szegedy et al., 2016).

    Returns
    -------
    loss_sum, weight_sum : float
        Σ w l and Σ w.
    d_scores : (N, K)
        Gradient of Σ w l / Σ w, in the scores' dtype; 0 where Σ w is.
    """
    with np.errstate(all="ignore"):  # scores that are not finite give a loss that is not, which the trainer reports
        return _cross_entropy(scores, labels, weights, label_smoothing)


def _cross_entropy(
    scores: Array, labels: Array, weights: Array | None, label_smoothing: float
) -> tuple[float, float, Array]:
    wide = scores.astype(np.float64)
    index = np.arange(len(wide))
    top = np.argmax(wide, axis=1)
    below = wide - wide[index, top][:, None]
    terms = np.exp(below)
    # Σ without its largest term, which is 1: log1p keeps the small loss of a sure and right answer.
    terms[index, top] = 0.0
    rest = terms.sum(axis=1)
    terms[index, top] = 1.0
    target = below[index, labels]
    if label_smoothing > 0.0:
        target = (1.0 - label_smoothing) * target + label_smoothing * below.mean(axis=1)
    slopes = terms / (1.0 + rest)[:, None] - label_smoothing / wide.shape[1]
    slopes[index, labels] -= 1.0 - label_smoothing
    return _weigh(np.log1p(rest) - target, slopes, weights, scores.dtype)


def numeric_loss(
    scores: Array, values: Array, weights: Array | None = None, loss: str = "squared", huber_delta: float = 1.0
) -> tuple[float, float, Array]:
    """Loss of numbers, the mean over everything that one sample predicts.

    Parameters
    ----------
    scores, values : (N, …)
        What was predicted and what was right.
    weights : (N,) numbers ≥ 0, or None for ones
    loss : {"squared", "absolute", "huber"}
        e², |e| (slope 0 at 0), or ½e² up to |e| = huber_delta and linear beyond (Huber, 1964).

    Returns
    -------
    As `cross_entropy`.
    """
    with np.errstate(all="ignore"):
        return _numeric_loss(scores, values, weights, loss, huber_delta)


def _numeric_loss(
    scores: Array, values: Array, weights: Array | None, loss: str, huber_delta: float
) -> tuple[float, float, Array]:
    error = scores.astype(np.float64) - values
    if loss == "squared":
        each, slopes = np.square(error), 2.0 * error
    elif loss == "absolute":
        each, slopes = np.abs(error), np.sign(error)
    elif loss == "huber":
        size = np.abs(error)
        each = np.where(size <= huber_delta, 0.5 * np.square(error), huber_delta * (size - 0.5 * huber_delta))
        slopes = np.clip(error, -huber_delta, huber_delta)
    else:
        raise ValueError(f"loss: expected 'squared', 'absolute' or 'huber', got {loss!r}")
    per_sample = max(error[:1].size, 1)
    return _weigh(each.reshape(len(error), -1).mean(axis=1), slopes / per_sample, weights, scores.dtype)


def _weigh(losses: Array, slopes: Array, weights: Array | None, dtype: Any) -> tuple[float, float, Array]:
    if weights is None:
        return float(losses.sum()), float(len(losses)), (slopes / max(len(losses), 1)).astype(dtype)
    total = float(weights.sum())
    factor = weights / total if total > 0.0 else np.zeros(len(losses))
    # A weight of 0 leaves a sample out, whatever its scores: 0 · inf would not.
    used = weights != 0.0
    shape = (-1,) + (1,) * (slopes.ndim - 1)
    weighted = np.zeros_like(slopes)
    np.multiply(slopes, factor.reshape(shape), out=weighted, where=np.broadcast_to(used.reshape(shape), slopes.shape))
    return float((losses[used] * weights[used]).sum()), total, weighted.astype(dtype)
