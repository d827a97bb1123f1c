"""Networks to quantise: every cell, option, pooling and head of the edge runtime, with weights that are not small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstmcore import Model, _core
from lstmcore.edge.calibration import observe
from lstmcore.edge.network import read_edge_network
from lstmcore.edge.program import Program
from lstmcore.edge.rounding import RowGroup, rounded, row_groups

I, H, K = 5, 6, 3

CELLS: list[tuple[str, dict[str, Any]]] = [
    ("elman", {}),
    ("elman", {"nonlinearity": "relu"}),
    ("lstm", {}),
    ("lstm", {"variant": "CIFG"}),
    ("peephole", {}),
    ("peephole", {"variant": "CIFG"}),
    ("peephole", {"variant": "NP"}),
    ("gru", {}),
    ("gru", {"reset_after": False}),
    ("slstm", {}),
    ("slstm", {"heads": 2}),
    ("slstm", {"forget_activation": "exponential"}),
]
CELL_IDS = ["-".join([name, *map(str, options.values())]) for name, options in CELLS]
each_cell = pytest.mark.parametrize(("cell", "options"), CELLS, ids=CELL_IDS)

TOPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True, "pooling": "mean", "head_sizes": [7], "head_activation": "selu"},
    "two heads": {"num_layers": 3, "pooling": "max", "head_sizes": [6, 5], "head_activation": "tanh"},
    "both ways": {"bidirectional": True, "head_sizes": [5], "head_activation": "relu", "learn_initial_state": True},
    "every step": {"pooling": "none", "num_layers": 2, "activation": "identity"},
    "every step, both ways": {"pooling": "none", "num_layers": 2, "bidirectional": True, "hidden_size": 5},
}
each_top = pytest.mark.parametrize("top", TOPS)


def make_model(cell: str = "lstm", options: dict[str, Any] | None = None, *, seed: int = 0, **more: Any) -> Model:
    """Random weights, preprocessing other than none. more: of either part of the configuration."""
    recurrent: dict[str, Any] = {"cell": cell, "input_size": I, "hidden_size": H, "seed": seed, "dtype": "float64"}
    recurrent["cell_options"] = dict(options or {})
    if more.get("hidden_size", H) % int(recurrent["cell_options"].get("heads", 1)):
        del recurrent["cell_options"]["heads"]
    top: dict[str, Any] = {"pooling": "last", "activation": "softmax", "outputs": K}
    for name, value in more.items():
        (top if name in ("pooling", "activation", "outputs", "head_sizes", "head_activation") else recurrent)[name] = (
            value
        )
    core = _core.Model({"recurrent": recurrent, **top})
    rng = np.random.default_rng(seed)
    parameters = core.parameters
    for name, value in parameters.items():
        if name.startswith(("b", "P_", "h0", "c0", "head_b")):
            parameters[name] = value + rng.uniform(-0.5, 0.5, size=value.shape)
        elif name.startswith("W_") and cell != "elman":
            parameters[name] = 1.5 * value
        elif name.startswith("n0"):
            parameters[name] = rng.uniform(0.6, 3.0, size=value.shape)
        elif name.startswith("m0"):
            parameters[name] = rng.uniform(-1.0, 1.0, size=value.shape)
    core.set_parameters(parameters)
    softmax = top["activation"] == "softmax"
    outputs = int(top["outputs"])
    mean, scale = (
        (np.zeros(outputs), np.ones(outputs)) if softmax else (np.arange(outputs) + 1.0, np.full(outputs, 0.25))
    )
    core.set_preprocessing(np.arange(I) - 1.0, 1.0 / (1.0 + np.arange(I)), mean, scale)
    return Model(core, np.array(["low", "middle", "high"])[:outputs] if softmax and outputs <= 3 else None)


def make_data(seed: int = 0, count: int = 40, longest: int = 25) -> list[np.ndarray]:
    """Sequences of which the model's standardisation makes roughly unit ones."""
    rng = np.random.default_rng(seed)
    lengths = [1, *rng.integers(2, longest, size=count - 1)]
    scale, mean = 1.0 + np.arange(I), np.arange(I) - 1.0
    return [(rng.normal(size=(length, I)) * scale + mean).astype(np.float32) for length in lengths]


def groups_of(model: Model, program: Program, X: list[np.ndarray]) -> list[RowGroup]:
    """Which rows of the model's tensors share a scale in a program calibrated on X."""
    network = read_edge_network(model)
    return row_groups(network, program, observe(network, X))


def rounded_model(model: Model, program: Program, X: list[np.ndarray]) -> Model:
    """The float network whose weights are exactly those that the integers of a program calibrated on X stand for."""
    core = _core.Model(model.config)
    core.set_preprocessing(**model.core.preprocessing)
    storage = "int4" if program.layers[0].matrices[0].storage == "int4" else "int8"
    core.set_parameters({**model.parameters, **rounded(model.parameters, groups_of(model, program, X), storage)})
    return Model(core, model.classes, model.single_target)


def flat(outputs: Any) -> np.ndarray:
    """Outputs of all sequences or steps, (rows, K)."""
    return np.concatenate(list(outputs)) if isinstance(outputs, list) else np.asarray(outputs)


def reach(program: Program) -> list[int]:
    """The largest magnitude that (sum + bias) << shift of each matrix can take for any input, in exact integers."""
    found = []
    matrices = [m for layer in program.layers for m in layer.matrices] + [dense.matrix for dense in program.dense]
    for matrix in matrices:
        factor = 16 if matrix.storage == "int4" else 1
        for row, bias in zip(matrix.weights.tolist(), matrix.bias.tolist(), strict=True):
            total = sum(abs(weight) for weight in row) * program.input_limit * factor + abs(bias)
            found.append(total << matrix.shift)
    return found
