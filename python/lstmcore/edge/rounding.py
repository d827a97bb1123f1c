"""Weights as integers will have them, in the network's own tensors: what fine-tuning trains with.

The same rows share a scale as in the program (integers.py), and the columns' scales are those of the calibrated ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import Observed, means
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

    bias, means: the bias that takes back what rounding moves on average, and the mean of what each tensor reads;
    "" where there is none.
    """

    rows: slice
    tensors: tuple[str, ...]
    units: tuple[Array, ...]
    bias: str
    means: tuple[Array, ...]


def row_groups(network: EdgeNetwork, program: Program, seen: Observed) -> list[RowGroup]:
    """All weights that become integers of 8 or 4 bits. seen: what the program's ranges are from."""
    groups = []
    D = network.directions
    runs, head = means(network, seen)
    below = network.scale / program.scale.astype(np.float64)
    for first in range(0, len(network.runs), D):
        units = []
        for k in range(first, first + D):
            run = network.runs[k]
            suffix = f"_l{run.run.layer}" + ("_reverse" if run.run.direction else "")
            H, own = run.hidden, output_unit(program.layers[k])
            units.append(np.full(H, own))
            names = ("W" + suffix, "R" + suffix)
            columns = (below, np.full(run.run.weights["R"].shape[1], own))
            b = "b" + suffix
            if run.cell in ("gru", "gru_reset_before"):
                bR = "bR" + suffix if run.cell == "gru" else ""
                groups.append(RowGroup(slice(0, 2 * H), names, columns, b, runs[k]))
                groups.append(RowGroup(slice(2 * H, 3 * H), names[:1], columns[:1], b, runs[k][:1]))
                groups.append(RowGroup(slice(2 * H, 3 * H), names[1:], columns[1:], bR, runs[k][1:]))
            else:
                groups.append(RowGroup(slice(0, None), names, columns, b, runs[k]))
        below = np.concatenate(units)
    for k, dense in enumerate(program.dense):
        last = k == len(program.dense) - 1
        name, b = ("head_W", "head_b") if last else (f"head_W_l{k}", f"head_b_l{k}")
        groups.append(RowGroup(slice(0, None), (name,), (below,), b, (head[k],)))
        if not last:
            below = np.full(dense.outputs, output_unit(dense))
    return groups


def rounded(parameters: dict[str, Array], groups: list[RowGroup], storage: str) -> dict[str, Array]:
    """Weights moved to what an integer stands for, and biases as the program has them; other tensors are left out."""
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
        if group.bias:
            if group.bias not in result:
                result[group.bias] = np.array(parameters[group.bias], dtype=np.float64)
            for name, part, mean in zip(group.tensors, parts, group.means, strict=True):
                moved = part.astype(np.float64) - result[name][group.rows]
                result[group.bias][group.rows] += _along(moved, mean)
    return {name: value.astype(parameters[name].dtype) for name, value in result.items()}


def _along(moved: Array, mean: Array) -> Array:
    """moved·mean for each row; with heads, rows of fewer columns than h has units read those of their own head."""
    H, width = len(mean), moved.shape[1]
    if width == H:
        result: Array = moved @ mean
        return result
    unit = np.arange(len(moved)) % H
    own = (unit // width * width)[:, None] + np.arange(width)
    return np.asarray((moved * mean[own]).sum(axis=1))
