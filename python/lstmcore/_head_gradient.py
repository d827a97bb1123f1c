"""The way back from the loss of one sequence to the outputs of the last layer: head and pooling, in float64.

The equations are those of `lstmcore::Pooling` and `lstmcore::HeadActivation` in the C++ header model.hpp. Letters:
T time steps, W = D·P outputs of the last layer, K outputs of the head.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .model import Model

__all__ = ["HeadGradient"]

Array = NDArray[Any]

# Klambauer et al. (2017).
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


class HeadGradient:
    """∂loss/∂h for sequences of a model: cross-entropy of a softmax head, mean squared error of an identity head."""

    def __init__(self, model: Model) -> None:
        self._config = model.config
        self._parameters = {
            name: value.astype(np.float64)
            for name, value in model.parameters.items()
            if name.startswith(("head_", "pool_"))
        }
        self._directions = 2 if self._config["recurrent"]["bidirectional"] else 1
        if self._config["pooling"] == "none":
            raise ValueError("y: this model has no pooling, so a sequence has no single loss. Give dy.")

    def __call__(self, h: Array, target: Any) -> Array:
        """h (T, W); target: index of the class, or (K,) numbers on the scale of the scores. Returns (T, W)."""
        kind = self._config["pooling"]
        if kind == "attention":
            return self._attention(h, target)
        if kind == "hopfield":
            return self._hopfield(h, target)
        gradient = np.zeros_like(h)
        width = h.shape[1] // self._directions
        if kind == "last":
            d = self._head(np.concatenate([h[-1, :width], h[0, width:]]), target)
            gradient[-1, :width] = d[:width]
            gradient[0, width:] = d[width:]
        elif kind == "mean":
            gradient[:] = self._head(h.mean(axis=0), target) / len(h)
        else:
            gradient[h.argmax(axis=0), np.arange(h.shape[1])] = self._head(h.max(axis=0), target)
        return gradient

    def _head(self, pooled: Array, target: Any) -> Array:
        """∂loss/∂pooled."""
        p, kind = self._parameters, self._config["head_activation"]
        x, slopes = pooled, []
        for layer in range(len(self._config["head_sizes"])):
            a = p[f"head_W_l{layer}"] @ x + p[f"head_b_l{layer}"]
            if kind == "selu":
                low = _SELU_ALPHA * np.exp(np.minimum(a, 0.0))
                x = _SELU_SCALE * np.where(a > 0.0, a, low - _SELU_ALPHA)
                slopes.append(_SELU_SCALE * np.where(a > 0.0, 1.0, low))
            else:
                x = np.maximum(a, 0.0) if kind == "relu" else np.tanh(a)
                slopes.append((a > 0.0).astype(np.float64) if kind == "relu" else 1.0 - x**2)
        scores = p["head_W"] @ x + p["head_b"]
        if self._config["activation"] == "softmax":
            d = _softmax(scores)
            d[target] -= 1.0
        else:
            d = 2.0 * (scores - target) / len(scores)
        d = p["head_W"].T @ d
        for layer in reversed(range(len(slopes))):
            d = p[f"head_W_l{layer}"].T @ (d * slopes[layer])
        gradient: Array = d
        return gradient

    def _attention(self, h: Array, target: Any) -> Array:
        W, b, v = (self._parameters[name] for name in ("pool_W", "pool_b", "pool_v"))
        u = np.tanh(h @ W.T + b)
        weights = _softmax(u @ v)
        d = self._head(weights @ h, target)
        d_scores = _softmax_back(weights, h @ d)
        gradient: Array = np.outer(weights, d) + (np.outer(d_scores, v) * (1.0 - u**2)) @ W
        return gradient

    def _hopfield(self, h: Array, target: Any) -> Array:
        patterns, K, V = (self._parameters[name] for name in ("pool_Q", "pool_K", "pool_V"))
        keys, values = h @ K.T, h @ V.T
        beta = self._config["pooling_beta"] or 1.0 / np.sqrt(keys.shape[1])
        q, passed = patterns, []
        for _ in range(self._config["pooling_updates"]):
            weights = _softmax(beta * q @ keys.T)
            passed.append((q, weights))
            q = weights @ keys
        weights = _softmax(beta * q @ keys.T)
        d = self._head((weights @ values).ravel(), target).reshape(q.shape[0], -1)
        d_values, d_scores = weights.T @ d, _softmax_back(weights, d @ values.T)
        d_keys, d_q = beta * d_scores.T @ q, beta * d_scores @ keys
        for before, weights in reversed(passed):
            d_scores = _softmax_back(weights, d_q @ keys.T)
            d_keys = d_keys + weights.T @ d_q + beta * d_scores.T @ before
            d_q = beta * d_scores @ keys
        gradient: Array = d_keys @ K + d_values @ V
        return gradient


def _softmax(x: Array) -> Array:
    """Along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = e / e.sum(axis=-1, keepdims=True)
    return shares


def _softmax_back(shares: Array, d: Array) -> Array:
    """∂loss/∂x for d = ∂loss/∂softmax(x)."""
    gradient: Array = shares * (d - (shares * d).sum(axis=-1, keepdims=True))
    return gradient
