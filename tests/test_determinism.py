"""The same bits whatever the number of threads, the run, the neighbours in the batch, and the way of calling."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cases import CELLS, DTYPES, LSTM, Case, Cell, Shape, make_data
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from layers import make_layer, run_layer
from lstmcore import _core

each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.label)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)

# Small enough for one thread and large enough for several, each way the work may be divided.
THREAD_SHAPES = (
    Shape(3, 5, 4, 8, ragged=True, initial_state=True),
    Shape(1, 40, 32, 256, initial_state=True),
    Shape(2, 20, 16, 300, D=2, ragged=True),
    Shape(64, 30, 16, 64, ragged=True, initial_state=True),
    Shape(67, 21, 13, 45, L=3, D=2, ragged=True, initial_state=True),
    Shape(301, 7, 5, 33, L=2),
    Shape(24, 40, 128, 128, ragged=True),
)
each_thread_shape = pytest.mark.parametrize("shape", THREAD_SHAPES, ids=lambda shape: shape.label)


@each_dtype
@each_thread_shape
@each_cell
def test_number_of_threads(cell: Cell, shape: Shape, dtype: str) -> None:
    case = Case(cell, shape, dtype)
    data = make_data(case)
    dropout = 0.3 if shape.L > 1 else 0.0
    one = run_layer(make_layer(case, data, n_threads=1, dropout=dropout), data)
    for n_threads in (2, 3, None):
        several = run_layer(make_layer(case, data, n_threads=n_threads, dropout=dropout), data)
        assert_all_bitwise(several.arrays, one.arrays, f"n_threads={n_threads}")


@each_dtype
@each_thread_shape
def test_run_to_run(shape: Shape, dtype: str) -> None:
    case = Case(LSTM, shape, dtype)
    layer = make_layer(case, data := make_data(case), n_threads=2)
    first = run_layer(layer, data)
    for _ in range(3):
        assert_all_bitwise(run_layer(layer, data).arrays, first.arrays, "another run")


@each_dtype
@each_cell
@pytest.mark.parametrize(
    "shape",
    [
        Shape(1, 30, 7, 24, initial_state=True),
        Shape(5, 17, 3, 33, initial_state=True),
        Shape(40, 9, 16, 64, L=3, initial_state=True),
        Shape(2, 6, 40, 257, L=2, initial_state=True),
        Shape(3, 12, 1, 1),
    ],
    ids=lambda shape: shape.label,
)
def test_steps_equal_forward(cell: Cell, shape: Shape, dtype: str) -> None:
    case = Case(cell, shape, dtype)
    layer = make_layer(case, data := make_data(case))
    y, final = layer.forward(data.x, state=data.state)
    state = data.state
    for t in range(shape.T):
        out, state = layer.step(data.x[:, t], state)
        if cell.stepwise:
            assert_bitwise(out, y[:, t], f"y at step {t}")
        else:
            assert_close(out, y[:, t], case.tolerance("reference"), f"y at step {t}")
    assert state is not None
    if cell.stepwise:
        assert_all_bitwise(state, final, "final state")
    else:
        assert_all_close(state, final, case.tolerance("reference"), "final state")


@each_dtype
@each_cell
@pytest.mark.parametrize(
    "shape",
    [
        Shape(9, 13, 5, 24, ragged=True, initial_state=True),
        Shape(23, 8, 3, 17, L=2, D=2, ragged=True, initial_state=True),
        Shape(5, 6, 33, 130, D=2, ragged=True, initial_state=True),
        Shape(70, 5, 12, 64, ragged=True),
    ],
    ids=lambda shape: shape.label,
)
def test_neighbours_in_the_batch(cell: Cell, shape: Shape, dtype: str) -> None:
    """A sequence alone gives the bits that it gives inside a ragged batch, in any order of the batch."""
    case = Case(cell, shape, dtype)
    layer = make_layer(case, data := make_data(case))
    assert data.lengths is not None
    batch = run_layer(layer, data)

    def select(rows: np.ndarray) -> dict[str, np.ndarray]:
        longest = int(data.lengths[rows].max())
        state = data.state and {name: value[:, rows] for name, value in data.state.items()}
        dstate = {name: value[:, rows] for name, value in data.dstate.items()}
        x, lengths = data.x[rows, :longest], data.lengths[rows]
        y, final, tape = layer.forward(x, state=state, lengths=lengths, training=True)
        gradients = layer.backward(tape, data.dy[rows, :longest], dstate)
        pad = [(0, 0), (0, shape.T - longest), (0, 0)]
        arrays = {"y": np.pad(y, pad), "dx": np.pad(gradients.x, pad)}
        arrays |= {f"final.{name}": value for name, value in final.items()}
        arrays |= {f"d_initial.{name}": value for name, value in gradients.state.items()}
        return arrays

    def expected(rows: np.ndarray) -> dict[str, np.ndarray]:
        kept = {name: value for name, value in batch.arrays.items() if not name.startswith("gradient.")}
        return {name: value[rows] if name in ("y", "dx") else value[:, rows] for name, value in kept.items()}

    order = np.random.default_rng(0).permutation(shape.N)
    for rows in (*(np.array([n]) for n in range(min(shape.N, 8))), order[: shape.N // 2], order):
        got, wanted = select(rows), expected(rows)
        for name in wanted:
            assert_bitwise(got[name], wanted[name], f"{name} of sequences {rows}")


# --- training --------------------------------------------------------------------------------------------------------


def train(n_threads: int, dtype: str, solver: str = "adam", **recurrent: Any) -> tuple[np.ndarray, list[float]]:
    """A whole training of a classifier on ragged data; weights and losses."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 25, size=90)
    x = [rng.standard_normal((length, 6)).astype(dtype) for length in lengths]
    y = rng.integers(0, 3, size=90).astype(np.int32)
    arguments = {
        "cell": "lstm",
        "input_size": 6,
        "hidden_size": 33,  # padded to 34, 36, 40 or 48, so that engines differ in it
        "num_layers": 2,
        "bidirectional": True,
        "dropout": 0.2,
        "dtype": dtype,
        "seed": 4,
        "cell_options": {},
        **recurrent,
    }
    model = _core.Model({"recurrent": arguments, "pooling": "mean", "activation": "softmax", "outputs": 3})
    options = {"loss": "cross_entropy", "solver": solver, "batch_size": 16, "seed": 1, "clip_norm": 1.0, "alpha": 1e-4}
    trainer = _core.Trainer(model, {**options, "n_threads": n_threads})
    batch = _core.Sequences(x, dtype=dtype)
    losses = [trainer.run_epoch(batch, y)["loss"] for _ in range(4)]
    return model.get_weights(), losses


@each_dtype
@pytest.mark.parametrize("solver", ["sgd", "rmsprop", "adam", "adamw"])
def test_whole_training(solver: str, dtype: str) -> None:
    weights, losses = train(1, dtype, solver)
    assert losses[-1] < losses[0]
    for n_threads in (1, 2, 3):
        again, again_losses = train(n_threads, dtype, solver)
        assert_bitwise(again, weights, f"weights with n_threads={n_threads}")
        assert again_losses == losses


@pytest.mark.parametrize("cell", ["lstm", "elman"])
def test_whole_training_of_larger_layers(cell: str) -> None:
    arguments = {"cell": cell, "hidden_size": 160, "num_layers": 1}
    weights, losses = train(1, "float32", **arguments)
    again, again_losses = train(2, "float32", **arguments)
    assert_bitwise(again, weights, "weights with n_threads=2")
    assert again_losses == losses


def test_seed_decides() -> None:
    assert np.abs(train(1, "float32", seed=5)[0] - train(1, "float32", seed=4)[0]).max() > 1e-3


_SCRIPT = """
import sys, hashlib
sys.path.insert(0, {tests!r})
from test_determinism import train
weights, losses = train(2, "float32")
print(hashlib.sha256(weights.tobytes()).hexdigest(), losses)
"""


def test_training_in_another_process() -> None:
    script = _SCRIPT.format(tests=str(Path(__file__).parent))
    outputs = {
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=300).stdout
        for _ in range(2)
    }
    weights, losses = train(1, "float32")
    assert outputs == {f"{hashlib.sha256(weights.tobytes()).hexdigest()} {losses}\n"}


def test_model_predictions_do_not_depend_on_threads_or_neighbours() -> None:
    rng = np.random.default_rng(0)
    recurrent = {"cell": "lstm", "input_size": 5, "hidden_size": 48, "bidirectional": True, "cell_options": {}}
    for pooling in ("last", "mean", "max"):
        model = _core.Model({"recurrent": recurrent, "pooling": pooling, "activation": "softmax", "outputs": 4})
        x = [rng.standard_normal((length, 5)).astype(np.float32) for length in rng.integers(1, 30, size=70)]
        together = model.predict(x, n_threads=1)
        np.testing.assert_allclose(together.sum(axis=1), 1.0, rtol=1e-6)
        assert_bitwise(model.predict(x, n_threads=2), together, "n_threads=2")
        for n in range(0, 70, 9):
            assert_bitwise(model.predict([x[n]]), together[n : n + 1], f"sequence {n} alone")
