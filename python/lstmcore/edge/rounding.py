"""Weights as integers will have them, in the network's own tensors: what fine-tuning trains with.

The same rows share a scale as in the program (integers.py), and the columns' scales are those of the calibrated ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .integers import round_rows
from .measure import output_unit
from .network import EdgeNetwork
from .program import Program

__all__ = ["RowGroup", "rounded", "row_groups"]

Array = NDArray[Any]


@dataclass(frozen=True)
class RowGroup:
    """Rows that have one scale each over several tensors: rows `rows` of each of `tensors`, whose columns' activations
    stand for `units` (one array for each tensor).

    bias, offset: of a first layer, whose integers lie around `offset` in units of the first tensor's columns: the program
    has the exact W·offset in its biases, so that only what differs from it meets rounded weights.
    """

    rows: slice
    tensors: tuple[str, ...]
    units: tuple[Array, ...]
    bias: str = ""
    offset: Array | None = None


def row_groups(network: EdgeNetwork, program: Program) -> list[RowGroup]:
    """All weights that become integers of 8 or 4 bits."""
    groups = []
    D = network.directions
    below = network.scale / program.scale.astype(np.float64)
    offset: Array | None = (program.centre.astype(np.float64) - network.centre) * network.scale
    for first in range(0, len(network.runs), D):
        units = []
        for k in range(first, first + D):
            run = network.runs[k]
            suffix = f"_l{run.run.layer}" + ("_reverse" if run.run.direction else "")
            H, own = run.hidden, output_unit(program.layers[k])
            units.append(np.full(H, own))
            tensors = ("W" + suffix, "R" + suffix)
            columns = (below, np.full(run.run.weights["R"].shape[1], own))
            bias = "b" + suffix
            if run.cell in ("gru", "gru_reset_before"):
                groups.append(RowGroup(slice(0, 2 * H), tensors, columns, bias, offset))
                groups.append(RowGroup(slice(2 * H, 3 * H), tensors[:1], columns[:1], bias, offset))
                groups.append(RowGroup(slice(2 * H, 3 * H), tensors[1:], columns[1:]))
            else:
                groups.append(RowGroup(slice(0, None), tensors, columns, bias, offset))
        below, offset = np.concatenate(units), None
    for k, dense in enumerate(program.dense):
        name = "head_W" if k == len(program.dense) - 1 else f"head_W_l{k}"
        groups.append(RowGroup(slice(0, None), (name,), (below,)))
        if name != "head_W":
            below = np.full(dense.outputs, output_unit(dense))
    return groups


def rounded(parameters: dict[str, Array], groups: list[RowGroup], storage: str) -> dict[str, Array]:
    """The tensors of `groups` with every weight moved to what an integer stands for, and biases as the program has them;
    the others are left out."""
    result: dict[str, Array] = {}
    for group in groups:
        parts = [parameters[name][group.rows] for name in group.tensors]
        scaled = [part * units for part, units in zip(parts, group.units, strict=True)]
        integers, scale = round_rows(np.concatenate(scaled, axis=1), storage)
        values = np.split(integers * scale[:, None], np.cumsum([part.shape[1] for part in parts])[:-1], axis=1)
        for name, value, units in zip(group.tensors, values, group.units, strict=True):
            if name not in result:
                result[name] = np.array(parameters[name], dtype=np.float64)
            result[name][group.rows] = value / units
        if group.offset is not None:
            if group.bias not in result:
                result[group.bias] = np.array(parameters[group.bias], dtype=np.float64)
            moved = parts[0].astype(np.float64) - result[group.tensors[0]][group.rows]
            result[group.bias][group.rows] += moved @ group.offset
    return {name: value.astype(parameters[name].dtype) for name, value in result.items()}
