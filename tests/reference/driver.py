"""Layers, directions, time, lengths and states around the cells, forward and backward.

Shape letters: T time steps, N sequences, I input features, H hidden units, P outputs of a direction (H, or fewer with a
projection), L layers, D directions.

Sequences of one length are run together without any padding, one length after the other. That makes the meaning of a
ragged batch plain: a sequence behaves as if it were alone, and nothing exists past its end.

A cell is a module with
    gates(options)                        names of the row blocks of W
    states(options, sizes)                width of each state by name, the first being "h"
    tensors(options, sizes)               shape of each parameter by kind, in the order of the library
    forward(p, x, previous, options)      one step of all sequences: the new state, and what backward needs
    backward(p, d, saved, options)        ∂loss/∂x, ∂loss/∂(previous state), gradients by kind
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from . import elman, gru, indrnn, lstm, lstm1997, min_gru, min_lstm, mlstm, peephole, slstm
from .products import Arrays, Sizes

CELLS: dict[str, ModuleType] = {
    "lstm": lstm,
    "peephole": peephole,
    "lstm1997": lstm1997,
    "gru": gru,
    "slstm": slstm,
    "mlstm": mlstm,
    "min_lstm": min_lstm,
    "min_gru": min_gru,
    "elman": elman,
    "indrnn": indrnn,
}


@dataclass(frozen=True)
class Stack:
    """Architecture of a stack of recurrent layers."""

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    options: dict = field(default_factory=dict)
    learn_initial_state: bool = False

    @property
    def module(self) -> ModuleType:
        return CELLS[self.cell]

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """P: width of h."""
        return self.options.get("proj_size", 0) or self.hidden_size

    @property
    def gates(self) -> tuple[str, ...]:
        return self.module.gates(self.options)

    def runs(self) -> Iterator[tuple[int, int, str]]:
        """(layer, direction, suffix of the parameter names), in the order of the first axis of a state."""
        for layer in range(self.num_layers):
            for direction in range(self.directions):
                yield layer, direction, f"_l{layer}" + ("_reverse" if direction else "")

    def sizes(self, layer: int) -> Sizes:
        width = self.input_size if layer == 0 else self.directions * self.output_size
        return Sizes(width, self.hidden_size, self.output_size)

    def states(self) -> dict[str, int]:
        """Name and width of every state."""
        return self.module.states(self.options, self.sizes(0))

    def state_shapes(self, N: int) -> dict[str, tuple[int, int, int]]:
        """Name and shape (L·D, N, width) of every state of N sequences."""
        return {name: (self.num_layers * self.directions, N, width) for name, width in self.states().items()}

    def tensors(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Kind and shape of every parameter of one direction of a layer."""
        shapes = dict(self.module.tensors(self.options, self.sizes(layer)))
        if self.learn_initial_state:
            shapes |= {f"{name}0": (width,) for name, width in self.states().items()}
        return shapes

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter."""
        return {kind + suffix: shape for layer, _, suffix in self.runs() for kind, shape in self.tensors(layer).items()}

    def of_run(self, parameters: Arrays, layer: int, suffix: str) -> Arrays:
        """The parameters of one direction of a layer, by kind."""
        return {kind: parameters[kind + suffix] for kind in self.tensors(layer)}


@dataclass
class Group:
    """The sequences of one length, and what their forward pass saved."""

    rows: np.ndarray
    length: int
    saved: dict[str, list] = field(default_factory=dict)  # by suffix: what the cell saved, in order of running


@dataclass
class Tape:
    stack: Stack
    parameters: Arrays
    shape: tuple[int, int, int]
    state_given: bool
    groups: list[Group]


def _order(length: int, direction: int) -> range:
    return range(length - 1, -1, -1) if direction else range(length)


def _initial(stack: Stack, p: Arrays, state: Arrays | None, run: int, rows: np.ndarray) -> Arrays:
    """State before the first step: what was given, else what is learnt, else zeros."""
    if state is not None:
        return {name: np.asarray(state[name], dtype=np.float64)[run, rows] for name in stack.states()}
    if stack.learn_initial_state:
        return {name: np.tile(p[f"{name}0"], (len(rows), 1)) for name in stack.states()}
    return {name: np.zeros((len(rows), width)) for name, width in stack.states().items()}


def forward(
    stack: Stack,
    parameters: Arrays,
    x: np.ndarray,
    lengths: np.ndarray | None = None,
    state: Arrays | None = None,
) -> tuple[np.ndarray, Arrays, Tape]:
    """Outputs (N, T, D·P), final states (L·D, N, width) and the tape; x (N, T, I), not read past a length."""
    x = np.asarray(x, dtype=np.float64)
    # subok: matrices that round what they are multiplied with, see dynamic_int8.py.
    parameters = {name: np.array(value, dtype=np.float64, subok=True) for name, value in parameters.items()}
    N, T, _ = x.shape
    P, D = stack.output_size, stack.directions
    lengths = np.full(N, T) if lengths is None else np.asarray(lengths)
    y = np.zeros((N, T, D * P))
    final = {name: np.zeros(shape) for name, shape in stack.state_shapes(N).items()}
    groups = []
    for length in np.unique(lengths):
        group = Group(np.flatnonzero(lengths == length), int(length))
        below = x[group.rows, :length]
        above = below
        for layer, direction, suffix in stack.runs():
            if direction == 0:
                below, above = above, np.zeros((len(group.rows), length, D * P))
            run = layer * D + direction
            p = stack.of_run(parameters, layer, suffix)
            now = _initial(stack, p, state, run, group.rows)
            saved = group.saved[suffix] = []
            for t in _order(length, direction):
                now, kept = stack.module.forward(p, below[:, t], now, stack.options)
                saved.append(kept)
                above[:, t, direction * P : (direction + 1) * P] = now["h"]
            for name in final:
                final[name][run, group.rows] = now[name]
        y[group.rows, :length] = above
        groups.append(group)
    return y, final, Tape(stack, parameters, x.shape, state is not None, groups)


def backward(tape: Tape, dy: np.ndarray, dstate: Arrays | None = None) -> tuple[np.ndarray, Arrays, Arrays]:
    """∂loss/∂x (N, T, I), ∂loss/∂(initial state) and ∂loss/∂parameters for ∂loss/∂y and ∂loss/∂(final state).

    A learnt initial state gets the sum over sequences of the gradient of the initial state, where it served as such.
    """
    stack, parameters = tape.stack, tape.parameters
    P, D = stack.output_size, stack.directions
    dx = np.zeros(tape.shape)
    d_initial = {name: np.zeros(shape) for name, shape in stack.state_shapes(tape.shape[0]).items()}
    gradient = {name: np.zeros(shape) for name, shape in stack.shapes().items()}
    for group in tape.groups:
        n, length = len(group.rows), group.length
        d_above = np.asarray(dy, dtype=np.float64)[group.rows, :length]
        for layer in reversed(range(stack.num_layers)):
            d_below = np.zeros((n, length, stack.sizes(layer).I))
            for run_layer, direction, suffix in stack.runs():
                if run_layer != layer:
                    continue
                run = layer * D + direction
                p = stack.of_run(parameters, layer, suffix)
                d_now = {name: np.zeros((n, width)) for name, width in stack.states().items()}
                if dstate is not None:
                    d_now = {name: np.asarray(dstate[name], dtype=np.float64)[run, group.rows] for name in d_now}
                for t, saved in reversed(list(zip(_order(length, direction), group.saved[suffix], strict=True))):
                    d_now["h"] = d_now["h"] + d_above[:, t, direction * P : (direction + 1) * P]
                    d_x, d_now, of_step = stack.module.backward(p, d_now, saved, stack.options)
                    d_below[:, t] += d_x
                    for kind, value in of_step.items():
                        gradient[kind + suffix] += value
                for name in d_initial:
                    d_initial[name][run, group.rows] = d_now[name]
                    if stack.learn_initial_state and not tape.state_given:
                        gradient[f"{name}0{suffix}"] += d_now[name].sum(axis=0)
            d_above = d_below
        dx[group.rows, :length] = d_above
    return dx, d_initial, gradient
