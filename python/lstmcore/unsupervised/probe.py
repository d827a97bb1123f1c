"""The mix of layers that a linear model likes best (Peters et al. 2018, equation 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._validation import check_count

__all__ = ["fit_mix", "probe_target"]

Array = NDArray[Any]


def fit_mix(features: Array, y: Array, weights: Array, alpha: float = 1e-2) -> tuple[Array, float]:
    """softmax weights (L,) and gain of γ Σ_l s_l h_l, found together with a linear model on top, by L-BFGS.

    features: (N, L, W); y: (N,) class indices (integers), by cross-entropy, or (N, K) numbers, by squared error;
    weights: (N,). alpha: L2 penalty on the linear model, on the logarithms of the weights and on γ − 1, without which γ
    and the linear model could each be anything. Features are brought to a mean square of 1, which γ takes back.
    """
    from scipy.optimize import minimize

    _, L, W = features.shape
    share = weights / weights.sum()
    scale = float(np.sqrt(share @ np.square(features, dtype=np.float64).mean(axis=(1, 2)))) or 1.0
    h = features.astype(np.float64) / scale
    classes = y.dtype.kind in "iu"
    K = int(y.max()) + 1 if classes else y.shape[1]
    if classes:
        targets = np.eye(K)[y]
    else:
        centred = y - share @ y
        deviation = np.sqrt(share @ np.square(centred))
        targets = centred / np.where(deviation > 0, deviation, 1.0)

    def objective(flat: Array) -> tuple[float, Array]:
        logits, gain, A, b = flat[:L], flat[L], flat[L + 1 : L + 1 + K * W].reshape(K, W), flat[L + 1 + K * W :]
        s = np.exp(logits - logits.max())
        s /= s.sum()
        mixed = np.einsum("nlw,l->nw", h, s)  # einsum: BLAS products may depend on the number of threads
        projected = np.einsum("nw,kw->nk", mixed, A)
        scores = gain * projected + b
        if classes:
            top = scores.max(axis=1, keepdims=True)
            terms = np.exp(scores - top)
            total = terms.sum(axis=1, keepdims=True)
            loss = float(share @ (np.log(total[:, 0]) - ((scores - top) * targets).sum(axis=1)))
            slope = (terms / total - targets) * share[:, None]
        else:
            error = scores - targets
            loss = float(share @ np.square(error).sum(axis=1))
            slope = 2.0 * error * share[:, None]
        loss += 0.5 * alpha * float(np.square(A).sum() + np.square(logits).sum() + (gain - 1.0) ** 2)
        d_mixed = gain * np.einsum("nk,kw->nw", slope, A)
        d_s = np.einsum("nw,nlw->l", d_mixed, h)
        d_A = gain * np.einsum("nk,nw->kw", slope, mixed) + alpha * A
        d_gain = float((slope * projected).sum()) + alpha * (gain - 1.0)
        return loss, np.concatenate([s * (d_s - s @ d_s) + alpha * logits, [d_gain], d_A.ravel(), slope.sum(axis=0)])

    start = np.concatenate([np.zeros(L), [1.0], np.zeros(K * W + K)])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    s = np.exp(found[:L] - found[:L].max())
    return s / s.sum(), float(found[L]) / scale


def probe_target(y: Any, count: int) -> Array:
    """y as `fit_mix` takes it: (N,) class indices, or (N, K) numbers; ValueError for anything else."""
    from sklearn.utils.multiclass import type_of_target

    if y is None:
        raise ValueError("layer_mix='learned' needs y: labels or numbers, one for each sequence. Pass it to fit.")
    target = np.asarray(y)
    if target.ndim not in (1, 2) or not len(target):
        raise ValueError(f"y has shape {target.shape}. Expected (N,) labels or numbers, or (N, K) numbers.")
    check_count(len(target), "y", count, "X")
    kind = type_of_target(target, input_name="y")
    if kind in ("continuous", "continuous-multioutput", "multilabel-indicator", "multiclass-multioutput"):
        return target.astype(np.float64).reshape(len(target), -1)
    known, codes = np.unique(target, return_inverse=True)
    if len(known) < 2:
        raise ValueError(f"y has only one label, {known.tolist()[0]!r}: layer_mix='learned' needs at least two.")
    return codes.reshape(-1).astype(np.int64)
