"""Which numbers occur in a network on given data, and which ranges integers should cover.

Shape letters: T time steps, N sequences, I input features, H hidden units, D directions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .network import EdgeNetwork, HeadLayer

__all__ = ["RANGES", "Observed", "activate", "clip_of", "means", "observe"]

Array = NDArray[Any]

#: What `ranges` may be: how the largest value that integers cover is chosen.
RANGES = ("mse", "percentile", "max")

# Of all magnitudes, with ranges="percentile".
_PERCENTILE = 99.95
# Largest values tried with "mse", as shares of the largest that occurred.
_SHARES = np.linspace(0.3, 1.0, 71)
# Values that the choice of a range looks at: more change it in the third digit only.
_SAMPLE = 200_000


@dataclass
class Observed:
    """Values of the float network on the calibration data, all real steps of all sequences together.

    inputs: (steps, I) as measured; outputs: of each run, h (steps, H) in the order of runs; cells: c of each run or
    None; hidden: outputs of the head's hidden layers; scores: (N, K) or (steps, K) before softmax or target scaling.
    layer_outputs: list over layers of lists over sequences of (T_i, D·H), in the order of X.
    """

    inputs: Array
    outputs: list[Array] = field(default_factory=list)
    cells: list[Array | None] = field(default_factory=list)
    hidden: list[Array] = field(default_factory=list)
    scores: Array = field(default_factory=lambda: np.zeros(0))
    layer_outputs: list[list[Array]] = field(default_factory=list)


def observe(network: EdgeNetwork, X: list[Array]) -> Observed:
    """Runs the float network, in float64, on sequences (T_i, I). ValueError where its numbers are not finite."""
    batch = network.network.read(X)
    seen = Observed(np.concatenate([np.asarray(x, dtype=np.float64) for x in X]))
    place = np.empty_like(batch.order)
    place[batch.order] = np.arange(len(batch.order))
    outputs = np.zeros(0)
    for run, steps, outputs in network.network.unroll(batch):
        seen.outputs.append(np.concatenate([step.after["h"] for step in steps]))
        seen.cells.append(np.concatenate([step.after["c"] for step in steps]) if "c" in run.start else None)
        if not np.isfinite(seen.outputs[-1]).all():
            raise ValueError(
                f"quantize: {run.name}: outputs on X_calibration are not finite, so there is no range for integers. "
                "Train with clip_norm, max_norm or alpha."
            )
        if run.direction == network.directions - 1:
            seen.layer_outputs.append([outputs[row, : batch.lengths[row]] for row in place.tolist()])
    values = pool(network, seen.layer_outputs[-1])
    for layer in network.head[:-1]:
        values = activate(values @ layer.weights.T + layer.bias, layer.activation)
        seen.hidden.append(values)
    seen.scores = values @ network.head[-1].weights.T + network.head[-1].bias
    return seen


def pool(network: EdgeNetwork, outputs: list[Array]) -> Array:
    """(T_i, D·H) of each sequence → (N, D·H), with pooling "none" (steps, D·H)."""
    if network.pooling == "none":
        return np.concatenate(outputs)
    if network.pooling == "mean":
        return np.stack([values.mean(axis=0) for values in outputs])
    if network.pooling == "max":
        return np.stack([values.max(axis=0) for values in outputs])
    hidden = network.runs[0].hidden
    last = [values[-1].copy() for values in outputs]
    for values, one in zip(outputs, last, strict=True):
        one[hidden:] = values[0, hidden:]  # the reverse direction ends on the first step
    return np.stack(last)


def means(network: EdgeNetwork, seen: Observed) -> tuple[list[tuple[Array, Array]], list[Array]]:
    """What activations are on average: x and h of each run, in the network's units, and what each head layer reads.

    Rounding a row moves its sum by (W − rounded W)·a, whose mean a bias can take back (Nagel et al., 2019, "Data-free
    quantization through weight equalization and bias correction", section 4.2).
    """
    D = network.directions
    runs = []
    below = (seen.inputs.mean(axis=0) - network.centre) * network.scale
    for first in range(0, len(network.runs), D):
        own = [seen.outputs[k].mean(axis=0) for k in range(first, first + D)]
        runs += [(below, h) for h in own]
        below = np.concatenate(own)
    head = [pool(network, seen.layer_outputs[-1]).mean(axis=0), *(values.mean(axis=0) for values in seen.hidden)]
    return runs, head


def activate(x: Array, activation: HeadLayer | str) -> Array:
    """A hidden layer's nonlinearity: "selu" (Klambauer et al., 2017), "relu" or "tanh"."""
    if activation == "tanh":
        return np.tanh(x)
    if activation == "relu":
        return np.maximum(x, 0.0)
    result: Array = SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0.0)))
    return result


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def clip_of(values: Array, levels: int, ranges: str) -> float:
    """The largest magnitude that `levels` integers on either side of zero should stand for; 0 where all values are 0.

    "max": the largest there is; "percentile": 99.95% of all; "mse": the one with which rounding and cutting off
    together lose least, by squares.
    """
    magnitudes = np.abs(values).ravel()
    largest = float(magnitudes.max()) if magnitudes.size else 0.0
    if largest == 0.0 or ranges == "max":
        return largest
    if ranges == "percentile":
        return float(np.percentile(magnitudes, _PERCENTILE)) or largest
    if magnitudes.size > _SAMPLE:
        magnitudes = magnitudes[:: magnitudes.size // _SAMPLE + 1]
        magnitudes[0] = largest
    best, chosen = np.inf, largest
    for share in _SHARES:
        unit = share * largest / levels
        error = float(np.square(np.minimum(np.rint(magnitudes / unit), levels) * unit - magnitudes).sum())
        if error < best:
            best, chosen = error, share * largest
    return chosen
