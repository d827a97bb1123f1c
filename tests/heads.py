"""The models that the tests of pooling and head share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstmcore import _core

I, H, K = 3, 5, 4  # input features, hidden units, outputs; H is no multiple of a pack

ATTENTION = {"pooling": "attention"}
HOPFIELD = {"pooling": "hopfield"}
POOLINGS: dict[str, dict[str, Any]] = {
    "last": {"pooling": "last"},
    "mean": {"pooling": "mean"},
    "max": {"pooling": "max"},
    "attention": ATTENTION,
    "attention 3": ATTENTION | {"pooling_size": 3},
    "attention 19": ATTENTION | {"pooling_size": 19},
    "hopfield": HOPFIELD,
    "hopfield 0": HOPFIELD | {"pooling_updates": 0, "pooling_patterns": 3},
    "hopfield 1": HOPFIELD | {"pooling_updates": 1, "pooling_patterns": 2, "pooling_size": 9, "pooling_beta": 1.5},
    "hopfield 4": HOPFIELD | {"pooling_updates": 4, "pooling_patterns": 3, "pooling_size": 2, "pooling_beta": 3.0},
}
HEADS: dict[str, dict[str, Any]] = {
    "none": {},
    "selu": {"head_sizes": [7, 3]},
    "relu": {"head_sizes": [6], "head_activation": "relu"},
    "tanh": {"head_sizes": [3, 9, 5], "head_activation": "tanh"},
}
each_pooling = pytest.mark.parametrize("pooling", POOLINGS)
each_head = pytest.mark.parametrize("head", HEADS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
each_direction = pytest.mark.parametrize("bidirectional", [False, True])


def make_model(
    pooling: str = "last",
    head: str = "none",
    dtype: str = "float64",
    activation: str = "softmax",
    more: dict[str, Any] | None = None,
    **recurrent: Any,
) -> _core.Model:
    """With weights a few times the initial ones, so that softmaxes are far from uniform."""
    arguments = {"cell": "lstm", "input_size": I, "hidden_size": H, "dtype": dtype, "seed": 4, **recurrent}
    architecture = POOLINGS[pooling] | HEADS[head] | (more or {})
    model = _core.Model({"recurrent": arguments, "activation": activation, "outputs": K, **architecture})
    rng = np.random.default_rng(8)
    model.set_parameters(
        {
            name: (2.0 * value + rng.normal(0, 0.5, value.shape)).astype(dtype)
            for name, value in model.parameters.items()
        }
    )
    return model


def make_data(dtype: str = "float64", lengths: tuple[int, ...] = (4, 9, 1, 7, 9, 2)) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.normal(0, 1.5, (length, I)).astype(dtype) for length in lengths]
