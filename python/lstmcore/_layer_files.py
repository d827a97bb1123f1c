"""Model files of networks that are put together in Python: weights as named tensors, the rest as JSON. NumPy only.

A safetensors file of `_core.write_tensors`. Tensors: the network's parameters and constants under their own names, and
"test_output", what it predicts for `Network.test_input`. Metadata: "network", a JSON object {"class", "config"};
"classes" and "target" as in `lstmcore.model`; others belong to whoever saved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._labels import labels_from_json, labels_to_json
from ._layer_network import LayerModel, Network, network_class, restore

__all__ = ["FORMAT", "load_layer_model", "save_layer_model"]

Array = NDArray[Any]

# What metadata "format" of such a file is.
FORMAT = "lstmcore.tensors"

_NETWORK, _CLASSES, _TARGET, _TEST = "network", "classes", "target", "test_output"
# How far a prediction may lie from the recorded one, relative to the largest: another machine rounds differently.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float64": 1e-9}


def save_layer_model(model: LayerModel, path: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
    """Writes the file, atomically. ModelFileError for weights or predictions that are not finite."""
    network = model.network
    tensors = {**network.parameters, **network.constants}
    if len(tensors) != len(network.parameters) + len(network.constants) or _TEST in tensors:
        raise ValueError(f"{type(network).__name__}: names of parameters and constants are not distinct")
    texts = {
        _NETWORK: json.dumps({"class": type(network).__name__, "config": network.config}, allow_nan=False),
        _TARGET: json.dumps({"single": model.single_target}),
    }
    if model.classes is not None:
        texts[_CLASSES] = json.dumps(labels_to_json(model.classes))
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    _core.write_tensors(os.fspath(path), {**arrays, _TEST: _test_output(network)}, {**texts, **metadata})


def load_layer_model(path: str | os.PathLike[str]) -> LayerModel:
    """The network in such a file, its other texts in `metadata`.

    The file is treated as hostile: ModelFileError for whatever is wrong with it, OSError where it cannot be read.
    """
    tensors, texts = _core.read_tensors(os.fspath(path))
    try:
        return _model_from(tensors, texts)
    except ValueError as error:
        raise _core.ModelFileError(f"{os.fspath(path)}: {error}") from error


def _model_from(tensors: dict[str, Array], texts: dict[str, str]) -> LayerModel:
    from .model import parse_json

    document = parse_json(texts.pop(_NETWORK, "null"), _NETWORK)
    if not isinstance(document, dict) or set(document) != {"class", "config"}:
        raise ValueError(f"metadata {_NETWORK!r} is not an object with 'class' and 'config'")
    name, config = document["class"], document["config"]
    if not isinstance(name, str) or not isinstance(config, dict):
        raise ValueError(f"metadata {_NETWORK!r} has no name of a class, or no object as config")
    kind = network_class(name)
    recorded = tensors.pop(_TEST, None)
    if recorded is None:
        raise ValueError(f"tensor {_TEST!r} is missing")
    try:
        constant_shapes = kind.shapes(config)[1]
        constants = {key: tensors.pop(key) for key in list(tensors) if key in constant_shapes}
        network = restore(kind, config, tensors, constants)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # shapes() should have found it; a file must not be able to raise anything else either way.
        raise ValueError(f"its architecture cannot be built: {error}") from error
    _check_test_output(network, recorded)

    classes = None
    if _CLASSES in texts:
        classes = labels_from_json(parse_json(texts[_CLASSES], _CLASSES))
    target = parse_json(texts.get(_TARGET, "{}"), _TARGET)
    single = target.get("single", False) if isinstance(target, dict) else None
    if not isinstance(single, bool):
        raise ValueError(f"metadata {_TARGET!r} is not an object with a true or false 'single'")
    outputs = network.outputs(network.test_input())
    width = np.shape(outputs[0])[-1:] if len(outputs) else ()
    if classes is not None and width != (len(classes),):
        raise ValueError(f"{len(classes)} classes for outputs of shape {np.shape(outputs[0])}")
    if single and width != (1,):
        raise ValueError(f"a single target is declared, but outputs have shape {np.shape(outputs[0])}")
    model: LayerModel = getattr(kind, "model_class", LayerModel)(network, classes, single)
    model.metadata = texts
    return model


def _test_output(network: Network) -> Array:
    """(P,) all that the network predicts for its test input, one after the other."""
    with np.errstate(all="ignore"):  # weights from a file may overflow
        outputs = network.outputs(network.test_input())
    items = list(outputs) if outputs.dtype == object else [outputs]
    values: Array = np.concatenate([np.ravel(item) for item in items]).astype(np.float64)
    return values if values.size else np.zeros(1)  # a translator that writes nothing: files have no empty tensors


def _check_test_output(network: Network, recorded: Array) -> None:
    found = _test_output(network)
    precision = network.config.get("precision", str(next(iter(network.parameters.values())).dtype))
    if recorded.shape != found.shape:
        raise ValueError(f"{_TEST} has shape {recorded.shape}, the network gives {found.shape}")
    allowed = _TOLERANCE[precision] * max(1.0, float(np.abs(recorded).max()))
    with np.errstate(all="ignore"):
        wrong = ~(np.abs(found - recorded) <= allowed)
    if wrong.any():
        k = int(np.argmax(wrong))
        raise ValueError(
            f"the network does not reproduce the test vector in the file: output {k} is {found[k]:g}, recorded was "
            f"{recorded[k]:g}"
        )
