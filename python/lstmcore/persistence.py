"""Fitted estimators as model files: the network as tensors, everything else as JSON in the metadata. No pickle.

Metadata keys: "classes" and "target" (see `lstmcore.model`) and "estimator", a JSON object:
{"format": 1, "class": name, "parameters": constructor parameters, "fitted": attributes}.

The file itself is written by the model: `lstmcore.model.Model`, or `_layer_files` for a network put together in Python.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _core
from ._layer_files import save_layer_model
from ._layer_network import LayerModel
from ._parameters import check_parameters
from .edge.quantized_model import QuantizedModel
from .model import Model, file_path, load_model, parse_json

__all__ = ["LAYER_ESTIMATORS", "document_of", "from_json", "load", "restore", "save", "to_json"]

_KEY = "estimator"
_FORMAT = 1
_CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_")
_NUMBERS = ("loss_", "best_loss_", "best_validation_score_")

# Estimators whose network is C++ as a whole: name of the class → module of this package that has it.
_SEQUENCE_ESTIMATORS: dict[str, str] = {
    "SequenceClassifier": ".classifier",
    "SequenceForecaster": ".forecaster",
    "SequenceRegressor": ".regressor",
}
# Estimators whose network is put together in Python: name of the class → module of this package that has it.
LAYER_ESTIMATORS: dict[str, str] = {
    "FrameForecaster": ".frames",
    "LanguageModel": ".language.estimator",
    "SequenceAnomalyDetector": ".unsupervised.anomaly_detector",
    "SequenceEncoder": ".unsupervised.encoder",
    "SequenceTagger": ".tagger",
    "SequenceTranscriber": ".transcriber",
    "SequenceTranslator": ".translation.translator",
    "TreeClassifier": ".tree_classifier",
    "TreeRegressor": ".tree_regressor",
}


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Writes a fitted estimator; ValueError for labels or parameters that JSON cannot hold."""
    path = file_path(path)
    if isinstance(estimator.random_state, np.random.RandomState):
        warnings.warn(
            "save: random_state is a RandomState, which a model file does not hold; the loaded estimator has "
            "random_state=None. Predictions do not depend on it.",
            stacklevel=3,
        )
    known = _class_named(type(estimator).__name__)
    if known is not type(estimator):
        raise TypeError(
            f"save: {type(estimator).__name__} is not one of lstmcore's estimators ({', '.join(_names())})."
        )
    texts = {_KEY: json.dumps(document_of(estimator), allow_nan=False)}
    if isinstance(estimator.model_, LayerModel):
        save_layer_model(estimator.model_, path, texts)
    else:
        estimator.model_.save(path, texts)


def document_of(estimator: Any) -> dict[str, Any]:
    """What a file says of a fitted estimator beside its network, as JSON can hold it."""
    return {
        "format": _FORMAT,
        "class": type(estimator).__name__,
        "parameters": {
            name: to_json(name, value)
            for name, value in estimator.get_params(deep=False).items()
            if name not in getattr(estimator, "_unsaved", ())
        },
        "fitted": {
            **estimator._fitted_document(),
            **{name: _number_to_json(getattr(estimator, name)) for name in _NUMBERS},
            **{
                name: None if curve is None else [_number_to_json(value) for value in curve]
                for name, curve in ((name, getattr(estimator, name)) for name in _CURVES)
            },
        },
    }


def load(path: str | os.PathLike[str]) -> Any:
    """The estimator that `estimator.save(path)` wrote: same class, parameters, fitted attributes and predictions.

    For the file of a quantised network (`QuantizedModel`, or `Model` of scheme "dynamic_int8") that network.

    The state of the optimiser is not in the file: `partial_fit` and ``warm_start`` go on with a fresh one.
    Raises `lstmcore.ModelFileError` for a file that is damaged, not a model, or a model without estimator (read that
    with `lstmcore.load_model`), OSError where the file cannot be read.
    """
    model = load_model(path)
    if isinstance(model, QuantizedModel):
        return model
    if _KEY not in model.metadata:
        if isinstance(model, Model) and model.config["quantization"] != "none":
            return model
        raise _core.ModelFileError(
            f"{os.fspath(path)} holds a network but no estimator. Read it with lstmcore.load_model."
        )
    try:
        return restore(parse_json(model.metadata[_KEY], _KEY), model)
    except ValueError as error:
        raise _core.ModelFileError(f"{os.fspath(path)}: {error}") from error


def _names() -> list[str]:
    return [*_SEQUENCE_ESTIMATORS, *LAYER_ESTIMATORS]


def _class_named(name: Any) -> Any:
    """An estimator's class; None for a name that is not one's."""
    if not isinstance(name, str) or name not in _names():
        return None
    home = {**_SEQUENCE_ESTIMATORS, **LAYER_ESTIMATORS}[name]
    return getattr(importlib.import_module(home, __package__), name)


def restore(document: Any, model: Any) -> Any:
    """The estimator that `document_of` described. Checks every field: the file may have been written by anyone."""
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise ValueError(f"metadata {_KEY!r} has format {found!r}; this version reads {_FORMAT}")
    name = document.get("class")
    kind = _class_named(name)
    if kind is None:
        raise ValueError(f"unknown estimator class {name!r}; known are {', '.join(_names())}")
    estimator = kind()
    parameters, fitted = document.get("parameters"), document.get("fitted")
    if not isinstance(parameters, dict) or not isinstance(fitted, dict):
        raise ValueError(f"metadata {_KEY!r} lacks 'parameters' or 'fitted'")
    unknown = set(parameters) - set(estimator.get_params(deep=False))
    if unknown:
        raise ValueError(f"unknown parameter(s) of {name}: {', '.join(sorted(unknown))}")
    values = {key: from_json(key, value) for key, value in parameters.items()}
    check_parameters(str(name), values, kind._rules)
    estimator.set_params(**values)

    if isinstance(model, LayerModel) != (name in LAYER_ESTIMATORS):
        raise ValueError(f"{name} with a network of another kind, {model!r}")
    classifies = hasattr(kind, "predict_proba")
    if classifies != (model.classes is not None):
        raise ValueError(f"{name} with{'out' if classifies else ''} classes")
    if classifies:
        estimator.classes_ = model.classes
    estimator._restore_fitted(model, fitted)
    estimator.model_ = model
    for key in _NUMBERS:
        setattr(estimator, key, _number_from_json(key, fitted.get(key), missing=None if "score" in key else math.nan))
    for key in _CURVES:
        curve = fitted.get(key)
        if not isinstance(curve, list) and not (curve is None and key != "loss_curve_"):
            raise ValueError(f"{key} is not a list of numbers")
        setattr(estimator, key, None if curve is None else [_number_from_json(key, value, math.nan) for value in curve])
    estimator.n_iter_ = len(estimator.loss_curve_)
    return estimator


def to_json(name: str, value: Any) -> Any:
    """A constructor parameter as JSON can hold it."""
    if isinstance(value, np.random.RandomState):
        return None
    if name == "class_weight" and isinstance(value, Mapping):
        # As two lists: keys of a JSON object could only be text.
        return {"labels": [to_json("", label) for label in value], "weights": [float(w) for w in value.values()]}
    if isinstance(value, Mapping):
        return {str(key): to_json("", item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(name, item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"save: the parameter {name}={value!r} cannot be written to a model file.")


def from_json(name: str, value: Any) -> Any:
    """Inverse of `to_json`: every list comes back as a tuple."""
    if name == "class_weight" and isinstance(value, dict):
        labels, weights = value.get("labels"), value.get("weights")
        if not isinstance(labels, list) or not isinstance(weights, list) or len(weights) != len(labels):
            raise ValueError("class_weight has not one weight for each label")
        if not all(isinstance(label, (str, int, float)) for label in labels):
            raise ValueError("class_weight has labels that are neither text nor numbers")
        return dict(zip(labels, weights, strict=True))
    return tuple(value) if isinstance(value, list) else value


def _number_to_json(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity: a missing value is null, infinity its name."""
    if value is None or math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else str(float(value))


def _number_from_json(name: str, value: Any, missing: float | None) -> float | None:
    if value is None:
        return missing
    if value in ("inf", "-inf"):
        return float(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{name} holds {value!r} where a number is expected")
    return float(value)
