"""Programs as safetensors files: arrays as tensors, the rest as JSON. A file is treated as hostile until checked."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..model import QUANTIZED as KEY
from ..model import parse_json
from .program import CELLS, Dense, Layer, Matrix, Program

__all__ = ["read_program", "write_program"]

Array = NDArray[Any]

_TEXT, _INPUT, _TEST = "quantized", "test_input", "test_output"
_VERSION = 1

# Arrays by field, with the types that they may have. The file format holds float32 and float64, which hold these
# integers exactly.
_MATRIX: dict[str, tuple[str, ...]] = {
    "weights": ("int8", "float32"),
    "bias": ("int32", "float32"),
    "multiplier": ("int32",),
}
_LAYER: dict[str, tuple[str, ...]] = {
    "peepholes": ("int16", "float32"),
    "initial_h": ("int8", "int16", "float32"),
    "initial_cells": ("int16", "float32"),
    "initial_stabilisers": ("int32",),
}
_PROGRAM: dict[str, tuple[str, ...]] = {
    "centre": ("float32",),
    "scale": ("float32",),
    "output_mean": ("float64",),
    "output_scale": ("float64",),
}


def write_program(program: Program, path: str | os.PathLike[str], text: str, test: tuple[Array, Array]) -> None:
    """Writes the file, atomically. text: JSON that belongs to whoever saves; test: as of `read_program`."""
    tensors: dict[str, Array] = {}
    document = _document(program, _PROGRAM, "", tensors)
    document["version"] = _VERSION
    document["layers"] = []
    for k, layer in enumerate(program.layers):
        name = f"layers.{k}."
        entry = _document(layer, _LAYER, name, tensors)
        entry["options"] = sorted(layer.options)
        entry["matrices"] = [_document(m, _MATRIX, f"{name}{j}.", tensors) for j, m in enumerate(layer.matrices)]
        document["layers"].append(entry)
    document["dense"] = []
    for k, dense in enumerate(program.dense):
        entry = _document(dense, {}, "", tensors)
        entry["matrix"] = _document(dense.matrix, _MATRIX, f"dense.{k}.", tensors)
        document["dense"].append(entry)
    tensors[_INPUT], tensors[_TEST] = test[0], test[1].astype(np.float64)
    texts = {KEY: json.dumps(document, allow_nan=False), _TEXT: text}
    _core.write_tensors(os.fspath(path), tensors, texts)


def _document(item: Any, arrays: dict[str, tuple[str, ...]], prefix: str, tensors: dict[str, Array]) -> dict[str, Any]:
    """Plain fields of a part of the program; its arrays go to `tensors`, their types into the document."""
    document: dict[str, Any] = {"types": {}}
    for field in fields(item):
        value = getattr(item, field.name)
        if field.name in arrays:
            if value is not None and value.size:
                document["types"][field.name] = str(value.dtype)
                tensors[prefix + field.name] = value.astype(np.float64 if value.dtype.itemsize > 2 else np.float32)
        elif value is None or isinstance(value, (bool, int, float, str)):
            document[field.name] = value
    return document


def read_program(path: str | os.PathLike[str]) -> tuple[Program, str, tuple[Array, Array]]:
    """The program in a file, unchecked but for its form; the saver's text; a test input (T, I) float32 and its outputs.

    ModelFileError for a file that is damaged or of another form, OSError where it cannot be read.
    """
    tensors, texts = _core.read_tensors(os.fspath(path))
    try:
        document = parse_json(texts.get(KEY, "null"), KEY)
        if not isinstance(document, dict) or document.get("version") != _VERSION:
            raise ValueError(f"metadata {KEY!r} is not an object of version {_VERSION}")
        x, outputs = tensors.pop(_INPUT, None), tensors.pop(_TEST, None)
        if x is None or outputs is None:
            raise ValueError(f"tensors {_INPUT!r} and {_TEST!r} are missing")
        program = _program(document, tensors)
        if x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != program.inputs:
            raise ValueError(
                f"{_INPUT} has shape {x.shape} and dtype {x.dtype}, expected (T, {program.inputs}) float32"
            )
        if tensors:
            raise ValueError(f"unknown tensor {next(iter(tensors))!r}")
    except ValueError as error:
        raise _core.ModelFileError(f"{os.fspath(path)}: {error}") from error
    return program, texts.get(_TEXT, "null"), (x, outputs)


def _program(document: dict[str, Any], tensors: dict[str, Array]) -> Program:
    layers, dense = (_list(document, name) for name in ("layers", "dense"))
    values = _values(Program, document, _PROGRAM, "", tensors, {"version"})
    for name in ("centre", "scale"):
        if values[name] is None or values[name].ndim != 1:
            raise ValueError(f"{name} is missing or not a vector")
    empty = np.zeros(0)
    for name in ("output_mean", "output_scale"):
        values[name] = empty if values[name] is None else values[name]
    values["layers"] = tuple(_layer(entry, f"layers.{k}.", tensors) for k, entry in enumerate(layers))
    values["dense"] = tuple(_dense(entry, f"dense.{k}.", tensors) for k, entry in enumerate(dense))
    if not values["layers"] or not values["dense"]:
        raise ValueError("a network without layers or without head")
    outputs = values["dense"][-1].outputs
    for name in ("output_mean", "output_scale"):
        if values[name].shape not in ((outputs,), *([(0,)] if values["softmax"] else [])):
            raise ValueError(f"{name} has shape {values[name].shape} for {outputs} outputs")
    return Program(**values)


def _layer(entry: Any, name: str, tensors: dict[str, Array]) -> Layer:
    values = _values(Layer, entry, _LAYER, name, tensors)
    options = _list(entry, "options")
    if values["cell"] not in CELLS or not all(isinstance(option, str) for option in options):
        raise ValueError(f"{name}cell {values['cell']!r} or its options are unknown")
    values["options"] = frozenset(options)
    matrices = _list(entry, "matrices")
    values["matrices"] = tuple(_matrix(one, f"{name}{k}.", tensors) for k, one in enumerate(matrices))
    return Layer(**values)


def _dense(entry: Any, name: str, tensors: dict[str, Array]) -> Dense:
    values = _values(Dense, entry, {}, name, tensors)
    values["matrix"] = _matrix(entry.get("matrix"), name, tensors)
    return Dense(**values)


def _matrix(entry: Any, name: str, tensors: dict[str, Array]) -> Matrix:
    values = _values(Matrix, entry, _MATRIX, name, tensors)
    weights, bias, multiplier, storage = (values[key] for key in ("weights", "bias", "multiplier", "storage"))
    if weights is None or weights.ndim != 2 or weights.shape[0] % 4 or weights.shape[1] % 4:
        raise ValueError(f"{name}weights are missing, or not a matrix of fours")
    if bias is None or bias.shape != weights.shape[:1]:
        raise ValueError(f"{name}bias is missing, or not one a row")
    real = storage == "float32"
    if storage not in ("int8", "int4", "sparse", "float32") or real != (weights.dtype == np.float32):
        raise ValueError(f"{name}storage {storage!r} for weights of {weights.dtype}")
    if real != (bias.dtype == np.float32) or real != (multiplier is None):
        raise ValueError(f"{name}bias or multiplier do not fit storage {storage!r}")
    if multiplier is not None and multiplier.shape != bias.shape:
        raise ValueError(f"{name}multiplier has shape {multiplier.shape}, bias {bias.shape}")
    if storage == "int4" and np.abs(weights.astype(np.int64)).max() > 7:
        raise ValueError(f"{name}weights beyond 4 bits")
    return Matrix(**values)


def _list(entry: Any, key: str) -> list[Any]:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, list):
        raise ValueError(f"{key!r} is not a list")
    return value


def _values(
    kind: Any,
    entry: Any,
    arrays: dict[str, tuple[str, ...]],
    prefix: str,
    tensors: dict[str, Array],
    more: set[str] | None = None,
) -> dict[str, Any]:
    """Arrays and plain fields of a part, each with the type that it is declared with."""
    declared = {field.name: field.type for field in fields(kind)}
    nested = {"layers", "dense", "matrices", "matrix", "options"}
    plain = {name: text for name, text in declared.items() if name not in arrays and name not in nested}
    if not isinstance(entry, dict) or not isinstance(entry.get("types"), dict):
        raise ValueError(f"{prefix or 'program'} is not an object with 'types'")
    unknown = set(entry) - set(plain) - nested - {"types"} - (more or set())
    if unknown:
        raise ValueError(f"{prefix}: unknown field {min(unknown)!r}")
    values: dict[str, Any] = {}
    for name, text in plain.items():
        if type(entry.get(name)).__name__ != text:
            raise ValueError(f"{prefix}{name} is {entry.get(name)!r}, expected {text}")
        values[name] = entry[name]
    for name, allowed in arrays.items():
        type_name = entry["types"].get(name)
        if type_name is None:
            values[name] = None
            continue
        if type_name not in allowed or prefix + name not in tensors:
            raise ValueError(f"{prefix}{name} is missing or of type {type_name!r}")
        values[name] = _exact(tensors.pop(prefix + name), type_name, prefix + name)
    return values


def _exact(values: Array, dtype: str, name: str) -> Array:
    """values as dtype; ValueError where that changes one."""
    kind = np.dtype(dtype)
    if kind.kind == "i":
        limits = np.iinfo(kind)
        if ((values < limits.min) | (values > limits.max) | (values != np.rint(values))).any():
            raise ValueError(f"{name} holds values that are not {dtype}")
        return values.astype(kind)
    with np.errstate(over="ignore"):
        converted = values.astype(kind)
    if not np.array_equal(converted, values):
        raise ValueError(f"{name} holds values that are not {dtype}")
    return converted
