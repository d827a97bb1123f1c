"""The networks that are run on emulated chips, and what the desktop says of them.

Every cell and option with every kind of numbers, every storage of weights, layers, directions, poolings and heads, with
random weights that use the whole range (`edge_programs.py`). Small, so that ten thousand sequences take seconds.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_programs import CELL_OPTIONS, random_program
from lstmcore import _core
from lstmcore.edge.program import Program

__all__ = ["STEPS", "desktop_hash", "desktop_saturated_hash", "measured_networks", "networks"]

Array = NDArray[Any]

#: T of every sequence.
STEPS = 6
KINDS = ("int8", "int16", "float32")
#: I and H of the networks whose instructions and memory are reported; K is 4.
MEASURED_SHAPES = ((10, 20), (16, 64), (64, 128))

_SCHEMES = {"int8": "int8", "int16": "int8x16", "float32": "float32"}
_FNV_START, _FNV_PRIME = 2166136261, 16777619


def networks() -> dict[str, Program]:
    """Name in C → network; activations are what the generator of drive.h makes."""
    wanted: dict[str, dict[str, Any]] = {}

    def add(name: str, cell: str, options: frozenset[str] = frozenset(), **more: Any) -> None:
        wanted[f"{name}_{_SCHEMES[more.get('kind', 'int8')]}"] = {"cell": cell, "options": options, **more}

    for kind in KINDS:
        for cell, options in CELL_OPTIONS:
            add("_".join([cell, *sorted(options)]), cell, options, kind=kind, inputs=3, hidden=6)
        add("lstm_stacked", "lstm", kind=kind, layers=2, hidden=7)
        add("gru_stacked", "gru", kind=kind, layers=3, hidden=4, pooling="max")
        add("lstm_both", "lstm", kind=kind, directions=2, pooling="mean")
        add("gru_both_stacked", "gru", kind=kind, directions=2, layers=2, pooling="max")
        add("slstm_both_each_step", "slstm", kind=kind, directions=2, layers=2, pooling="none")
        add("lstm_mean", "lstm", kind=kind, pooling="mean")
        add("elman_max", "elman", kind=kind, pooling="max")
        add("gru_each_step", "gru", kind=kind, pooling="none")
        add("lstm_head", "lstm", kind=kind, head=((6, "relu"), (5, "tanh"), (7, "selu")))
        add("lstm_regression", "lstm", kind=kind, softmax=False, outputs=2)
        # Wider than a vector register, and with what is left over.
        add("lstm_wide", "lstm", kind=kind, inputs=21, hidden=27)
    for kind in KINDS[:2]:
        for storage in ("int4", "sparse"):
            for cell in ("elman", "lstm", "gru", "gru_reset_before", "slstm"):
                add(f"{cell}_{storage}", cell, kind=kind, storage=storage, inputs=9, hidden=11)
    seeds = np.random.SeedSequence(20).spawn(len(wanted))
    return {
        name: _plain_inputs(random_program(np.random.default_rng(seed), **settings))
        for (name, settings), seed in zip(wanted.items(), seeds, strict=True)
    }


def measured_networks() -> dict[str, Program]:
    """An LSTM with a head of four outputs, for each of `MEASURED_SHAPES` and each kind of numbers."""
    result = {}
    for kind in KINDS:
        for inputs, hidden in MEASURED_SHAPES:
            rng = np.random.default_rng(7)
            program = random_program(rng, "lstm", kind=kind, inputs=inputs, hidden=hidden, outputs=4)
            result[f"lstm_{inputs}x{hidden}_{_SCHEMES[kind]}"] = _plain_inputs(program)
    return result


def _plain_inputs(program: Program) -> Program:
    """Features that are activations already, so that neither side rounds."""
    unit = 2.0**-13 if program.kind == "float32" else 1.0
    layers = program.layers
    ones = np.ones(program.inputs, np.float32)
    return dataclasses.replace(program, layers=layers, centre=0 * ones, scale=np.float32(unit) * ones)


def limit_of(program: Program) -> int:
    """Largest activation of the generator; for float32 in units of 2^-13."""
    return 32767 if program.kind == "float32" else program.input_limit


def sequences(program: Program, count: int) -> Array:
    """(N, T, I) float32, as drive_fill of drive.h makes them."""
    limit, mask = limit_of(program), np.uint64(0xFFFFFFFF)
    number = np.arange(count, dtype=np.uint64)
    state = (number * np.uint64(2654435761) + np.uint64(2463534242)) & mask
    state[state == 0] = 1
    x = np.empty((count, STEPS * program.inputs), np.int64)
    kind = number % 4
    for i in range(x.shape[1]):
        state ^= (state << np.uint64(13)) & mask
        state ^= state >> np.uint64(17)
        state ^= (state << np.uint64(5)) & mask
        a = ((state >> np.uint64(8)) * np.uint64(2 * limit + 1) >> np.uint64(24)).astype(np.int64) - limit
        a = np.where(kind == 1, np.where(state >> np.uint64(31) != 0, limit, -limit), a)
        a = np.where(kind == 2, np.sign(a) * (np.abs(a) // 16), a)
        if i >= program.inputs:
            a = np.where(kind == 3, x[:, i - program.inputs], a)
        x[:, i] = a
    return x.reshape(count, STEPS, program.inputs).astype(np.float32)


def desktop_hash(program: Program, count: int) -> int:
    """What drive.h prints, from this process's predictions and states."""
    model = _core.EdgeModel(program.fields())
    x = sequences(program, count)
    if program.directions == 2:
        seen = model.run(list(x)).reshape(count, -1).view(np.uint8)
    else:
        state = model.make_state()
        rows = []
        for sequence in x:
            state.reset()
            for row in sequence:
                out = model.step(row, state)
                rows.append(out.tobytes() + _device_state(program, state.bytes()))
        seen = np.frombuffer(b"".join(rows), np.uint8).reshape(count, -1)
    hashes = np.full(count, _FNV_START, np.uint64)
    for byte in np.ascontiguousarray(seen.T):
        hashes = (hashes ^ byte.astype(np.uint64)) * np.uint64(_FNV_PRIME) & np.uint64(0xFFFFFFFF)
    total = 0
    for value in hashes.tolist():
        total = (total * _FNV_PRIME & 0xFFFFFFFF) ^ value
    return total


def desktop_saturated_hash(program: Program, steps: int) -> int:
    """The same for `_saturate` of drive.h; one direction."""
    model = _core.EdgeModel(program.fields())
    state, limit = model.make_state(), np.float32(limit_of(program))
    feature = np.arange(program.inputs)
    patterns = [np.ones(program.inputs), -np.ones(program.inputs)]
    patterns += [np.where((feature + t) % 2 == 0, 1, -1) for t in range(2)]
    rows = [(limit * pattern).astype(np.float32) for pattern in patterns]
    by_phase = [(rows[0], rows[0]), (rows[1], rows[1]), (rows[2], rows[3]), (rows[0], rows[1])]
    out = None
    for t in range(steps):
        out = model.step(by_phase[t // 1024 % 4][t % 2], state)
    assert out is not None
    value = _FNV_START
    for byte in out.tobytes() + _device_state(program, state.bytes()):
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return value


def _device_state(program: Program, state: bytes) -> bytes:
    """Without the count of steps where there is no pooling: a device does not keep it."""
    return state if program.pooling in ("mean", "max") else state[:-4]
