"""A trained network → the program of the edge runtime: integers with ranges from calibration data, or float32.

Shape letters: I input features, H hidden units, D directions, L layers, K outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import SELU_SCALE, Observed, clip_of, means
from .integers import ACTIVATION_BITS, OUTPUT_BITS, WideSum, integer_matrix, round_rows
from .network import EdgeNetwork, EdgeRun, HeadLayer, Part
from .program import Dense, Layer, Matrix, Program, pad4

__all__ = ["SCHEMES", "float_program", "integer_program"]

Array = NDArray[Any]

#: Scheme → the program's kind.
SCHEMES = {"int8": "int8", "int8x16": "int16", "float32": "float32"}

_LIMITS = {"int8": 127, "int16": 32767}
_INT16 = 32767
# The cell state may grow beyond what calibration saw: it is cut off at this many times its largest value, or later.
_CELL_HEADROOM = 1.25
# Outputs without bound may come out larger than the float network's; 16 bits can spare room for that, 8 cannot.
_OUTPUT_HEADROOM = 1.25


@dataclass(frozen=True)
class _Activations:
    """What one unit of an activation stands for: (columns,), and how it comes about."""

    unit: Array
    multiplier: int = 0
    shift: int = 15


@dataclass(frozen=True)
class _Inputs:
    """What a layer reads: x = unit·activation + offset, and the mean activations of x and h."""

    unit: Array
    offset: Array
    mean_x: Array
    mean_h: Array


def integer_program(network: EdgeNetwork, seen: Observed, kind: str, storage: str, ranges: str) -> Program:
    """kind: "int8" or "int16"; storage: "int8" or "int4"; ranges: see `calibration.clip_of`.

    ValueError for weights or states that integers cannot hold.
    """
    limit = _LIMITS[kind]
    for _ in range(20):
        try:
            return _with_limit(network, seen, kind, storage, ranges, limit)
        except WideSum as wide:
            limit = max(128, int(limit * wide.factor))
    raise ValueError(
        f"quantize: layers of {max(run.hidden for run in network.runs)} units are too wide for scheme='int8x16'. Use "
        "scheme='int8' or 'float32'."
    )


def _with_limit(network: EdgeNetwork, seen: Observed, kind: str, storage: str, ranges: str, limit: int) -> Program:
    centre, scale, below, offset = _input(network, seen.inputs, limit, ranges)
    expected, expected_head = means(network, seen)
    D = network.directions
    layers = []
    for first in range(0, len(network.runs), D):
        units = []
        for k in range(first, first + D):
            run = network.runs[k]
            own = _output(run, seen.outputs[k], limit, ranges)
            from_below = _Inputs(below, offset, (expected[k][0] - offset) / below, expected[k][1] / own.unit)
            layers.append(_layer(run, seen.cells[k], kind, storage, limit, from_below, own))
            units.append(np.repeat(own.unit, run.hidden))
        below = np.concatenate(units)
        offset = np.zeros_like(below)
    dense = []
    for k, layer in enumerate(network.head[:-1]):
        factor = SELU_SCALE if layer.activation == "selu" else 1.0
        own = _scaled_output(seen.hidden[k], limit, ranges, layer.name, factor)
        from_below = _Inputs(below, np.zeros_like(below), expected_head[k] / below, np.zeros(0))
        dense.append(_dense(layer, from_below, limit, ACTIVATION_BITS, storage, own))
        below = np.repeat(own.unit, len(layer.bias))
    from_below = _Inputs(below, np.zeros_like(below), expected_head[-1] / below, np.zeros(0))
    dense.append(_dense(network.head[-1], from_below, limit, OUTPUT_BITS, storage, None))
    return Program(
        kind=kind,
        layers=tuple(layers),
        dense=tuple(dense),
        directions=D,
        pooling=network.pooling,
        centre=centre,
        scale=scale,
        input_limit=limit,
        softmax=network.softmax,
        output_mean=network.output_mean,
        output_scale=network.output_scale,
    )


def _input(network: EdgeNetwork, x: Array, limit: int, ranges: str) -> tuple[Array, Array, Array, Array]:
    """centre and scale (I,) float32; what one unit of each activation stands for in the network's standardised input,
    and where there the centre lies."""
    low, high = x.min(axis=0), x.max(axis=0)
    middle = ((low + high) / 2).astype(np.float32)
    half = np.empty(len(middle))
    for k in range(len(middle)):
        around = x[:, k] - np.float64(middle[k])
        half[k] = clip_of(around, limit, ranges)
        if not high[k] - low[k] > 1e-6 * max(abs(low[k]), abs(high[k])):
            # A constant says nothing about a range: one standard deviation of the training data, either way.
            half[k] = 1.0 / abs(network.scale[k])
    with np.errstate(over="ignore", under="ignore"):
        scale = (limit / half).astype(np.float32)
    for k in range(len(scale)):
        if not (np.isfinite(scale[k]) and scale[k] >= np.finfo(np.float32).tiny and np.isfinite(middle[k])):
            raise ValueError(
                f"quantize: X_calibration: feature {k} lies in [{low[k]:g}, {high[k]:g}], which float32 cannot scale "
                "to integers. Rescale the feature before fitting."
            )
    unit = network.scale / scale.astype(np.float64)
    return middle, scale, unit, (middle.astype(np.float64) - network.centre) * network.scale


def _output(run: EdgeRun, h: Array, limit: int, ranges: str) -> _Activations:
    """How h of a run becomes activations."""
    start = run.run.start["h"]
    if not run.bounded:
        return _scaled_output(np.concatenate([h, start[None]]), limit, ranges, run.name)
    if run.cell in ("gru", "gru_reset_before") and (np.abs(start) > 1.0).any():
        raise ValueError(
            f"quantize: {run.name}: the learnt initial h reaches {np.abs(start).max():.3g}, but integers end at 1. "
            "Train with learn_initial_state=False, or use scheme='float32'."
        )
    clip = max(clip_of(np.concatenate([h, start[None]]), limit, ranges), limit / 65535)
    multiplier = int(np.clip(np.rint(limit / clip), 1, 65535))
    return _Activations(np.array([1.0 / multiplier]), multiplier)


def _scaled_output(values: Array, limit: int, ranges: str, name: str, factor: float = 1.0) -> _Activations:
    """Of values without bound, which the runtime has in Q12, divided by `factor`."""
    clip = max(clip_of(values, limit, ranges), 2.0**-8) * (_OUTPUT_HEADROOM if limit > 127 else 1.0)
    if clip * 2.0**ACTIVATION_BITS >= 2.0**29:
        raise ValueError(
            f"quantize: {name}: outputs reach {clip:.3g}, where the runtime ends at 131072. Train with clip_norm, "
            "max_norm or alpha, or use scheme='float32'."
        )
    exact = factor * limit / clip / 2.0**ACTIVATION_BITS
    shift = 24 - math.ceil(math.log2(exact))  # a multiplier of 24 bits
    shift = min(max(shift, 1), 60)
    multiplier = round(exact * 2.0**shift)
    return _Activations(np.array([factor * 2.0**shift / (multiplier * 2.0**ACTIVATION_BITS)]), multiplier, shift)


def _matrix(part: Part, name: str, below: _Inputs, h_unit: Array, limit: int, bits: int, storage: str) -> Matrix:
    if part.x is not None:
        part = replace(part, bias=part.bias + part.x @ below.offset)
    rows, bias = part.rows(below.unit, h_unit)
    given = [_padded(below.mean_x)] if part.x is not None else []
    if part.h is not None:
        # With the reset gate before the product it reads r⊙h, of which no mean is known.
        given.append(np.zeros(pad4(part.h.shape[2])) if part.reads_reset else _padded(below.mean_h))
    integers, scale = round_rows(rows, storage)
    bias = bias + (rows - integers * scale[:, None]) @ np.concatenate(given)
    return integer_matrix(rows, bias, limit, bits, storage, f"{name}, {part.name}" if name else part.name)


def _layer(
    run: EdgeRun,
    cells: Array | None,
    kind: str,
    storage: str,
    limit: int,
    below: _Inputs,
    own: _Activations,
) -> Layer:
    dtype = np.int8 if kind == "int8" else np.int16
    start = run.run.start
    cell_bits = (
        _cell_bits(np.concatenate([cells, start["c"][None]])) if cells is not None and run.cell == "lstm" else 12
    )
    peepholes, peephole_bits = _peepholes(run, cell_bits)
    initial_cells, stabilisers = _initial_state(run, cell_bits)
    h = np.rint(start["h"] / own.unit)
    unit = np.repeat(own.unit, run.hidden)
    return Layer(
        cell=run.cell,
        inputs=run.inputs,
        hidden=run.hidden,
        matrices=tuple(_matrix(p, run.name, below, unit, limit, ACTIVATION_BITS, storage) for p in run.parts),
        options=run.options,
        peepholes=peepholes,
        initial_h=_padded(np.clip(h, -limit, limit)).astype(dtype) if h.any() else None,
        initial_cells=initial_cells,
        initial_stabilisers=stabilisers,
        limit=limit,
        output_multiplier=own.multiplier,
        output_shift=own.shift,
        cell_bits=cell_bits,
        peephole_bits=peephole_bits,
    )


def _cell_bits(c: Array) -> int:
    largest = float(np.abs(c).max()) * _CELL_HEADROOM
    return min(max(math.floor(math.log2(_INT16 / max(largest, 1e-3))), 4), 15)


def _peepholes(run: EdgeRun, cell_bits: int) -> tuple[Array | None, int]:
    if run.peepholes is None:
        return None, 12
    largest = float(np.abs(run.peepholes).max())
    bits = math.floor(math.log2(_INT16 / max(largest, 1e-9)))
    if bits < max(0, 13 - cell_bits):
        raise ValueError(
            f"quantize: {run.name}: peephole weights reach {largest:.3g} with cell states up to "
            f"{2.0 ** (15 - cell_bits):g}, too large for integers. Train with a smaller learning rate, or use "
            "scheme='float32'."
        )
    bits = min(bits, 15)
    values = np.clip(np.rint(run.peepholes * 2.0**bits), -_INT16, _INT16)
    return np.concatenate([_padded(row) for row in values]).astype(np.int16), bits


def _initial_state(run: EdgeRun, cell_bits: int) -> tuple[Array | None, Array | None]:
    """Cells (columns·h_width,) int16 and stabilisers (h_width,) int32 before the first step; None for zeros."""
    start = run.run.start
    if not any(value.any() for value in start.values()):
        return None, None
    if run.cell == "lstm":
        return _padded(np.clip(np.rint(start["c"] * 2.0**cell_bits), -_INT16, _INT16)).astype(np.int16), None
    if run.cell in ("gru", "gru_reset_before"):
        return _padded(np.clip(np.rint(start["h"] * 2.0**15), -_INT16, _INT16)).astype(np.int16), None
    if run.cell == "slstm":
        return _slstm_state(run)
    return None, None


def _slstm_state(run: EdgeRun) -> tuple[Array, Array]:
    """c and n in Q14 with n in [1, 2), and m in Q12: they stand for c·e^m and n·e^m."""
    c, n, m = (run.run.start[name] for name in ("c", "n", "m"))
    if ((n <= 0) & ((c != 0) | (n != 0))).any() or (np.abs(c) > np.abs(n)).any():
        raise ValueError(
            f"quantize: {run.name}: the learnt initial state has n ≤ 0 or |c| > n somewhere, which the integer slstm "
            "cannot hold. Train with learn_initial_state=False, or use scheme='float32'."
        )
    used = n > 0
    power = np.where(used, np.floor(np.log2(np.where(used, n, 1.0))), 0.0)
    cells = [_padded(np.clip(np.rint(v * 2.0 ** (14 - power)), -_INT16, _INT16)) for v in (c, n)]
    stabilisers = np.rint((m + power * math.log(2.0)) * 2.0**ACTIVATION_BITS)
    return np.concatenate(cells).astype(np.int16), _padded(np.clip(stabilisers, -(2**29), 2**29)).astype(np.int32)


def _dense(layer: HeadLayer, below: _Inputs, limit: int, bits: int, storage: str, own: _Activations | None) -> Dense:
    # A head's rows have no gates, so they are groups of four as they come.
    part = Part(layer.name, layer.weights[None], None, layer.bias[None])
    matrix = _matrix(part, "", below, np.zeros(0), limit, bits, storage)
    if own is None:
        return Dense(matrix, len(layer.bias), "linear", limit)
    return Dense(matrix, len(layer.bias), layer.activation, limit, own.multiplier, own.shift)


def _padded(values: Array) -> Array:
    result = np.zeros(pad4(len(values)))
    result[: len(values)] = values
    return result


# --- float32 ---------------------------------------------------------------------------------------------------------


def float_program(network: EdgeNetwork) -> Program:
    """The same network with float32 throughout; no ranges needed."""
    layers = tuple(_float_layer(run) for run in network.runs)
    dense = []
    for layer in network.head:
        part = Part(layer.name, layer.weights[None], None, layer.bias[None])
        dense.append(Dense(_float_matrix(part), len(layer.bias), layer.activation))
    return Program(
        kind="float32",
        layers=layers,
        dense=tuple(dense),
        directions=network.directions,
        pooling=network.pooling,
        centre=network.centre.astype(np.float32),
        scale=network.scale.astype(np.float32),
        input_limit=0,
        softmax=network.softmax,
        output_mean=network.output_mean,
        output_scale=network.output_scale,
    )


def _float_matrix(part: Part) -> Matrix:
    ones = np.ones(1)
    rows, bias = part.rows(ones, ones)
    with np.errstate(over="ignore", under="ignore"):
        matrix = Matrix(rows.astype(np.float32), bias.astype(np.float32), None, storage="float32")
    if not (np.isfinite(matrix.weights).all() and np.isfinite(matrix.bias).all()):
        raise ValueError(f"quantize: {part.name}: a weight is too large for float32.")
    return matrix


def _float_layer(run: EdgeRun) -> Layer:
    start = run.run.start
    initial_h = initial_cells = None
    if any(value.any() for value in start.values()):
        initial_h = _padded(start["h"]).astype(np.float32)
        names = [name for name in ("c", "n", "m") if name in start]
        if names:
            initial_cells = np.concatenate([_padded(start[name]) for name in names]).astype(np.float32)
    peepholes = None
    if run.peepholes is not None:
        peepholes = np.concatenate([_padded(row) for row in run.peepholes]).astype(np.float32)
    return Layer(
        cell=run.cell,
        inputs=run.inputs,
        hidden=run.hidden,
        matrices=tuple(_float_matrix(part) for part in run.parts),
        options=run.options,
        peepholes=peepholes,
        initial_h=initial_h,
        initial_cells=initial_cells,
    )
