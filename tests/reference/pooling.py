"""Pooling over time and the head, sequence by sequence.

attention  u_t = tanh(W h_t + b)   p = softmax_t(v·u_t)   z = Σ p_t h_t
           (Bahdanau et al., 2015; Yang et al., 2016)
hopfield   q ← Σ_t softmax_t(β q·K h_t) K h_t, U times;  z_s = Σ_t softmax_t(β q·K h_t) V h_t
           (Ramsauer et al., 2021)
head       x ← f(W x + b) per hidden layer, then scores = W x + b;  f: SELU (Klambauer et al., 2017), ReLU or tanh
"""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def pool(config: dict[str, Any], p: Arrays, h: np.ndarray) -> np.ndarray:
    """h: (T, D·P) outputs of the last layer over one sequence → its pooled vector."""
    kind = config["pooling"]
    directions = 2 if config["recurrent"]["bidirectional"] else 1
    if kind == "last":
        width = h.shape[1] // directions
        return np.concatenate([h[-1, :width], h[0, width:]])
    if kind == "mean":
        return h.mean(0)
    if kind == "max":
        return h.max(0)
    if kind == "attention":
        scores = np.tanh(h @ p["pool_W"].T + p["pool_b"]) @ p["pool_v"]
        return softmax(scores) @ h
    keys, values, q = h @ p["pool_K"].T, h @ p["pool_V"].T, p["pool_Q"]
    beta = config["pooling_beta"] or 1.0 / np.sqrt(keys.shape[1])
    for _ in range(config["pooling_updates"]):
        q = softmax(beta * q @ keys.T) @ keys
    return (softmax(beta * q @ keys.T) @ values).ravel()


def activate(kind: str, x: np.ndarray) -> np.ndarray:
    if kind == "selu":
        return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))
    return np.maximum(x, 0) if kind == "relu" else np.tanh(x)


def head(config: dict[str, Any], p: Arrays, x: np.ndarray) -> np.ndarray:
    """Pooled vector → what Model.predict gives, without preprocessing of the targets."""
    for layer in range(len(config["head_sizes"])):
        x = activate(config["head_activation"], p[f"head_W_l{layer}"] @ x + p[f"head_b_l{layer}"])
    scores = p["head_W"] @ x + p["head_b"]
    return softmax(scores) if config["activation"] == "softmax" else scores
