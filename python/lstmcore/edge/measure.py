"""Compares a quantised program with the float network, layer by layer, by running it.

What a layer gives is read off the runtime itself: from a program that ends behind that layer, with a head that passes
activations on as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import SELU_SCALE, Observed, activate, pool
from .host import start
from .integers import ACTIVATION_BITS, OUTPUT_BITS, zero_blocks
from .network import EdgeNetwork, Part
from .program import Dense, Layer, Matrix, Program, pad4
from .report import LayerReport, errors

__all__ = ["dequantised", "layer_reports", "output_unit", "weight_bytes"]

Array = NDArray[Any]


def output_unit(layer: Layer | Dense) -> float:
    """What one unit of a layer's activations stands for."""
    if isinstance(layer, Layer) and "relu" not in layer.options:
        return 1.0 / layer.output_multiplier
    factor = SELU_SCALE if isinstance(layer, Dense) and layer.activation == "selu" else 1.0
    return factor * 2.0 ** (layer.output_shift - ACTIVATION_BITS) / layer.output_multiplier


def dequantised(matrix: Matrix, bits: int) -> tuple[Array, Array]:
    """Weights (rows, columns) and biases (rows,) that the integers stand for, for one unit of each activation."""
    if matrix.multiplier is None:
        return matrix.weights.astype(np.float64), matrix.bias.astype(np.float64)
    unit = matrix.multiplier * 2.0 ** (matrix.shift - 32 - bits)
    factor = 16 if matrix.storage == "int4" else 1
    times = np.ones(matrix.weights.shape[1])
    times[: 4 * matrix.first_blocks] = 2.0**matrix.first_shift
    return matrix.weights * (factor * unit)[:, None] * times, matrix.bias * unit * 2.0**matrix.first_shift


def layer_reports(network: EdgeNetwork, seen: Observed, program: Program, X: list[Array]) -> tuple[LayerReport, ...]:
    """One for the input, each recurrent layer and each layer of the head. X: (T_i, I) arrays, as `seen` saw them."""
    integers = program.kind != "float32"
    limit = program.input_limit if integers else None
    measured = [np.ascontiguousarray(x, dtype=np.float32) for x in X]
    model = start(program)
    D = network.directions
    unit = network.scale / program.scale.astype(np.float64)
    offset = (program.centre.astype(np.float64) - network.centre) * network.scale
    standardised = (seen.inputs - network.centre) * network.scale
    found = np.concatenate([model.quantise(x) for x in measured]) * unit
    reports = [_report("input", standardised - offset, found, unit, limit, [], [])]
    below = unit if integers else np.ones_like(unit)
    for k in range(len(program.layers) // D):
        layers, runs = program.layers[k * D : (k + 1) * D], network.runs[k * D : (k + 1) * D]
        pairs, units = [], []
        for layer, run in zip(layers, runs, strict=True):
            units.append(np.full(layer.hidden, output_unit(layer) if integers else 1.0))
            for matrix, part in zip(layer.matrices, run.parts, strict=True):
                pairs.append((part.rows(below, units[-1])[0], dequantised(matrix, ACTIVATION_BITS)[0]))
        below = np.concatenate(units)
        given = _run(_probe(program, (k + 1) * D), measured) * below
        matrices = [matrix for layer in layers for matrix in layer.matrices]
        expected = np.concatenate(seen.layer_outputs[k])
        reports.append(_report(f"layer {k}", expected, given, below, limit, pairs, matrices))
    values = pool(network, seen.layer_outputs[-1])
    for k, (dense, head) in enumerate(zip(program.dense, network.head, strict=True)):
        last = k == len(program.dense) - 1
        part = Part(head.name, head.weights[None], None, head.bias[None])
        rows = part.rows(below, np.zeros(0))[0]
        pairs = [(rows, dequantised(dense.matrix, OUTPUT_BITS if last else ACTIVATION_BITS)[0])]
        values = values @ head.weights.T + head.bias
        if last:
            scores = _run(program, measured) * (2.0**-OUTPUT_BITS if integers else 1.0)
            reports.append(_report(head.name, values, scores, below[:1], None, pairs, [dense.matrix]))
            break
        values = activate(values, head.activation)
        below = np.full(dense.outputs, output_unit(dense) if integers else 1.0)
        given = _run(_probe_head(program, k + 1), measured) * below
        reports.append(_report(head.name, values, given, below, limit, pairs, [dense.matrix]))
    return tuple(reports)


def _run(program: Program, X: list[Array]) -> Array:
    """All outputs, one row after the other, float64."""
    outputs: Array = start(program).run(X).astype(np.float64)
    return outputs


def _report(
    name: str,
    expected: Array,
    given: Array,
    unit: Array,
    limit: int | None,
    pairs: list[tuple[Array, Array]],
    matrices: list[Matrix],
) -> LayerReport:
    """unit: of its activations; limit: their largest, None for none; pairs: weights and what became of them."""
    relative = [np.zeros(0)]
    for rows, kept in pairs:
        largest = np.abs(rows).max(axis=1, keepdims=True)
        used = largest[:, 0] > 0
        relative.append(((kept - rows)[used] / largest[used]).ravel())
    weight_max, weight_rms = errors(np.concatenate(relative), np.zeros(1))
    output_max, output_rms = errors(given, expected)
    return LayerReport(
        name=name,
        largest=float(np.abs(expected).max()),
        covered=0.0 if limit is None else float(limit * unit.max()),
        weight_error_max=weight_max,
        weight_error_rms=weight_rms,
        output_error_max=output_max,
        output_error_rms=output_rms,
        saturated=0 if limit is None else int((np.abs(expected) > (limit + 0.5) * unit).sum()),
        values=int(expected.size),
        zero_blocks=float(np.mean([zero_blocks(matrix.weights) for matrix in matrices])) if matrices else 0.0,
        weight_bytes=sum(weight_bytes(matrix) for matrix in matrices),
    )


def weight_bytes(matrix: Matrix) -> int:
    """Of constants on the device: weights, lists of blocks, biases, multipliers."""
    arrays = [*matrix.packed(), matrix.bias, matrix.multiplier]
    return sum(array.nbytes for array in arrays if array is not None)


def _probe(program: Program, count: int) -> Program:
    """The first `count` runs, whose last layer's activations are the outputs at every step."""
    layers = program.layers[:count]
    width = program.directions * layers[-1].hidden
    return replace(program, layers=layers, pooling="none", dense=(_pass_on(program, width),))


def _probe_head(program: Program, count: int) -> Program:
    """All recurrent layers and the first `count` layers of the head, whose activations are the outputs."""
    dense = program.dense[:count]
    return replace(program, dense=(*dense, _pass_on(program, dense[-1].outputs)))


def _pass_on(program: Program, width: int) -> Dense:
    rows = pad4(width)
    zeros = np.zeros(rows)
    if program.kind == "float32":
        matrix = Matrix(np.eye(rows, dtype=np.float32), zeros.astype(np.float32), None, storage="float32")
    else:
        # (1·a · 2^4)·2^28 / 2^32 = a
        matrix = Matrix(np.eye(rows, dtype=np.int8), zeros.astype(np.int32), np.full(rows, 2**28, dtype=np.int32), 4)
    return Dense(matrix, width, "linear", program.input_limit or 127)
