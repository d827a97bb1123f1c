"""Fitted estimators as model files: the network as tensors, everything else as JSON in the metadata. No pickle.

Metadata keys: "classes" and "target" (see `lstmcore.model`) and "estimator", a JSON object:
{"format": 1, "class": name, "parameters": constructor parameters, "fitted": attributes}.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _core
from ._parameters import check_parameters
from .model import load_model, parse_json

__all__ = ["load", "save"]

_KEY = "estimator"
_FORMAT = 1
_CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_")
_NUMBERS = ("loss_", "best_loss_", "best_validation_score_")


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Writes a fitted estimator; ValueError for labels or parameters that JSON cannot hold."""
    if isinstance(estimator.random_state, np.random.RandomState):
        warnings.warn(
            "save: random_state is a RandomState, which a model file does not hold; the loaded estimator has "
            "random_state=None. Predictions do not depend on it.",
            stacklevel=3,
        )
    document = {
        "format": _FORMAT,
        "class": type(estimator).__name__,
        "parameters": {name: _to_json(name, value) for name, value in estimator.get_params(deep=False).items()},
        "fitted": {
            "n_features_in_": int(estimator.n_features_in_),
            "feature_names_in_": [str(name) for name in getattr(estimator, "feature_names_in_", ())] or None,
            "table": bool(estimator._table),
            **{name: _number_to_json(getattr(estimator, name)) for name in _NUMBERS},
            **{
                name: None if curve is None else [_number_to_json(value) for value in curve]
                for name, curve in ((name, getattr(estimator, name)) for name in _CURVES)
            },
        },
    }
    if type(estimator).__name__ not in _classes():
        raise TypeError(
            f"save: {type(estimator).__name__} is not one of lstmcore's estimators ({', '.join(_classes())})."
        )
    estimator.model_.save(path, {_KEY: json.dumps(document, allow_nan=False)})


def load(path: str | os.PathLike[str]) -> Any:
    """The estimator that `estimator.save(path)` wrote: same class, parameters, fitted attributes and predictions.

    The state of the optimiser is not in the file: `partial_fit` and ``warm_start`` go on with a fresh one.
    Raises `lstmcore.ModelFileError` for a file that is damaged, not a model, or a model without estimator (read that
    with `lstmcore.load_model`), OSError where the file cannot be read.
    """
    model = load_model(path)
    if _KEY not in model.metadata:
        raise _core.ModelFileError(
            f"{os.fspath(path)} holds a network but no estimator. Read it with lstmcore.load_model."
        )
    try:
        return _restore(parse_json(model.metadata[_KEY], _KEY), model)
    except ValueError as error:
        raise _core.ModelFileError(f"{os.fspath(path)}: {error}") from error


def _classes() -> dict[str, Any]:
    from .classifier import SequenceClassifier
    from .regressor import SequenceRegressor

    return {kind.__name__: kind for kind in (SequenceClassifier, SequenceRegressor)}


def _restore(document: Any, model: Any) -> Any:
    """Checks every field: the file may have been written by anyone."""
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise ValueError(f"metadata {_KEY!r} has format {found!r}; this version reads {_FORMAT}")
    name = document.get("class")
    if not isinstance(name, str) or name not in _classes():
        raise ValueError(f"unknown estimator class {name!r}; known are {', '.join(_classes())}")
    estimator = _classes()[name]()
    parameters, fitted = document.get("parameters"), document.get("fitted")
    if not isinstance(parameters, dict) or not isinstance(fitted, dict):
        raise ValueError(f"metadata {_KEY!r} lacks 'parameters' or 'fitted'")
    unknown = set(parameters) - set(estimator.get_params(deep=False))
    if unknown:
        raise ValueError(f"unknown parameter(s) of {name}: {', '.join(sorted(unknown))}")
    values = {key: _from_json(key, value) for key, value in parameters.items()}
    check_parameters(name, values)
    estimator.set_params(**values)

    classifies = name == "SequenceClassifier"
    if classifies != (model.classes is not None):
        raise ValueError(f"{name} with{'out' if classifies else ''} classes")
    if classifies:
        estimator.classes_ = model.classes
    else:
        if model.config["activation"] != "identity":
            raise ValueError("SequenceRegressor with a head for classes")
        estimator._single = model.single_target
        estimator._n_targets = int(model.config["outputs"])
    estimator.model_ = model
    _restore_features(estimator, fitted)
    for key in _NUMBERS:
        setattr(estimator, key, _number_from_json(key, fitted.get(key), missing=None if "score" in key else math.nan))
    for key in _CURVES:
        curve = fitted.get(key)
        if not isinstance(curve, list) and not (curve is None and key != "loss_curve_"):
            raise ValueError(f"{key} is not a list of numbers")
        setattr(estimator, key, None if curve is None else [_number_from_json(key, value, math.nan) for value in curve])
    estimator.n_iter_ = len(estimator.loss_curve_)
    return estimator


def _restore_features(estimator: Any, fitted: dict[str, Any]) -> None:
    count, names, table = (fitted.get(key) for key in ("n_features_in_", "feature_names_in_", "table"))
    if not isinstance(count, int) or isinstance(count, bool) or count < 1 or not isinstance(table, bool):
        raise ValueError("n_features_in_ is not a number of features, or 'table' not true or false")
    expected = 1 if table else count
    if estimator.model_.n_features != expected:
        raise ValueError(f"{expected} feature(s) declared, but the network has {estimator.model_.n_features} inputs")
    estimator.n_features_in_ = count
    estimator._table = table
    if names is not None:
        if not isinstance(names, list) or len(names) != count or not all(isinstance(text, str) for text in names):
            raise ValueError(f"feature_names_in_ is not a list of {count} names")
        estimator.feature_names_in_ = np.array(names, dtype=object)


def _to_json(name: str, value: Any) -> Any:
    if isinstance(value, np.random.RandomState):
        return None
    if name == "class_weight" and isinstance(value, Mapping):
        # As two lists: keys of a JSON object could only be text.
        return {"labels": [_to_json("", label) for label in value], "weights": [float(w) for w in value.values()]}
    if isinstance(value, Mapping):
        return {str(key): _to_json("", item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_to_json(name, item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"save: the parameter {name}={value!r} cannot be written to a model file.")


def _from_json(name: str, value: Any) -> Any:
    if name == "class_weight" and isinstance(value, dict):
        labels, weights = value.get("labels"), value.get("weights")
        if not isinstance(labels, list) or not isinstance(weights, list) or len(weights) != len(labels):
            raise ValueError("class_weight has not one weight for each label")
        if not all(isinstance(label, (str, int, float)) for label in labels):
            raise ValueError("class_weight has labels that are neither text nor numbers")
        return dict(zip(labels, weights, strict=True))
    if name == "head_sizes" and isinstance(value, list):
        return tuple(value)
    return value


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
