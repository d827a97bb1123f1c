"""Gradients: against the NumPy reference, and of every element against finite differences of the forward pass."""

from __future__ import annotations

import numpy as np
import pytest

import lstmcore
from cases import CELLS, DTYPES, FINITE_DIFFERENCE_STEP, LSTM, Case, Cell, Data, Shape, cases, make_data
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from layers import as_list, make_layer, run_layer
from reference import driver

gradient_cases = pytest.mark.parametrize("case", cases("gradients"), ids=lambda case: case.id)
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.label)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def weighted_sum(y: np.ndarray, final: dict[str, np.ndarray], data: Data) -> float:
    """The loss whose gradients with respect to y and the final state are dy and dstate."""
    return float((y * data.dy).sum() + sum((final[name] * data.dstate[name]).sum() for name in final))


def numeric_gradient(values: np.ndarray, loss) -> np.ndarray:
    """Central differences of loss() in every element of values, which is restored."""
    numeric = np.zeros_like(values)
    for index in np.ndindex(*values.shape):
        keep = values[index]
        values[index] = keep + FINITE_DIFFERENCE_STEP
        above = loss()
        values[index] = keep - FINITE_DIFFERENCE_STEP
        below = loss()
        values[index] = keep
        numeric[index] = (above - below) / (2 * FINITE_DIFFERENCE_STEP)
    return numeric


@gradient_cases
def test_gradients_equal_reference(case: Case) -> None:
    layer = make_layer(case, data := make_data(case))
    result = run_layer(layer, data)
    y, final, tape = driver.forward(case.stack, data.parameters, data.x, data.lengths, data.state)
    dx, d_initial, gradient = driver.backward(tape, data.dy, data.dstate)
    tolerance = case.tolerance("reference")
    assert all(value.dtype == case.dtype for value in result.arrays.values())
    assert_close(result.arrays["y"], y, tolerance, "y")
    assert_all_close(result.named("final."), final, tolerance, "final state")
    assert_close(result.arrays["dx"], dx, tolerance, "dx")
    named = result.named("d_initial.")
    if (
        data.state is None and not case.cell.stepwise
    ):  # the scale of an empty memory: exactly 0, or what rounding leaves
        scale = max(np.abs(value).max() for value in d_initial.values())
        assert np.abs(named.pop("m") - d_initial.pop("m")).max() <= tolerance * scale
    assert_all_close(named, d_initial, tolerance, "gradient of the initial state")
    assert_all_close(result.named("gradient."), gradient, tolerance, "gradient")
    if data.lengths is not None:
        past = np.arange(case.shape.T) >= data.lengths[:, None]
        assert not result.arrays["dx"][past].any(), "gradients past a sequence's length must be exactly zero"


@pytest.mark.parametrize("case", cases("finite_differences"), ids=lambda case: case.id)
def test_gradients_are_those_of_forward(case: Case) -> None:
    """Every parameter, every input, every initial state, with a loss on the outputs and on the final state at once.

    Without truncated gradients: they leave terms out by intent and are the gradient of no loss. test_reference.py holds
    them against the paper's rule. Without initial states that nobody gave: sLSTM takes a normaliser of zero for an
    empty memory, and is not continuous there; where the initial state is learnt, it is among the parameters.
    """
    data = make_data(case)
    data.x, data.dy = np.nan_to_num(data.x), np.nan_to_num(data.dy)
    if data.state is None and not case.cell.learn_initial_state and "n" not in data.dstate:
        data.state = {name: np.zeros_like(value) for name, value in data.dstate.items()}
    layer = make_layer(case, data)
    result = run_layer(layer, data)

    def loss() -> float:
        return weighted_sum(*layer.forward(data.x, state=data.state, lengths=data.lengths), data)

    checked = {"dx": data.x}
    checked |= {f"d_initial.{name}": value for name, value in (data.state or {}).items()}
    checked |= {f"gradient.{name}": value for name, value in layer.parameters.items()}
    results = {name for name in result.arrays if name != "y" and not name.startswith("final.")}
    if data.state is None:
        results -= {f"d_initial.{name}" for name in data.dstate}
    assert set(checked) == results
    unused = {f"gradient.{name}0" for name in data.dstate} if data.state is not None else set()
    if not case.cell.stepwise:
        unused.add("d_initial.h")  # an output that is handed on and read by nothing
    for name, values in checked.items():
        numeric = numeric_gradient(values, loss)
        zero = case.options.get("nonlinearity") == "relu" or name.split("_l")[0] in unused
        assert np.abs(numeric).max() > 0 or zero, f"{name}: nothing to compare"
        assert_close(result.arrays[name], numeric, case.tolerance("finite_differences"), name)


@each_cell
def test_gradients_with_dropout_are_those_of_forward(cell: Cell) -> None:
    """The first recorded pass of equal layers draws equal masks, so the masked network can be differentiated."""
    case = Case(cell, Shape(2, 4, 2, 3, L=3, D=2, ragged=True, initial_state=True), "float64")
    data = make_data(case)
    data.x, data.dy = np.nan_to_num(data.x), np.nan_to_num(data.dy)
    result = run_layer(make_layer(case, data, dropout=0.4, seed=11), data)

    def loss() -> float:
        fresh = make_layer(case, data, dropout=0.4, seed=11)
        y, final, _ = fresh.forward(data.x, state=data.state, lengths=data.lengths, training=True)
        return weighted_sum(y, final, data)

    assert data.state is not None
    checked = {"dx": data.x}
    checked |= {f"d_initial.{name}": value for name, value in data.state.items()}
    checked |= {f"gradient.{name}": value for name, value in data.parameters.items()}
    for name, values in checked.items():
        assert_close(result.arrays[name], numeric_gradient(values, loss), 1e-6, name)


@each_dtype
@each_cell
def test_list_equals_padded_array(cell: Cell, dtype: str) -> None:
    case = Case(cell, Shape(6, 8, 5, 18, L=2, D=2, ragged=True, initial_state=True), dtype)
    layer = make_layer(case, data := make_data(case))
    assert data.lengths is not None
    padded = run_layer(layer, data)
    _, _, tape = layer.forward(as_list(data.x, data.lengths), state=data.state, training=True)
    listed = layer.backward(tape, as_list(data.dy, data.lengths), dstate=data.dstate)
    assert isinstance(listed.x, list)
    for n, value in enumerate(as_list(padded.arrays["dx"], data.lengths)):
        assert_bitwise(listed.x[n], value, f"dx[{n}]")
    assert_all_bitwise(listed.parameters, padded.named("gradient."), "gradient")
    assert_all_bitwise(listed.state, padded.named("d_initial."), "gradient of the initial state")


@each_dtype
@each_cell
def test_each_source_of_gradient_alone(cell: Cell, dtype: str) -> None:
    """Gradients are linear: those of dy alone and of dstate alone add up to those of both; absent means zero."""
    case = Case(cell, Shape(4, 7, 3, 10, L=2, D=2, ragged=True, initial_state=True), dtype)
    layer = make_layer(case, data := make_data(case))
    both = run_layer(layer, data)

    def backward(dy: np.ndarray | None, dstate: dict[str, np.ndarray] | None):
        _, _, tape = layer.forward(data.x, state=data.state, lengths=data.lengths, training=True)
        gradients = layer.backward(tape, dy, dstate)
        return {"dx": np.array(gradients.x), **gradients.parameters}

    zero_dy, zero_dstate = np.zeros_like(data.dy), {name: np.zeros_like(v) for name, v in data.dstate.items()}
    outputs, state = backward(data.dy, None), backward(None, data.dstate)
    assert_all_bitwise(backward(data.dy, zero_dstate), outputs, "dstate of zeros")
    assert_all_bitwise(backward(zero_dy, data.dstate), state, "dy of zeros")
    total = {"dx": both.arrays["dx"], **both.named("gradient.")}
    summed = {name: outputs[name].astype(float) + state[name] for name in outputs}
    assert_all_close(total, summed, case.tolerance("reference"), "sum")


@each_dtype
def test_a_tape_holds_its_pass_and_serves_once(dtype: str) -> None:
    case = Case(LSTM, Shape(5, 9, 3, 20, L=2, D=2, ragged=True, initial_state=True), dtype)
    layer = make_layer(case, data := make_data(case))
    expected = run_layer(layer, data)
    _, _, tape = layer.forward(data.x, state=data.state, lengths=data.lengths, training=True)
    layer.forward(data.x)  # other passes, recorded or not, do not touch what the tape holds
    _, _, other = layer.forward(2 * data.x[:3], lengths=data.lengths[:3], training=True)
    layer.backward(other, data.dy[:3])
    gradients = layer.backward(tape, data.dy, data.dstate)
    assert_bitwise(gradients.x, expected.arrays["dx"], "dx")
    assert_all_bitwise(gradients.parameters, expected.named("gradient."), "gradient")
    with pytest.raises(ValueError, match="tape"):  # backward works in the tape's own memory
        layer.backward(tape, data.dy, data.dstate)


def test_results_stay_when_the_next_pass_runs() -> None:
    """No buffer that was handed out is written to again."""
    case = Case(LSTM, Shape(3, 6, 2, 9), "float64")
    layer = make_layer(case, data := make_data(case))
    y, final, tape = layer.forward(data.x, training=True)
    gradients = layer.backward(tape, data.dy)
    handed_out = {"y": y, **final, "dx": gradients.x, **gradients.parameters}
    copies = {name: np.array(value) for name, value in handed_out.items()}
    _, _, tape = layer.forward(2 * data.x, training=True)
    layer.backward(tape, 3 * data.dy)
    assert_all_bitwise(handed_out, copies, "handed out")


@each_cell
def test_gradient_over_a_long_lag(cell: Cell) -> None:
    """Backpropagation through time reaches the first of 300 steps with full relative accuracy, however small it got."""
    case = Case(cell, Shape(2, 300, 3, 12, initial_state=True), "float64")
    data = make_data(case)
    data.dy[:, :-1] = 0.0
    layer = make_layer(case, data)
    result = run_layer(layer, data)
    _, _, tape = driver.forward(case.stack, data.parameters, data.x, data.lengths, data.state)
    dx, _, _ = driver.backward(tape, data.dy, data.dstate)
    if case.options.get("nonlinearity") != "relu" or cell.name != "indrnn":  # one step shut, and a unit passes nothing
        assert np.abs(dx[:, 0]).max() > 0.0
    if cell.name != "lstm1997":  # which is made not to forget
        assert np.abs(dx[:, 0]).max() < 1e-3 * np.abs(dx[:, -1]).max()
    for t in range(300):
        assert_close(result.arrays["dx"][:, t], dx[:, t], 1e-9, f"dx at step {t}")


def test_backward_refuses_what_does_not_fit() -> None:
    case = Case(LSTM, Shape(3, 6, 2, 4), "float64")
    layer = make_layer(case, data := make_data(case))
    _, _, tape = layer.forward(data.x, training=True)
    with pytest.raises(ValueError, match="dy"):
        layer.backward(tape, data.dy[:, :, :3])
    with pytest.raises(ValueError, match="dy"):
        layer.backward(tape, data.dy[:2])
    with pytest.raises(ValueError, match="dstate"):
        layer.backward(tape, data.dy, {"h": data.dstate["h"][:, :2], "c": data.dstate["c"]})
    with pytest.raises((ValueError, KeyError), match="dstate"):
        layer.backward(tape, data.dy, {"h": data.dstate["h"], "hidden": data.dstate["c"]})
    with pytest.raises(TypeError):
        layer.backward(None, data.dy)
    other = lstmcore.Recurrent(input_size=2, hidden_size=5, dtype="float64")
    with pytest.raises(ValueError, match="tape"):
        other.backward(tape, np.zeros((3, 6, 5)))
