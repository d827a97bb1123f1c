"""Layers, directions, time, lengths and states around the cells, forward and backward.

Shape letters: T time steps, N sequences, I input features, H hidden units, G gates, L layers, D directions.

Sequences of one length are run together without any padding, one length after the other. That makes the meaning of a
ragged batch plain: a sequence behaves as if it were alone, and nothing exists past its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from . import elman, lstm

CELLS: dict[str, ModuleType] = {"lstm": lstm, "elman": elman}

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Stack:
    """Architecture of a stack of recurrent layers."""

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    options: dict = field(default_factory=dict)

    @property
    def module(self) -> ModuleType:
        return CELLS[self.cell]

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def runs(self) -> Iterator[tuple[int, int, str]]:
        """(layer, direction, suffix of the parameter names), in the order of the first axis of a state."""
        for layer in range(self.num_layers):
            for direction in range(self.directions):
                yield layer, direction, f"_l{layer}" + ("_reverse" if direction else "")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter."""
        rows, H = len(self.module.GATES) * self.hidden_size, self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, _, suffix in self.runs():
            width = self.input_size if layer == 0 else self.directions * H
            shapes |= {f"W{suffix}": (rows, width), f"R{suffix}": (rows, H), f"b{suffix}": (rows,)}
        return shapes


@dataclass
class Group:
    """The sequences of one length, and what their forward pass saved."""

    rows: np.ndarray
    length: int
    inputs: list[np.ndarray] = field(default_factory=list)  # of each layer: (n, T, width)
    hidden: dict[str, np.ndarray] = field(default_factory=dict)  # by suffix: h₋ of each step in order of running
    saved: dict[str, list] = field(default_factory=dict)  # by suffix: what the cell saved, in order of running


@dataclass
class Tape:
    stack: Stack
    parameters: Arrays
    shape: tuple[int, int, int]
    groups: list[Group]


def _order(length: int, direction: int) -> range:
    return range(length - 1, -1, -1) if direction else range(length)


def forward(
    stack: Stack,
    parameters: Arrays,
    x: np.ndarray,
    lengths: np.ndarray | None = None,
    state: Arrays | None = None,
) -> tuple[np.ndarray, Arrays, Tape]:
    """Outputs (N, T, D·H), final states (L·D, N, H) and the tape; x (N, T, I), what lies past a length is not read."""
    x = np.asarray(x, dtype=np.float64)
    parameters = {name: np.array(value, dtype=np.float64) for name, value in parameters.items()}
    N, T, _ = x.shape
    H, D = stack.hidden_size, stack.directions
    lengths = np.full(N, T) if lengths is None else np.asarray(lengths)
    y = np.zeros((N, T, D * H))
    final = {name: np.zeros((stack.num_layers * D, N, H)) for name in stack.module.STATES}
    groups = []
    for length in np.unique(lengths):
        group = Group(np.flatnonzero(lengths == length), int(length))
        below = x[group.rows, :length]
        above = below
        for layer, direction, suffix in stack.runs():
            if direction == 0:
                below, above = above, np.zeros((len(group.rows), length, D * H))
                group.inputs.append(below)
            run = layer * D + direction
            now = {
                name: np.zeros((len(group.rows), H)) if state is None else state[name][run][group.rows].astype(float)
                for name in stack.module.STATES
            }
            W, R, b = (parameters[kind + suffix] for kind in "WRb")
            hidden, saved = [], []
            for t in _order(length, direction):
                hidden.append(now["h"])
                now, kept = stack.module.forward(below[:, t] @ W.T + now["h"] @ R.T + b, now, stack.options)
                saved.append(kept)
                above[:, t, direction * H : (direction + 1) * H] = now["h"]
            group.hidden[suffix], group.saved[suffix] = np.stack(hidden), saved
            for name, value in now.items():
                final[name][run, group.rows] = value
        y[group.rows, :length] = above
        groups.append(group)
    return y, final, Tape(stack, parameters, x.shape, groups)


def backward(tape: Tape, dy: np.ndarray, dstate: Arrays | None = None) -> tuple[np.ndarray, Arrays, Arrays]:
    """∂loss/∂x (N, T, I), ∂loss/∂(initial state) and ∂loss/∂parameters for ∂loss/∂y and ∂loss/∂(final state)."""
    stack, parameters = tape.stack, tape.parameters
    N = tape.shape[0]
    H, D = stack.hidden_size, stack.directions
    dx = np.zeros(tape.shape)
    d_initial = {name: np.zeros((stack.num_layers * D, N, H)) for name in stack.module.STATES}
    gradient = {name: np.zeros(shape) for name, shape in stack.shapes().items()}
    for group in tape.groups:
        d_above = np.asarray(dy, dtype=np.float64)[group.rows, : group.length]
        d_below = np.zeros_like(group.inputs[-1])
        for layer, direction, suffix in reversed(list(stack.runs())):
            run = layer * D + direction
            d_now = {
                name: np.zeros((len(group.rows), H)) if dstate is None else dstate[name][run][group.rows].astype(float)
                for name in stack.module.STATES
            }
            W, R = parameters["W" + suffix], parameters["R" + suffix]
            steps = list(enumerate(_order(group.length, direction)))
            for index, t in reversed(steps):
                d_now["h"] = d_now["h"] + d_above[:, t, direction * H : (direction + 1) * H]
                da, d_now = stack.module.backward(d_now, group.saved[suffix][index], stack.options)
                d_now["h"] = d_now["h"] + da @ R
                d_below[:, t] += da @ W
                gradient["W" + suffix] += da.T @ group.inputs[layer][:, t]
                gradient["R" + suffix] += da.T @ group.hidden[suffix][index]
                gradient["b" + suffix] += da.sum(axis=0)
            for name, value in d_now.items():
                d_initial[name][run, group.rows] = value
            if direction == 0:
                if layer == 0:
                    dx[group.rows, : group.length] = d_below
                else:
                    d_above, d_below = d_below, np.zeros_like(group.inputs[layer - 1])
    return dx, d_initial, gradient
