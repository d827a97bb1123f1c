"""An ONNX graph as a reader of weights sees it: constants, what is computed from them, and where a value comes from.

Exporters wrap weights and the tensors between two layers in ops that only move data (Transpose, Reshape, Slice, …).
These are evaluated here with NumPy, so that no run time is needed and nothing else of a foreign model ever runs.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .common import Array, listing

_MOST_ELEMENTS = 2**31  # of a stored tensor
# A model of a few bytes must not fill the memory: ops may make so many elements, and so many for each that is stored.
_FREE_ELEMENTS, _MADE_OF_ONE = 2**24, 8
_DEEPEST = 100  # nodes between a weight and what it is computed from
_MOST_DIMENSIONS = 8
_PASS_FIRST = ("Identity", "Dropout", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
RECURRENT = ("LSTM", "GRU", "RNN")


def import_onnx(caller: str) -> Any:
    """The onnx package with the submodules in use here."""
    try:
        importlib.import_module("onnx.external_data_helper")
        importlib.import_module("onnx.shape_inference")
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError(f"{caller}() needs the onnx package; install it, e.g. with 'pip install onnx'") from error


class NotConstant(Exception):
    """A value depends on what the model is given when it runs; the text says how."""


class Graph:
    """The main graph of a model. given: values for graph inputs, by name."""

    def __init__(self, onnx: Any, model: Any, given: Mapping[str, Array]) -> None:
        self.onnx = onnx
        self.model, self.folder = _load(onnx, model)
        graph = self.model.graph
        self.given = given
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse = {sparse.values.name for sparse in graph.sparse_initializer}
        self.inputs = {value.name: value for value in graph.input}
        self.producers: dict[str, tuple[Any, int]] = {}
        for node in graph.node:
            for index, name in enumerate(node.output):
                if name:
                    self.producers[name] = (node, index)
        for name in given:
            if name not in self.inputs:
                raise ValueError(f"weights: {name!r} is not an input of the graph; inputs are {listing(self.inputs)}")
        self._constants: dict[str, Array] = {}
        self._allowance = _FREE_ELEMENTS

    @property
    def recurrent(self) -> list[Any]:
        """Nodes LSTM, GRU and RNN in the graph's order."""
        return [node for node in self.model.graph.node if node.op_type in RECURRENT and node.domain in ("", "ai.onnx")]

    def constant(self, name: str) -> Array:
        """Value of a tensor that does not depend on run-time inputs; else NotConstant."""
        return self._evaluate(name, self._constants, 0)

    def probe(self, name: str, known: Mapping[str, Array]) -> Array:
        """Value of a tensor computed from constants and the `known` tensors by ops that move data."""
        self._allowance += _MADE_OF_ONE * sum(value.size for value in known.values())
        return self._evaluate(name, dict(known), 0)

    def shaped_constant(self, name: str) -> Array | None:
        """Value of a tensor that depends on run-time inputs by their shapes at most; None for any other.

        Inputs stand in as NaN: where that comes out, their values have been used.
        """
        result = self.shaped(name)
        return None if result is None or (result.dtype.kind == "f" and np.isnan(result).any()) else result

    def shaped(self, name: str) -> Array | None:
        """A tensor with NaN for the values of run-time inputs; free extents are small and all different."""
        free: dict[str, int] = {}
        known: dict[str, Array] = {}
        for value in self.inputs.values():
            if value.name in self.given or value.name in self.initializers:
                continue
            shape = []
            for k, extent in enumerate(value.type.tensor_type.shape.dim):
                extent_name = extent.dim_param or f"{value.name} {k}"
                shape.append(extent.dim_value or free.setdefault(extent_name, 2 + len(free)))
            if len(shape) <= _MOST_DIMENSIONS and 0 < math.prod(shape) <= _MOST_ELEMENTS and min(shape, default=1) > 0:
                known[value.name] = np.broadcast_to(np.float32(np.nan), shape)  # takes no memory
        try:
            return self._evaluate(name, known, 0)
        except (NotConstant, ValueError):
            return None

    def source(self, name: str) -> str:
        """The tensor that a tensor is made of, behind ops that move data."""
        for _ in range(_DEEPEST):
            node, index = self.producers.get(name, (None, 0))
            if node is None or node.op_type not in _PASS_FIRST or index or not node.input:
                return name
            name = node.input[0]
        raise ValueError(f"model: more than {_DEEPEST} nodes between two layers, before {name!r}")

    def static_shape(self, name: str) -> list[int] | None:
        """Shape of a tensor where the model fixes all of it, by shape inference."""
        try:
            inferred = self.onnx.shape_inference.infer_shapes(self.model).graph
        except Exception:  # whatever is wrong with the model, there is then no shape
            return None
        for value in [*inferred.value_info, *inferred.output, *inferred.input]:
            if value.name == name:
                shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
                return shape if shape and all(shape) else None
        return None

    def _evaluate(self, name: str, known: dict[str, Array], depth: int) -> Array:
        if name in known:
            return known[name]
        if depth > _DEEPEST:
            raise ValueError(f"model: {name!r} is computed by more than {_DEEPEST} nodes in a row")
        if name in self.given:
            value = np.asarray(self.given[name])
        elif name in self.initializers:
            value = self._array(self.initializers[name], name)
        elif name in self.sparse:
            raise ValueError(f"{name}: a sparse initializer is not supported; store it as a plain one")
        elif name in self.inputs:
            raise NotConstant(f"the graph input {name!r}")
        elif name in self.producers:
            value = self._run(*self.producers[name], known, depth)
        else:
            raise ValueError(f"model: nothing in the graph makes {name!r}, which is missing")
        known[name] = value
        return value

    def _run(self, node: Any, index: int, known: dict[str, Array], depth: int) -> Array:
        attributes = {item.name: item for item in node.attribute}
        if node.domain not in ("", "ai.onnx") or index or (node.op_type != "Constant" and node.op_type not in _OPS):
            raise NotConstant(f"the output of op {node.op_type} (node {node.name or node.output[0]!r})")
        if node.op_type == "Constant":
            if "value" in attributes:
                return self._array(attributes["value"].t, node.output[0])
            for key, kind in (("value_int", int), ("value_ints", int), ("value_float", float), ("value_floats", float)):
                if key in attributes:
                    plain = self.onnx.helper.get_attribute_value(attributes[key])
                    return np.asarray(plain, dtype=np.int64 if kind is int else np.float32)
            raise ValueError(f"{node.output[0]}: a Constant with {listing(attributes)} is not supported")
        arguments = [self._evaluate(name, known, depth + 1) if name else None for name in node.input]
        plain = {key: self._plain(item) for key, item in attributes.items()}
        try:
            self._allowance -= _SIZES.get(node.op_type, _size_of_first)(arguments, plain)
            if self._allowance < 0:
                raise ValueError("the model would fill the memory")
            value: Array = np.asarray(_OPS[node.op_type](arguments, plain))
        except (ValueError, IndexError, TypeError, KeyError, AttributeError, MemoryError, OverflowError) as error:
            described = f"op {node.op_type} (node {node.name or node.output[0]!r})"
            shapes = [None if value is None else value.shape for value in arguments]
            raise ValueError(f"model: {described} does not fit its inputs of shapes {shapes}: {error}") from error
        return value

    def _plain(self, attribute: Any) -> Any:
        value = self.onnx.helper.get_attribute_value(attribute)
        return self._array(value, attribute.name) if isinstance(value, self.onnx.TensorProto) else value

    def _array(self, tensor: Any, name: str) -> Array:
        """A stored tensor, read from its external file where it has one and the model came from a path."""
        helper = self.onnx.external_data_helper
        if any(extent < 0 for extent in tensor.dims) or math.prod(tensor.dims) > _MOST_ELEMENTS:
            raise ValueError(f"{name}: shape {tuple(tensor.dims)} is negative or above {_MOST_ELEMENTS} elements")
        if helper.uses_external_data(tensor):
            where = {entry.key: entry.value for entry in tensor.external_data}.get("location", "?")
            if self.folder is None:
                raise ValueError(f"{name}: is kept in the external file {where!r}; pass the path of the model instead")
            copy = self.onnx.TensorProto()
            copy.CopyFrom(tensor)
            try:
                helper.load_external_data_for_tensor(copy, self.folder)
            except Exception as error:  # onnx raises its checker's ValidationError, OSError, ValueError
                raise ValueError(f"{name}: external file {where!r} cannot be read: {error}") from error
            copy.data_location = self.onnx.TensorProto.DEFAULT
            tensor = copy
        try:
            value = np.asarray(self.onnx.numpy_helper.to_array(tensor))
        except Exception as error:  # whatever a damaged tensor provokes
            raise ValueError(f"{name}: its data do not fit shape {tuple(tensor.dims)}: {error}") from error
        self._allowance += _MADE_OF_ONE * value.size
        return value


def _load(onnx: Any, model: Any) -> tuple[Any, str | None]:
    """The model and the folder of its external data."""
    if isinstance(model, onnx.ModelProto):
        return model, None
    if isinstance(model, (str, os.PathLike)):
        with open(model, "rb") as file:
            content, folder = file.read(), os.path.dirname(os.path.abspath(os.fspath(model)))
    elif isinstance(model, (bytes, bytearray, memoryview)):
        content, folder = bytes(model), None
    else:
        raise TypeError(f"model: expected a path, bytes or an onnx.ModelProto, got {type(model).__name__}")
    try:
        loaded = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, whose home differs between its versions
        raise ValueError(f"model: not an ONNX model: {error}") from error
    return loaded, folder


# --- ops that move data: arguments (None: absent), attributes → result ------------------------------------------------

_Arguments = list[Any]
_Attributes = dict[str, Any]


def _axes(arguments: _Arguments, attributes: _Attributes) -> tuple[int, ...] | None:
    """axes: an input since opset 13, an attribute before."""
    axes = arguments[1] if len(arguments) > 1 and arguments[1] is not None else attributes.get("axes")
    return None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes))


def _unsqueeze(arguments: _Arguments, attributes: _Attributes) -> Array:
    axes = _axes(arguments, attributes)
    if axes is None:
        raise ValueError("no axes")
    return np.expand_dims(arguments[0], axes)


def _reshape(arguments: _Arguments, attributes: _Attributes) -> Array:
    data = arguments[0]
    target = arguments[1] if len(arguments) > 1 else attributes["shape"]
    shape = [int(extent) for extent in target]
    if not attributes.get("allowzero", 0):
        shape = [data.shape[axis] if extent == 0 else extent for axis, extent in enumerate(shape)]
    return np.reshape(data, shape)


def _slice(arguments: _Arguments, attributes: _Attributes) -> Array:
    data = arguments[0]
    given = [*arguments[1:], None, None, None, None][:4]
    names = ("starts", "ends", "axes", "steps")
    starts, ends, axes, steps = (
        attributes.get(name, ()) if value is None else value for name, value in zip(names, given, strict=True)
    )
    chosen = [slice(None)] * data.ndim
    for k, axis in enumerate(axes if len(axes) else range(len(starts))):
        step = int(steps[k]) if len(steps) else 1
        # −2⁶³ with a negative step means "to the very start", which a Python slice spells None.
        end = None if step < 0 and int(ends[k]) < -data.shape[int(axis)] else int(ends[k])
        chosen[int(axis)] = slice(int(starts[k]), end, step)
    return np.asarray(data[tuple(chosen)])


def _constant_of_shape(arguments: _Arguments, attributes: _Attributes) -> Array:
    value = np.atleast_1d(attributes.get("value", np.zeros(1, np.float32)))
    return np.full([int(extent) for extent in arguments[0]], value[0])


def _expanded(arguments: _Arguments, attributes: _Attributes) -> tuple[int, ...]:
    return np.broadcast_shapes(arguments[0].shape, tuple(int(extent) for extent in arguments[1]))


def _size_of_first(arguments: _Arguments, attributes: _Attributes) -> int:
    return int(arguments[0].size)


# Elements that an op makes, where that is not the size of its first argument.
_SIZES: dict[str, Callable[[_Arguments, _Attributes], int]] = {
    "ConstantOfShape": lambda arguments, attributes: math.prod(int(extent) for extent in arguments[0]),
    "Expand": lambda arguments, attributes: math.prod(_expanded(arguments, attributes)),
    "Concat": lambda arguments, attributes: sum(value.size for value in arguments),
    "Gather": lambda arguments, attributes: int(arguments[1].size) * int(arguments[0].size),
    "Shape": lambda arguments, attributes: int(arguments[0].ndim),
}


def _cast(arguments: _Arguments, attributes: _Attributes) -> Array:
    kinds = {1: np.float32, 6: np.int32, 7: np.int64, 10: np.float16, 11: np.float64}  # onnx.TensorProto.DataType
    if arguments[0].dtype.kind == "f" and not np.isfinite(arguments[0]).all():
        raise ValueError(
            "a value that is not finite"
        )  # among them the NaN of Graph.shaped, which an integer would hide
    return np.asarray(arguments[0].astype(kinds[int(attributes["to"])]))


_OPS: dict[str, Callable[[_Arguments, _Attributes], Any]] = {
    "Identity": lambda arguments, attributes: arguments[0],
    "Dropout": lambda arguments, attributes: arguments[0],  # nothing happens in inference
    "Transpose": lambda arguments, attributes: np.transpose(arguments[0], attributes.get("perm")),
    "Squeeze": lambda arguments, attributes: np.squeeze(arguments[0], _axes(arguments, attributes)),
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Slice": _slice,
    "Gather": lambda arguments, attributes: np.take(arguments[0], arguments[1], axis=int(attributes.get("axis", 0))),
    "Concat": lambda arguments, attributes: np.concatenate(arguments, axis=int(attributes["axis"])),
    "Cast": _cast,
    "Shape": lambda arguments, attributes: np.asarray(arguments[0].shape, np.int64),
    "ConstantOfShape": _constant_of_shape,
    "Expand": lambda arguments, attributes: np.broadcast_to(arguments[0], _expanded(arguments, attributes)),
}
