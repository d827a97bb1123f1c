"""A trained network in the terms of the edge runtime: its cells, the order of their gates, its head. Floats still.

Shape letters: I input features, H hidden units, D directions, L layers, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import cells
from .._unrolled import Network, Run, read_network
from ..model import Model
from .program import pad4

__all__ = ["EdgeNetwork", "EdgeRun", "HeadLayer", "Part", "read_edge_network"]

Array = NDArray[Any]

_CELLS = ("elman", "lstm", "peephole", "gru", "slstm")
_VARIANTS = {"lstm": ("vanilla", "CIFG"), "peephole": ("vanilla", "CIFG", "NP")}
_POOLING = ("last", "mean", "max", "none")


@dataclass(frozen=True)
class Part:
    """What becomes one matrix of the runtime: for each of its gates W (H, I) and R (H, H) side by side, and b (H,).

    x, h: (gates, H, I) and (gates, H, H), None where the matrix does not read x or h. bias: (gates, H).
    """

    name: str
    x: Array | None
    h: Array | None
    bias: Array
    reads_reset: bool = False  # r⊙h in place of h

    def rows(self, x_scale: Array, h_scale: Array) -> tuple[Array, Array]:
        """Weights (rows, columns) in the runtime's order, padded with zeros, and biases (rows,), float64.

        x_scale (I,), h_scale (H,): what one unit of each column's activation stands for.
        """
        blocks = []
        for weights, scale in ((self.x, x_scale), (self.h, h_scale)):
            if weights is not None:
                blocks.append(_pad_last(weights * scale))
        return interleave(np.concatenate(blocks, axis=2)), interleave(self.bias[:, :, None])[:, 0]


@dataclass(frozen=True)
class EdgeRun:
    """One direction of one layer."""

    name: str
    run: Run
    cell: str  # a key of program.CELLS
    options: frozenset[str]
    parts: tuple[Part, ...]
    peepholes: Array | None  # (3, H): i, f, o

    @property
    def inputs(self) -> int:
        """I of this layer."""
        return int(self.run.recurrent.input_size)

    @property
    def hidden(self) -> int:
        """H."""
        return int(self.run.recurrent.hidden_size)

    @property
    def bounded(self) -> bool:
        """Whether |h| ≤ 1 by the cell's equations."""
        return "relu" not in self.options


@dataclass(frozen=True)
class HeadLayer:
    """W (K, inputs), b (K,), and "relu", "tanh", "selu", or "linear" for the last."""

    name: str
    weights: Array
    bias: Array
    activation: str


@dataclass(frozen=True)
class EdgeNetwork:
    """A model that the runtime can run."""

    model: Model
    network: Network
    runs: tuple[EdgeRun, ...]  # layer 0 forward, layer 0 backward, layer 1 …
    head: tuple[HeadLayer, ...]
    pooling: str
    softmax: bool
    centre: Array  # (I,) x is standardised as (x − centre)·scale
    scale: Array
    output_mean: Array  # (K,) targets are outputs·output_scale + output_mean
    output_scale: Array

    @property
    def directions(self) -> int:
        """D."""
        return self.network.directions


def interleave(gates: Array) -> Array:
    """(gates, H, columns) → (rows, columns): four units of the first gate, the same four of the second, …"""
    count, hidden, columns = gates.shape
    padded = np.zeros((count, pad4(hidden), columns))
    padded[:, :hidden] = gates
    rows: Array = padded.reshape(count, -1, 4, columns).transpose(1, 0, 2, 3).reshape(-1, columns)
    return rows


def _pad_last(values: Array) -> Array:
    result = np.zeros((*values.shape[:-1], pad4(values.shape[-1])))
    result[..., : values.shape[-1]] = values
    return result


def read_edge_network(model: Model) -> EdgeNetwork:
    """The network of a model; ValueError, saying what to do instead, for what the runtime does not compute."""
    config = model.config
    _check(config)
    for name, value in model.parameters.items():
        if not np.isfinite(value).all():
            raise ValueError(f"quantize: the weights {name!r} are not finite. Train again with a lower learning rate.")
    network = read_network(model)
    runs = tuple(_edge_run(run, config["recurrent"]) for run in network.runs)
    parameters = {name: value.astype(np.float64) for name, value in model.parameters.items()}
    head = []
    for k in range(len(config["head_sizes"])):
        weights, bias = parameters[f"head_W_l{k}"], parameters[f"head_b_l{k}"]
        head.append(HeadLayer(f"head layer {k}", weights, bias, config["head_activation"]))
    head.append(HeadLayer("head", parameters["head_W"], parameters["head_b"], "linear"))
    scaling = model.core.preprocessing
    softmax = config["activation"] == "softmax"
    return EdgeNetwork(
        model=model,
        network=network,
        runs=runs,
        head=tuple(head),
        pooling=config["pooling"],
        softmax=softmax,
        centre=scaling["input_mean"],
        scale=scaling["input_scale"],
        output_mean=scaling["output_mean"],
        output_scale=1.0 / scaling["output_scale"],
    )


def _refuse(what: str, instead: str) -> ValueError:
    return ValueError(f"quantize: {what} does not run on the edge runtime. {instead}")


def _check(config: dict[str, Any]) -> None:
    recurrent = config["recurrent"]
    cell = recurrent["cell"]
    if cell not in _CELLS:
        raise _refuse(f"cell={cell!r}", f"Train one of {', '.join(_CELLS)}.")
    defaults = {name: values[0] for name, values in cells()[cell]["options"].items() if isinstance(values, tuple)}
    options = {**defaults, **recurrent["cell_options"]}
    variants = _VARIANTS.get(cell, ())
    variant = options.get("variant", "vanilla")
    if variants and variant not in variants:
        raise _refuse(f"variant={variant!r} of {cell}", f"Train variant {' or '.join(map(repr, variants))}.")
    if options.get("layer_norm", False):
        raise _refuse("layer_norm=True", "Train with layer_norm=False.")
    if options.get("proj_size", 0):
        raise _refuse(f"proj_size={options['proj_size']}", "Train without a projection (proj_size=0).")
    for name in ("zoneout_hidden", "zoneout_cell"):
        if recurrent[name] > 0:
            raise _refuse(
                f"{name}={recurrent[name]:g}, which changes predictions too,", f"Train with {name}=0.0, or dropout."
            )
    if recurrent["reverse"]:
        raise _refuse("reverse=True", "Train with reverse=False on reversed sequences.")
    if config["pooling"] not in _POOLING:
        raise _refuse(f"pooling={config['pooling']!r}", "Train with pooling 'last', 'mean' or 'max'.")


def _edge_run(run: Run, config: dict[str, Any]) -> EdgeRun:
    cell, options = config["cell"], config["cell_options"]
    weights = {kind: value.astype(np.float64) for kind, value in run.weights.items()}
    hidden = int(run.recurrent.hidden_size)
    count = len(weights["b"]) // hidden
    W = weights["W"].reshape(count, hidden, -1)
    R = weights["R"].reshape(count, hidden, -1)
    b = weights["b"].reshape(count, hidden)
    flags: set[str] = set()
    peepholes = None
    name = "gates"
    if cell == "elman":
        flags |= {"relu"} if options.get("nonlinearity", "tanh") == "relu" else set()
        parts: tuple[Part, ...] = (Part(name, W, R, b),)
    elif cell in ("lstm", "peephole"):
        P = weights.get("P")
        kind = "lstm"
        if options.get("variant", "vanilla") == "CIFG":
            # Ours has i and f = 1 − i, the runtime f and i = 1 − f, and 1 − σ(a) = σ(−a).
            flags.add("coupled")
            sign = np.array([-1.0, 1.0, 1.0])
            W, R, b = W * sign[:, None, None], R * sign[:, None, None], b * sign[:, None]
            P = None if P is None else np.stack([np.zeros(hidden), -P[0], P[1]])
        if P is not None:
            flags.add("peepholes")
            peepholes = P
        return EdgeRun(run.name, run, kind, frozenset(flags), (Part(name, W, R, b),), peepholes)
    elif cell == "gru":
        if options.get("reset_after", True):
            bR = weights["bR"].reshape(count, hidden)
            parts = (
                Part("gates r, z", W[:2], R[:2], b[:2] + bR[:2]),
                Part("candidate of x", W[2:], None, b[2:]),
                Part("candidate of h", None, R[2:], bR[2:]),
            )
        else:
            parts = (
                Part("gate r", W[:1], R[:1], b[:1]),
                Part("gate z", W[1:2], R[1:2], b[1:2]),
                Part("candidate of x", W[2:], None, b[2:]),
                Part("candidate of h", None, R[2:], np.zeros((1, hidden)), reads_reset=True),
            )
            cell = "gru_reset_before"
    else:
        if options.get("forget_activation", "sigmoid") == "exponential":
            flags.add("exponential_forget")
        parts = (Part(name, W, block_diagonal(R, int(options.get("heads", 1))), b),)
    return EdgeRun(run.name, run, cell, frozenset(flags), parts, peepholes)


def block_diagonal(R: Array, heads: int) -> Array:
    """(gates, H, H/heads) → (gates, H, H) with zeros between heads."""
    count, hidden, width = R.shape
    result = np.zeros((count, hidden, hidden))
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        result[:, own, own] = R[:, own]
    return result
