"""One step of one stream called from Python: `Recurrent.step` and the `step` of a model, one layer.

    python bench/steps.py

The median of many turns of about half a millisecond, as bench/native/step.cpp takes it from C++.
"""

from __future__ import annotations

import json
import statistics
import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

NETWORKS = [("lstm", 1, 8), ("lstm", 1, 32), ("lstm", 16, 64), ("gru", 16, 64), ("lstm", 128, 256)]


def measure(seconds: float) -> list[dict[str, Any]]:
    """[{"cell", "I", "H", "us": {"Recurrent.step", "with views", "Model.step"}}, …], microseconds.

    "with views": while a view of the layer's parameters is alive, so that each call compares all weights.
    """
    import lstmcore
    from lstmcore import _core
    from lstmcore.model import Model

    found = []
    for cell, inputs, hidden in NETWORKS:
        sizes: dict[str, Any] = {"input_size": inputs, "hidden_size": hidden, "n_threads": 1}
        layer = lstmcore.Recurrent(cell, **sizes)
        x = np.full((1, inputs), 0.5, np.float32)
        _, state = layer.step(x)
        model = Model(_core.Model({"recurrent": {"cell": cell, **sizes}}))
        _, stream = model.step(x[0])
        layer_step, model_step = partial(layer.step, x, state), partial(model.step, x[0], stream)
        us = {"Recurrent.step": _median(layer_step, seconds)}
        kept = layer.parameters
        us["with views"] = _median(layer_step, seconds)
        del kept
        us["Model.step"] = _median(model_step, seconds)
        found.append({"cell": cell, "I": inputs, "H": hidden, "us": us})
    return found


def _median(call: Callable[[], object], seconds: float) -> float:
    """Microseconds of one call."""
    timer = timeit.Timer(call)
    timer.timeit(100)
    number = max(1, int(500e-6 / (timer.timeit(100) / 100)))
    turns = max(3, int(seconds / 500e-6))
    return 1e6 / number * statistics.median(timer.repeat(turns, number))


if __name__ == "__main__":
    for row in measure(0.2):
        print(json.dumps({**row, "us": {name: round(value, 2) for name, value in row["us"].items()}}))
