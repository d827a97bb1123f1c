"""Outputs and final states against the NumPy reference, and the forms that input and output may take."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import lstmcore
from cases import CELLS, DTYPES, ELMAN_RELU, LSTM, VARIANTS, Case, Cell, Shape, cases, make_data
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from layers import as_list, make_layer
from reference import driver

forward_cases = pytest.mark.parametrize("case", cases("forward"), ids=lambda case: case.id)
ragged_cases = pytest.mark.parametrize(
    "case", [case for case in cases("forward") if case.shape.ragged], ids=lambda case: case.id
)


@forward_cases
def test_forward_equals_reference(case: Case) -> None:
    layer = make_layer(case, data := make_data(case))
    y, final = layer.forward(data.x, state=data.state, lengths=data.lengths)
    expected_y, expected_final, _ = driver.forward(case.stack, data.parameters, data.x, data.lengths, data.state)
    assert y.dtype == case.dtype
    assert all(value.dtype == case.dtype for value in final.values())
    assert_close(y, expected_y, case.tolerance("reference"), "y")
    assert_all_close(final, expected_final, case.tolerance("reference"), "final state")


@forward_cases
def test_recording_changes_nothing(case: Case) -> None:
    layer = make_layer(case, data := make_data(case))
    y, final = layer.forward(data.x, state=data.state, lengths=data.lengths)
    taped_y, taped_final, tape = layer.forward(data.x, state=data.state, lengths=data.lengths, training=True)
    assert_bitwise(taped_y, y, "y")
    assert_all_bitwise(taped_final, final, "final state")
    expected = np.full(case.shape.N, case.shape.T) if data.lengths is None else data.lengths
    np.testing.assert_array_equal(tape.lengths, expected)


@ragged_cases
def test_list_equals_padded_array(case: Case) -> None:
    layer = make_layer(case, data := make_data(case))
    y, final = layer.forward(data.x, state=data.state, lengths=data.lengths)
    assert data.lengths is not None
    past = np.arange(case.shape.T) >= data.lengths[:, None]
    assert not y[past].any(), "outputs past a sequence's length"
    listed, listed_final = layer.forward(as_list(data.x, data.lengths), state=data.state)
    assert isinstance(listed, list)
    assert len(listed) == case.shape.N
    for n, value in enumerate(as_list(y, data.lengths)):
        assert_bitwise(listed[n], value, f"y[{n}]")
    assert_all_bitwise(listed_final, final, "final state")


@ragged_cases
def test_final_state_is_that_of_the_last_step_run(case: Case) -> None:
    """Of the last real step in the forward direction, of the first step in the reverse one."""
    layer = make_layer(case, data := make_data(case))
    y, final = layer.forward(data.x, state=data.state, lengths=data.lengths)
    assert data.lengths is not None
    P, D = case.stack.output_size, case.shape.D
    assert_bitwise(final["h"][-D], y[np.arange(len(y)), data.lengths - 1, :P], "forward direction")
    if D == 2:
        assert_bitwise(final["h"][-1], y[:, 0, P:], "reverse direction")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "cell", [cell for cell in (*CELLS, *VARIANTS) if not cell.learn_initial_state], ids=lambda cell: cell.label
)
def test_absent_state_is_zeros(cell: Cell, dtype: str) -> None:
    case = Case(cell, Shape(4, 6, 3, 10, L=2, D=2, ragged=True), dtype)
    layer = make_layer(case, data := make_data(case))
    y, final = layer.forward(data.x, lengths=data.lengths)
    zeros = layer.init_state(4)
    assert list(zeros) == list(layer.states)
    assert {name: value.shape for name, value in zeros.items()} == case.stack.state_shapes(4)
    assert all(value.dtype == dtype and not value.any() for value in zeros.values())
    again, again_final = layer.forward(data.x, state=zeros, lengths=data.lengths)
    assert_bitwise(again, y, "y")
    assert_all_bitwise(again_final, final, "final state")
    assert all(not value.any() for value in zeros.values()), "the caller's state was written to"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", [*CELLS, *VARIANTS], ids=lambda cell: cell.label)
def test_a_sequence_may_be_run_in_parts(cell: Cell, dtype: str) -> None:
    """Carrying the state over a cut gives what the whole sequence gives, to the last bit where cells go step by step."""
    case = Case(cell, Shape(3, 20, 4, 18, L=2, initial_state=True), dtype)
    layer = make_layer(case, data := make_data(case))
    whole, final = layer.forward(data.x, state=data.state)
    first, state = layer.forward(data.x[:, :7], state=data.state)
    second, state = layer.forward(data.x[:, 7:], state=state)
    if not cell.stepwise:
        assert_close(np.concatenate([first, second], axis=1), whole, case.tolerance("reference"), "y")
        assert_all_close(state, final, case.tolerance("reference"), "final state")
        return
    assert_bitwise(np.concatenate([first, second], axis=1), whole, "y")
    assert_all_bitwise(state, final, "final state")


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_number_types_are_converted(dtype: str) -> None:
    case = Case(LSTM, Shape(3, 5, 4, 8), dtype)
    layer = make_layer(case, make_data(case))
    values = np.random.default_rng(0).integers(-3, 4, size=(3, 5, 4))
    expected, _ = layer.forward(values.astype(dtype))
    for kind in ("int8", "int64", "uint8", "float16", "float32", "float64", ">f4", ">f8"):
        given = np.abs(values) if kind == "uint8" else values
        y, _ = layer.forward(given.astype(kind))
        wanted = layer.forward(given.astype(dtype))[0] if kind == "uint8" else expected
        assert y.dtype == dtype
        assert_bitwise(y, wanted, kind)


def test_dropout_only_acts_in_training() -> None:
    case = Case(LSTM, Shape(3, 9, 4, 30, L=2), "float64")
    data = make_data(case)
    plain, dropping = make_layer(case, data), make_layer(case, data, dropout=0.5, seed=1)
    y, _ = plain.forward(data.x)
    assert_bitwise(dropping.forward(data.x)[0], y, "y without recording")
    trained = dropping.forward(data.x, training=True)[0]
    assert np.abs(trained - y).max() > 1e-3
    again = make_layer(case, data, dropout=0.5, seed=1).forward(data.x, training=True)[0]
    assert_bitwise(again, trained, "y of the same seed")
    other = make_layer(case, data, dropout=0.5, seed=2).forward(data.x, training=True)[0]
    assert np.abs(other - trained).max() > 1e-3
    assert np.abs(dropping.forward(data.x, training=True)[0] - trained).max() > 1e-3, "a second pass had the same mask"


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_scales_what_it_keeps(rate: float) -> None:
    """Layer 1 is made to copy its input (relu, W = 1, R = 0), so the mask itself comes out, and its statistics show."""
    layer = lstmcore.Recurrent(
        "elman", nonlinearity="relu", input_size=1, hidden_size=64, num_layers=2, dropout=rate, dtype="float64", seed=5
    )
    parameters = layer.parameters
    for name, value in parameters.items():
        value[...] = 0.0
        if name == "b_l0":
            value[...] = 1.0
    parameters["W_l1"][...] = np.eye(64)
    y = layer.forward(np.zeros((50, 40, 1)), training=True)[0]
    kept = y != 0.0
    np.testing.assert_allclose(y[kept], 1.0 / (1.0 - rate), rtol=1e-6)
    deviation = np.sqrt(rate * (1.0 - rate) / y.size)
    assert abs(kept.mean() - (1.0 - rate)) < 5 * deviation
    # Neighbours along every axis are independent.
    for axis in range(3):
        one = np.take(kept, range(kept.shape[axis] - 1), axis)
        next_one = np.take(kept, range(1, kept.shape[axis]), axis)
        assert abs(np.corrcoef(one.ravel(), next_one.ravel())[0, 1]) < 5 / np.sqrt(one.size)


def test_attributes_say_what_was_asked_for() -> None:
    layer = lstmcore.Recurrent(
        "elman", input_size=3, hidden_size=5, num_layers=2, bidirectional=True, n_threads=1, nonlinearity="relu"
    )
    assert (layer.cell, layer.input_size, layer.hidden_size, layer.num_layers) == ("elman", 3, 5, 2)
    assert layer.bidirectional is True
    assert layer.dropout == 0.0
    assert layer.n_threads == 1
    assert layer.dtype == np.float32
    assert layer.cell_options == {"nonlinearity": "relu"}
    assert layer.gates == ("a",)
    assert layer.states == ("h",)
    assert lstmcore.Recurrent(input_size=3, hidden_size=5).gates == ("i", "f", "g", "o")
    assert lstmcore.Recurrent(input_size=3, hidden_size=5).states == ("h", "c")
    assert lstmcore.Recurrent(input_size=3, hidden_size=5).n_threads is None


def test_parameters_are_live_views() -> None:
    layer = lstmcore.Recurrent(input_size=2, hidden_size=4, dtype="float64")
    x = np.ones((1, 3, 2))
    before = layer.forward(x)[0]
    view = layer.parameters["b_l0"]
    view[...] += 0.5
    assert np.abs(layer.forward(x)[0] - before).max() > 1e-3
    assert_bitwise(layer.parameters["b_l0"], view, "b_l0")
    del layer
    assert np.isfinite(view).all(), "a view must keep the weights alive"


def test_initial_weights() -> None:
    """Forget bias 1 (Jozefowicz et al., 2015), orthogonal recurrent blocks, and the seed decides the rest."""
    arguments = {"input_size": 5, "hidden_size": 12, "num_layers": 2, "bidirectional": True, "dtype": "float64"}
    layer = lstmcore.Recurrent("lstm", seed=3, **arguments)
    for name, value in layer.parameters.items():
        blocks = np.split(value, 4)
        if name.startswith("b"):
            np.testing.assert_array_equal(np.concatenate(blocks), np.repeat([0.0, 1.0, 0.0, 0.0], 12))
        elif name.startswith("R"):
            for block in blocks:
                np.testing.assert_allclose(block @ block.T, np.eye(12), atol=1e-12)
        else:
            assert 0.01 < value.std() < 1.0
            assert abs(value.mean()) < 0.2
    same = lstmcore.Recurrent("lstm", seed=3, **arguments).parameters
    other = lstmcore.Recurrent("lstm", seed=4, **arguments).parameters
    assert_all_bitwise(same, layer.parameters, "parameters of the same seed")
    assert all(np.abs(other[name] - same[name]).max() > 0.01 for name in same if name[0] in "WR")


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_carry_weights_and_share_nothing(copying) -> None:
    case = Case(ELMAN_RELU, Shape(2, 5, 3, 6, L=2, D=2), "float64")
    layer = make_layer(case, data := make_data(case), dropout=0.25, seed=9, n_threads=1)
    twin = copying(layer)
    assert (twin.dropout, twin.seed, twin.n_threads) == (0.25, 9, 1)
    assert twin.cell_options == layer.cell_options
    assert twin.cell_options["nonlinearity"] == "relu"
    expected = layer.forward(data.x)[0]
    assert_bitwise(twin.forward(data.x)[0], expected, "y")
    twin.parameters["b_l0"][...] += 1.0
    assert_bitwise(layer.forward(data.x)[0], expected, "y after a change of the copy")
    assert repr(twin) == repr(layer)
    assert "hidden_size=6" in repr(layer)
