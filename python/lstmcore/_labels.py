"""Class labels: as JSON in model files, and as indices for training. NumPy only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_weights", "encode_labels", "labels_from_json", "labels_to_json"]

Array = NDArray[Any]


def labels_to_json(labels: Array) -> dict[str, Any]:
    """{"dtype", "values"}; ValueError for labels other than text, numbers and bool."""
    kind = labels.dtype.kind
    if kind not in "UiufbOT" or (kind == "O" and not all(isinstance(label, (str, int)) for label in labels)):
        raise ValueError(
            f"classes of dtype {labels.dtype} cannot be written to a model file. Fit on labels that are text, "
            "integers, floats or bool."
        )
    dtype = labels.dtype.str if kind in "Uiufb" else "O"
    return {"dtype": dtype, "values": [str(label) if kind == "T" else label for label in labels.tolist()]}


def labels_from_json(value: Any) -> Array:
    """Inverse of `labels_to_json`; ValueError for anything that it could not have written."""
    if not isinstance(value, dict) or set(value) != {"dtype", "values"}:
        raise ValueError("classes are not an object with 'dtype' and 'values'")
    dtype, values = value["dtype"], value["values"]
    if not isinstance(dtype, str) or not isinstance(values, list) or not values or len(dtype) > 16:
        raise ValueError("classes have no dtype or no values")
    known = re.fullmatch(r"[<>|=]?(?:(U)\d+|([iuf])\d+|(b)1|(O))", dtype)
    kind = known[known.lastindex or 0] if known else ""
    allowed = {"U": (str,), "i": (int,), "u": (int,), "f": (int, float), "b": (bool,), "O": (str, int)}.get(kind)
    if allowed is None or not all(isinstance(v, allowed) and (kind in "bO" or not isinstance(v, bool)) for v in values):
        raise ValueError(f"classes do not fit their dtype {dtype!r}")
    try:
        # Text gets the width that it needs: a declared width is a claim that could ask for any amount of memory.
        labels = np.array(values, dtype={"U": "U", "O": "O"}.get(kind, dtype))
        distinct = np.unique(labels)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"classes do not fit their dtype {dtype!r}: {error}") from error
    if len(distinct) != len(labels):
        raise ValueError("classes are not distinct")
    return labels


def encode_labels(labels: Array, classes: Array, name: str) -> NDArray[np.int32]:
    """Index of each label in sorted classes; ValueError naming the argument and the first label that is not there."""
    index = {label: k for k, label in enumerate(classes.tolist())}
    codes = np.empty(len(labels), dtype=np.int32)
    for n, label in enumerate(labels.tolist()):
        code = index.get(label)
        if code is None:
            raise ValueError(
                f"{name} contains the unknown label {label!r} (position {n}). Known classes: {_listing(classes)}."
            )
        codes[n] = code
    return codes


def class_weights(
    class_weight: Mapping[Any, float] | str | None, classes: Array, codes: NDArray[np.int32], weights: Array | None
) -> NDArray[np.float64] | None:
    """(K,) weight of each class, or None where all are 1.

    "balanced": inversely proportional to the total weight of each class in the data, W / (K · W_k).
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        totals = np.bincount(codes, weights=weights, minlength=len(classes)).astype(np.float64)
        balanced = np.zeros_like(totals)
        np.divide(totals.sum(), len(classes) * totals, out=balanced, where=totals > 0)
        return balanced
    known = {label: k for k, label in enumerate(classes.tolist())}
    result = np.ones(len(classes))
    for label, weight in class_weight.items():
        if label not in known:
            raise ValueError(f"class_weight names the unknown label {label!r}. Known classes: {_listing(classes)}.")
        result[known[label]] = weight
    return result


def _listing(classes: Array, limit: int = 10) -> str:
    shown = ", ".join(repr(label) for label in classes[:limit].tolist())
    return shown if len(classes) <= limit else f"{shown}, … ({len(classes)} in all)"
