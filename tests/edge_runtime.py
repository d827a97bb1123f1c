"""The edge runtime compiled by the system's compiler into a shared library, and a program handed to it as C structs.

The structs mirror cpp/edge/lstmcore_edge.h field by field.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from ctypes import POINTER, Structure, c_int32, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from lstmcore.edge.program import CELLS, FLOAT_CELLS, Matrix, Program, pad4

SOURCES = Path(__file__).resolve().parents[1] / "cpp" / "edge"
OPTIONS = {"coupled": 1, "peepholes": 2, "relu": 4, "exponential_forget": 8}
ACTIVATIONS = {"linear": 0, "relu": 1, "tanh": 2, "selu": 3}
KINDS = {"int8": (0, np.int8), "int16": (1, np.int16), "float32": (2, np.float32)}


def _struct(name: str, fields: str, others: dict[str, Any] | None = None) -> type[Structure]:
    """fields: "type names; …" with p for a pointer, u and i for 32 bits."""
    types = {"p": c_void_p, "u": c_uint32, "i": c_int32, **(others or {})}
    listed = []
    for part in fields.split(";"):
        kind, names = part.split(None, 1)
        listed += [(field.strip(), types[kind]) for field in names.split(",")]
    return type(name, (Structure,), {"_fields_": listed})


CMatrix = _struct(
    "CMatrix",
    "p product, weights, bias, multiplier, float_bias, starts, columns; "
    "u groups, blocks, shift, first_blocks, first_shift",
)
CLayer = _struct(
    "CLayer",
    "p cell, matrices, peepholes, float_peepholes, initial_h, initial_cells, initial_stabilisers; u inputs, hidden,"
    "x_width, h_width, cell_width, stabiliser_width, activations_at, cells_at, stabilisers_at; i limit,"
    "output_multiplier; u output_shift, cell_bits, peephole_bits, options",
)
CDense = _struct(
    "CDense",
    "p apply; m matrix; u outputs, activation; i limit, output_multiplier; u output_shift",
    {"m": CMatrix},
)
CModel = _struct(
    "CModel",
    "p layers, dense, pool, finish, centre, scale; u layer_count, directions, dense_count, inputs, outputs, kind,"
    "pooling; i input_limit; u activation_count, cell_count, stabiliser_count, pooled_width, next_width, scratch_count",
)
CMemory = _struct("CMemory", "p activations, cells, stabilisers, pooled, steps, scratch")


def compiled(folder: Path, *command: str) -> ctypes.CDLL:
    """The runtime as a library. command: a compiler and its options."""
    target = folder / "runtime.so"
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    language = ["-x", "c++", "-std=c++17"] if "++" in Path(command[0]).name else []
    strict = ["-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
    done = subprocess.run(
        [*command, *strict, "-shared", "-fPIC", f"-I{SOURCES}", *language, *sources, "-o", str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(target))
    library.lstmcore_edge_buffer_count.restype = ctypes.c_size_t
    library.lstmcore_edge_argmax.restype = library.lstmcore_edge_argmax_float.restype = c_uint32
    return library


def c_compilers() -> list[str]:
    return [path for path in map(shutil.which, ("gcc", "clang", "clang-14", "cc")) if path]


class Runtime:
    """One program in one library, with memory for one stream; every array ends where C's ends."""

    def __init__(self, library: ctypes.CDLL, program: Program) -> None:
        self.library, self.program = library, program
        self.kept: list[Any] = []
        self.real = program.kind == "float32"
        number, self.activation = KINDS[program.kind]
        self.output = np.float32 if self.real else np.int32
        layers, sizes = [], [0, 0, 0]
        for layer in program.layers:
            x_width, h_width = pad4(layer.inputs), pad4(layer.hidden)
            cells = FLOAT_CELLS[layer.cell] if self.real else CELLS[layer.cell][1]
            stabilisers = 0 if self.real else CELLS[layer.cell][2]
            matrices = (CMatrix * len(layer.matrices))(*map(self.matrix, layer.matrices))
            self.kept.append(matrices)
            cell_type = np.float32 if self.real else np.int16
            layers.append(CLayer(
                self.function(f"lstmcore_edge_{layer.cell}" + ("_float" if self.real else "")),
                ctypes.addressof(matrices),
                None if self.real else self.array(layer.peepholes, np.int16),
                self.array(layer.peepholes, np.float32) if self.real else None,
                self.array(layer.initial_h, self.activation), self.array(layer.initial_cells, cell_type),
                self.array(layer.initial_stabilisers, np.int32),
                layer.inputs, layer.hidden, x_width, h_width, cells * h_width, stabilisers * h_width, *sizes,
                layer.limit, layer.output_multiplier, layer.output_shift, layer.cell_bits, layer.peephole_bits,
                sum(OPTIONS[name] for name in layer.options),
            ))  # fmt: skip
            for part, count in enumerate((x_width + h_width, cells * h_width, stabilisers * h_width)):
                sizes[part] += count
        dense = []
        for index, each in enumerate(program.dense):
            role = "output" if index + 1 == len(program.dense) else "hidden"
            dense.append(CDense(
                self.function(f"lstmcore_edge_{role}" + ("_float" if self.real else "")), self.matrix(each.matrix),
                each.outputs, ACTIVATIONS[each.activation], each.limit, each.output_multiplier, each.output_shift,
            ))  # fmt: skip
        last = program.layers[-1]
        pooled_width = pad4(program.directions * last.hidden)
        next_width = max(pad4(layer.hidden) for layer in program.layers)
        widest = max((4 * each.matrix.groups for each in program.dense[:-1]), default=0)
        scratch = max(pooled_width, next_width) + 2 * widest
        suffix = "_float" if self.real else ""
        has_pool = program.pooling in ("mean", "max")
        c_layers, c_dense = (CLayer * len(layers))(*layers), (CDense * len(dense))(*dense)
        self.kept += [c_layers, c_dense]
        self.model = CModel(
            ctypes.addressof(c_layers), ctypes.addressof(c_dense),
            self.function(f"lstmcore_edge_{program.pooling}{suffix}") if has_pool else None,
            self.function(f"lstmcore_edge_{program.pooling}_finish{suffix}") if has_pool else None,
            self.array(program.centre, np.float32), self.array(program.scale, np.float32),
            len(layers) // program.directions, program.directions, len(dense), program.inputs, program.outputs,
            number, ["last", "mean", "max", "none"].index(program.pooling), program.input_limit, *sizes, pooled_width,
            next_width, scratch,
        )  # fmt: skip
        # What a step leaves undefined must not matter: memory begins as anything.
        pooled_type = {"mean": np.float32 if self.real else np.int64}.get(program.pooling, self.activation)
        cell_type = np.float32 if self.real else np.int16
        types = (self.activation, cell_type, np.int32, pooled_type, np.uint32, self.activation)
        counts = (*sizes, pooled_width if has_pool else 0, int(has_pool), scratch)
        self.parts = [np.full(count, 77, kind) for count, kind in zip(counts, types, strict=True)]
        self.memory = CMemory(*(part.ctypes.data if part.size else None for part in self.parts))

    def function(self, name: str) -> int | None:
        return ctypes.cast(getattr(self.library, name), c_void_p).value

    def array(self, values: Any, kind: Any) -> int | None:
        if values is None or (len(values) == 0):
            return None
        copy = np.ascontiguousarray(values, kind)
        self.kept.append(copy)
        return copy.ctypes.data

    def matrix(self, matrix: Matrix) -> Structure:
        weights, starts, columns = matrix.packed()
        real = matrix.storage == "float32"
        storage = "" if matrix.storage == "int8" else f"_{matrix.storage}"
        product = "float" if real else self.program.kind + storage
        return CMatrix(
            self.function(f"lstmcore_edge_product_{product}"), self.array(weights, weights.dtype),
            None if real else self.array(matrix.bias, np.int32), self.array(matrix.multiplier, np.int32),
            self.array(matrix.bias, np.float32) if real else None, self.array(starts, np.uint32),
            self.array(columns, np.uint16), matrix.groups, matrix.blocks, matrix.shift,
            matrix.first_blocks, matrix.first_shift,
        )  # fmt: skip

    def reset(self) -> None:
        self.library.lstmcore_edge_reset(ctypes.byref(self.model), ctypes.byref(self.memory))

    def run(self, x: np.ndarray) -> np.ndarray:
        """Outputs of a sequence of activations (T, I), from the state as it is."""
        given = np.ascontiguousarray(x, self.activation)
        every = self.program.pooling == "none"
        out = np.full((len(x), self.program.outputs) if every else self.program.outputs, 77, self.output)
        model = ctypes.byref(self.model)
        count = self.library.lstmcore_edge_buffer_count(model, c_uint32(len(x)))
        buffer = np.full(count, 77, self.activation)
        failed = self.library.lstmcore_edge_run(
            model, ctypes.byref(self.memory), c_void_p(given.ctypes.data), c_uint32(len(x)),
            c_void_p(buffer.ctypes.data), ctypes.c_size_t(count), c_void_p(out.ctypes.data),
        )  # fmt: skip
        assert failed == 0
        return out

    def step(self, x: np.ndarray) -> np.ndarray:
        given = np.ascontiguousarray(x, self.activation)
        out = np.full(self.program.outputs, 77, self.output)
        self.library.lstmcore_edge_step(
            ctypes.byref(self.model), ctypes.byref(self.memory), c_void_p(given.ctypes.data), c_void_p(out.ctypes.data)
        )
        return out

    def quantise(self, x: np.ndarray) -> np.ndarray:
        """Activations of features (T, I)."""
        given = np.ascontiguousarray(x, np.float32)
        result = np.zeros(given.shape, self.activation)
        for t in range(len(given)):
            self.library.lstmcore_edge_quantise(
                ctypes.byref(self.model), c_void_p(given[t].ctypes.data), c_void_p(result[t].ctypes.data)
            )
        return result


def table(library: ctypes.CDLL, name: str, count: int) -> np.ndarray:
    """One of the runtime's constant tables."""
    address = ctypes.addressof(ctypes.c_uint16.in_dll(library, name))
    return np.ctypeslib.as_array(ctypes.cast(address, POINTER(ctypes.c_uint16)), (count,)).astype(np.int64)
