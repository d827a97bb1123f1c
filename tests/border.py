"""The objects and arrays that the tests of the border between Python and C++ share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstmcore import _core

I, H, K = 3, 4, 5

RNG = np.random.default_rng(0)
X = RNG.integers(-8, 9, size=(2, 5, I)).astype(np.float32)  # small integers: exact in every dtype below
LISTED = [X[0], X[1, :2]]


def make_layer(**arguments: Any) -> _core.Recurrent:
    return _core.Recurrent(**{"input_size": I, "hidden_size": H, "seed": 3, **arguments})


def make_model(**recurrent: Any) -> _core.Model:
    settings = {"cell": "lstm", "input_size": I, "hidden_size": H, **recurrent}
    return _core.Model({"recurrent": settings, "pooling": "mean", "activation": "softmax", "outputs": K})


def equal(one: Any, other: Any) -> bool:
    """Nested results, to the last bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


class Subclass(np.ndarray):
    """An ndarray by another name."""


class Convertible:
    """Knows how to become an array, and is none."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values if dtype is None else self.values.astype(dtype)


def misaligned(array: np.ndarray) -> np.ndarray:
    raw = np.frombuffer(b"\0" + array.tobytes(), np.uint8)
    return raw[1:].view(array.dtype).reshape(array.shape)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    **{
        name: lambda array, name=name: array.astype(name)
        for name in (
            "float16",
            "float32",
            "float64",
            "longdouble",
            "int8",
            "int16",
            "int32",
            "int64",
            ">f4",
            ">f8",
            ">i4",
        )
    },
    "column-major": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "reversed": lambda array: np.ascontiguousarray(array[::-1])[::-1],
    "transposed": lambda array: np.ascontiguousarray(array.swapaxes(0, -1)).swapaxes(0, -1),
    "misaligned": misaligned,
    "read-only": read_only,
    "subclass": lambda array: array.view(Subclass),
    "memoryview": lambda array: memoryview(np.ascontiguousarray(array)),
    "__array__": Convertible,
}
