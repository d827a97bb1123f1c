"""Random networks of the edge runtime: every cell, option, kind and storage, with weights that use the whole range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmcore.edge.program import CELLS, Dense, Layer, Matrix, Program, pad4

Array = NDArray[Any]

#: Every cell with its options.
CELL_OPTIONS: list[tuple[str, frozenset[str]]] = [
    ("elman", frozenset()),
    ("elman", frozenset({"relu"})),
    ("lstm", frozenset()),
    ("lstm", frozenset({"coupled"})),
    ("lstm", frozenset({"peepholes"})),
    ("lstm", frozenset({"coupled", "peepholes"})),
    ("gru", frozenset()),
    ("gru_reset_before", frozenset()),
    ("slstm", frozenset()),
    ("slstm", frozenset({"exponential_forget"})),
]
LIMITS = {"int8": 127, "int16": 32767, "float32": 0}


def random_matrix(
    rng: np.random.Generator,
    rows: int,
    parts: list[tuple[int, int]],
    kind: str,
    storage: str,
    unit: float,
    gates: int = 1,
) -> Matrix:
    """rows: units of each of `gates` gates; parts: (columns, limit) side by side, each padded to four on its own.

    unit: what a result of 1.0 is in the runtime's fixed point. Sums fit 32 bits for every input within the limits.
    """
    widths = [pad4(columns) for columns, _ in parts]
    weights = np.zeros((gates, pad4(rows), sum(widths)))
    limits = np.zeros(sum(widths))
    at = 0
    for (columns, limit), width in zip(parts, widths, strict=True):
        weights[:, :rows, at : at + columns] = rng.uniform(-1, 1, (gates, rows, columns))
        limits[at : at + width] = limit
        at += width
    bias = np.zeros((gates, pad4(rows)))
    bias[:, :rows] = rng.uniform(-1, 1, (gates, rows))
    # [group of four units][gate][four units]
    weights = weights.reshape(gates, -1, 4, weights.shape[2]).transpose(1, 0, 2, 3).reshape(-1, weights.shape[2])
    bias = bias.reshape(gates, -1, 4).transpose(1, 0, 2).ravel()
    if kind == "float32":
        return Matrix(weights.astype(np.float32), bias.astype(np.float32), None, 0, "float32")
    most = 7 if storage == "int4" else 127
    whole = np.rint(weights * most).astype(np.int8)
    if storage == "sparse":
        keep = rng.random((whole.shape[0] // 4, whole.shape[1] // 4)) < 0.4
        whole *= np.kron(keep, np.ones((4, 4), np.int8)).astype(np.int8)
    factor = 16 if storage == "int4" else 1
    first_shift = int(rng.integers(0, 4)) if len(parts) == 2 else 0
    times = np.ones(whole.shape[1], np.int64)
    if first_shift:
        times[: widths[0]] = 2**first_shift
    sums = np.abs(whole.astype(np.int64)) @ (limits.astype(np.int64) * times) * factor
    biases = np.rint(bias * 0.2 * sums.max() / 2**first_shift).astype(np.int64)
    worst = int((sums + np.abs(biases) * 2**first_shift).max())
    shift = max(0, min(12, 30 - worst.bit_length()))
    # The largest sum is a pre-activation between 2 and 16, so that saturation is met, and seldom.
    reach = rng.uniform(2, 16, sums.shape) * unit / max(worst, 1)
    multiplier = np.minimum(np.rint(reach * 2.0 ** (32 - shift)), 2**30 - 1).astype(np.int32)
    return Matrix(
        whole, biases.astype(np.int32), multiplier, shift, storage, widths[0] // 4 if first_shift else 0, first_shift
    )


def random_layer(
    rng: np.random.Generator, cell: str, options: frozenset[str], kind: str, storage: str, inputs: int, hidden: int,
    x_limit: int, limit: int,
) -> Layer:  # fmt: skip
    x, h = (inputs, x_limit), (hidden, limit)
    shapes = {
        "elman": [(1, [x, h])],
        "lstm": [(3 if "coupled" in options else 4, [x, h])],
        "gru": [(2, [x, h]), (1, [x]), (1, [h])],
        "gru_reset_before": [(1, [x, h]), (1, [x, h]), (1, [x]), (1, [h])],
        "slstm": [(4, [x, h])],
    }[cell]
    width, real = pad4(hidden), kind == "float32"
    matrices = tuple(random_matrix(rng, hidden, parts, kind, storage, 4096.0, gates) for gates, parts in shapes)
    peepholes = None
    if "peepholes" in options:
        peepholes = np.zeros((3, width))
        peepholes[:, :hidden] = rng.uniform(-1, 1, (3, hidden))
        peepholes = (peepholes.astype(np.float32) if real else np.rint(peepholes * 2**12).astype(np.int16)).ravel()
    initial: dict[str, Array] = {}
    if rng.random() < 0.3:
        values = np.zeros(width)
        values[:hidden] = rng.uniform(-1, 1, hidden)
        initial["initial_h"] = values.astype(np.float32) if real else np.rint(values * limit).astype(np.int16)
        if cell == "lstm" or (cell != "elman" and cell != "slstm" and not real):
            initial["initial_cells"] = values.astype(np.float32) if real else np.rint(values * 4096).astype(np.int16)
    scale: dict[str, int] = {"output_multiplier": limit if limit < 32767 else 40000}
    if "relu" in options:
        scale = {"output_multiplier": int(limit / 4 * 2**8), "output_shift": 20}
    return Layer(
        cell, inputs, hidden, matrices, options, peepholes, limit=limit or 1, cell_bits=int(rng.integers(10, 14)),
        peephole_bits=12, **initial, **(scale if not real else {}),
    )  # fmt: skip


def random_program(
    rng: np.random.Generator,
    cell: str = "lstm",
    options: frozenset[str] = frozenset(),
    kind: str = "int8",
    storage: str = "int8",
    *,
    inputs: int = 3,
    hidden: int = 5,
    layers: int = 1,
    directions: int = 1,
    pooling: str = "last",
    head: tuple[tuple[int, str], ...] = (),
    outputs: int = 3,
    softmax: bool = True,
) -> Program:
    """head: (units, activation) of hidden layers. kind: "int8", "int16", "float32"."""
    assert cell in CELLS
    storage = "float32" if kind == "float32" else storage
    limit = LIMITS[kind]
    if kind == "int16":  # so that 127 · limit · columns fits 31 bits with a bias
        limit = min(limit, 2**29 // (127 * 4 * (pad4(directions * hidden) + pad4(hidden) + pad4(inputs))))
        if storage == "int4":
            limit = min(limit, 2**29 // (7 * 16 * 4 * (pad4(directions * hidden) + pad4(hidden) + pad4(inputs))))
    built = []
    width, x_limit = inputs, limit
    for _ in range(layers):
        for _ in range(directions):
            built.append(random_layer(rng, cell, options, kind, storage, width, hidden, x_limit, limit))
        width, x_limit = directions * hidden, limit
    dense = []
    for units, activation in head:
        matrix = random_matrix(rng, units, [(width, limit)], kind, storage, 4096.0)
        scale = int(limit / 4 * 2**8)
        dense.append(Dense(matrix, units, activation, limit or 1, scale if kind != "float32" else 0, 20))
        width = units
    dense.append(Dense(random_matrix(rng, outputs, [(width, limit)], kind, storage, 65536.0), outputs))
    return Program(
        kind=kind,
        layers=tuple(built),
        dense=tuple(dense),
        directions=directions,
        pooling=pooling,
        centre=rng.uniform(-1, 1, inputs).astype(np.float32),
        scale=rng.uniform(0.5, 1, inputs).astype(np.float32) * np.float32(max(limit, 1)),
        input_limit=limit or 1,
        softmax=softmax,
        output_mean=np.linspace(-1, 1, outputs),
        output_scale=np.full(outputs, 2.0),
    )
