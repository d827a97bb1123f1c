"""Layers whose products are in bf16, with sums, states and weights in float32: `precision="bfloat16"`."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import lstmcore
from cases import CELLS, VARIANTS, Case, Cell, Data, Shape, make_data
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from layers import Pass, as_list, make_layer, run_layer
from reference import bfloat16, driver

# Where float32 may take a number to the other side of a tie, in units of the last place of bf16.
TIE = 4e-4
TOLERANCE = 2e-5


def allowed(cell: Cell) -> bool:
    options = dict(cell.options)
    return cell.stepwise and options.get("variant") != "FGR" and not options.get("gate_recurrence", False)


EVERY = [cell for cell in (*CELLS, *VARIANTS) if allowed(cell)]
each_cell = pytest.mark.parametrize("cell", EVERY, ids=lambda cell: cell.label)


def layer_of(case: Case, data: Data, **arguments: Any) -> Any:
    return make_layer(case, data, **{"precision": "bfloat16", **arguments})


def clear_of_ties(case: Case, backward: bool) -> tuple[Data, tuple[Any, ...]]:
    """The first data for which float32 and float64 must round alike, and what the reference makes of them."""
    for seed in range(200):
        data = make_data(case, seed)
        y, final, tape = bfloat16.forward(case.stack, data.parameters, data.x, data.lengths, data.state)
        results: tuple[Any, ...] = (y, final)
        if backward:
            results += bfloat16.backward(tape, data.dy, data.dstate)
        if bfloat16.nearest_tie() > TIE:
            return data, results
    raise AssertionError("all came too near to a tie")


# --- against the reference --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        Shape(1, 4, 3, 8),
        Shape(1, 3, 5, 17, L=2),
        Shape(3, 4, 2, 4, D=2, L=2, ragged=True),
        Shape(5, 3, 7, 9, ragged=True),
        Shape(13, 2, 6, 10),
        Shape(2, 2, 33, 34),
    ],
    ids=lambda shape: shape.label,
)
@each_cell
def test_outputs_equal_reference(cell: Cell, shape: Shape) -> None:
    case = Case(cell, shape, "float32")
    if not cell.fits(shape):
        pytest.skip("the options do not fit the shape")
    data, (y, final) = clear_of_ties(case, backward=False)
    layer = layer_of(case, data)
    found, found_final = layer.forward(data.x, state=data.state, lengths=data.lengths)
    assert_close(found, y, TOLERANCE, "y")
    assert_all_close(found_final, final, TOLERANCE, "final state")
    exact = driver.forward(case.stack, data.parameters, data.x, data.lengths, data.state)[0]
    assert np.abs(exact - y).max() > 20 * TOLERANCE * np.abs(y).max(), "rounding would not show"


@pytest.mark.parametrize(
    "shape",
    [Shape(1, 4, 3, 8), Shape(2, 3, 4, 6, D=2, L=2, ragged=True), Shape(4, 3, 3, 6, ragged=True)],
    ids=lambda shape: shape.label,
)
@each_cell
def test_gradients_equal_reference(cell: Cell, shape: Shape) -> None:
    case = Case(cell, shape, "float32")
    if not cell.fits(shape):
        pytest.skip("the options do not fit the shape")
    data, (y, _, dx, d_initial, gradient) = clear_of_ties(case, backward=True)
    result = run_layer(layer_of(case, data), data)
    options = dict(cell.options)
    # Units that share a gate have their gradients rounded before they are added up, those of the reference after.
    tolerance = 6e-3 if options.get("block_size", 1) != 1 else TOLERANCE * (5 if options.get("layer_norm") else 1)
    assert_close(result.arrays["y"], y, TOLERANCE, "y")
    assert_close(result.arrays["dx"], dx, tolerance, "dx")
    assert_all_close(result.named("d_initial."), d_initial, tolerance, "gradient of the initial state")
    for name, value in gradient.items():
        # Sums over rows read the gradients that products read; the reference adds up those before rounding.
        rounds = name[:2] in ("W_", "R_", "pr", "ln") or "0_l" in name
        assert_close(result.arrays[f"gradient.{name}"], value, tolerance if rounds else 2e-2, name)


def test_bias_gradient_is_that_of_a_constant_input() -> None:
    """Both add up gradients that are rounded already."""
    layer = lstmcore.Recurrent("lstm", input_size=4, hidden_size=11, seed=1, precision="bfloat16")
    x = np.random.default_rng(0).standard_normal((3, 9, 4), dtype=np.float32)
    x[:, :, 2] = 1.0
    y, _, tape = layer.forward(x, training=True)
    gradients = layer.backward(tape, y)
    assert_close(gradients.parameters["b_l0"], gradients.parameters["W_l0"][:, 2], 1e-6, "b")


# --- what must not change the bits ------------------------------------------------------------------------------------


@each_cell
def test_results_do_not_depend_on_threads(cell: Cell) -> None:
    for shape in (Shape(2, 6, 5, 44, L=2, D=2, initial_state=True), Shape(13, 5, 4, 24, ragged=True)):
        case = Case(cell, shape, "float32")
        data = make_data(case)
        results = [run_layer(layer_of(case, data, n_threads=n), data) for n in (1, 2, 3)]
        for other in results[1:]:
            assert_all_bitwise(other.arrays, results[0].arrays, "threads")


@each_cell
def test_steps_are_forward(cell: Cell) -> None:
    case = Case(cell, Shape(3, 5, 4, 18, L=2, initial_state=True), "float32")
    layer = layer_of(case, data := make_data(case))
    y, final = layer.forward(data.x, state=data.state)
    for count in (1, 3):
        state = {name: value[:, :count].copy() for name, value in data.state.items()}  # type: ignore[union-attr]
        for t in range(case.shape.T):
            out, state = layer.step(np.ascontiguousarray(data.x[:count, t]), state)
            assert_bitwise(out, y[:count, t], f"step {t} of {count}")
        assert_all_bitwise(state, {name: value[:, :count] for name, value in final.items()}, "state")


@each_cell
def test_a_sequence_does_not_depend_on_its_batch(cell: Cell) -> None:
    case = Case(cell, Shape(33, 4, 3, 20, ragged=True), "float32")
    layer = layer_of(case, data := make_data(case))
    assert data.lengths is not None
    together = layer.forward(as_list(data.x, data.lengths))[0]
    for n in (0, 7, 32):
        alone = layer.forward([data.x[n, : data.lengths[n]]])[0]
        assert_bitwise(together[n], alone[0], f"sequence {n}")


@each_cell
def test_steps_with_the_same_input(cell: Cell) -> None:
    """forward(codes=) computes what they have in common once, and nothing else changes."""
    if dict(cell.options).get("layer_norm"):
        pytest.skip("layer normalisation looks at rows as they are")
    case = Case(cell, Shape(5, 6, 3, 20, ragged=True), "float32")
    data = make_data(case)
    codes = np.random.default_rng(7).integers(4, size=data.x.shape[:2])
    past = np.isnan(data.x).any(axis=2)
    data.x = np.random.default_rng(8).standard_normal((4, 3), dtype=np.float32)[codes]
    data.x[past], codes[past] = np.nan, -1
    layer, results = layer_of(case, data), []
    for given in (None, codes):
        y, _, tape = layer.forward(data.x, lengths=data.lengths, training=True, codes=given)
        results.append((y, layer.backward(tape, data.dy)))
    assert_bitwise(results[1][0], results[0][0], "y")
    assert_all_close(results[1][1].parameters, results[0][1].parameters, TOLERANCE, "gradient")
    assert_close(*(of.x.sum(axis=(0, 1)) for _, of in results), TOLERANCE, "sums of dx")


# --- what is near float32 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "regularisers",
    [
        {"dropout": 0.4, "variational_dropout": 0.3},
        {"zoneout_hidden": 0.2},
        {"zoneout_cell": 0.3, "recurrent_dropout": 0.2},
        {"learn_initial_state": True, "variational_dropout": 0.2, "zoneout_hidden": 0.1},
    ],
    ids=lambda value: "-".join(value),
)
@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm"},
        {"cell": "lstm", "proj_size": 7},
        {"cell": "gru"},
        {"cell": "gru", "reset_after": False},
        {"cell": "lstm", "layer_norm": True},
    ],
    ids=lambda value: "-".join(map(str, value.values())),
)
def test_regularised_gradients_are_near_those_of_float32(options: dict[str, Any], regularisers: dict[str, Any]) -> None:
    if options["cell"] == "gru" and "zoneout_cell" in regularisers:
        pytest.skip("gru has no state besides h")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 9, 5), dtype=np.float32)
    results = []
    for precision in (None, "bfloat16"):
        layer = lstmcore.Recurrent(
            **options, **regularisers, input_size=5, hidden_size=14, num_layers=2, seed=4, precision=precision
        )
        y, final, tape = layer.forward(x, training=True)
        gradients = layer.backward(tape, 2 * y)
        arrays = {"y": y, "dx": gradients.x, **final, **gradients.parameters}
        results.append(Pass({name: np.array(value) for name, value in arrays.items()}))
    for name, exact in results[0].arrays.items():
        found = results[1].arrays[name]
        error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
        # Layer normalisation divides by deviations, which may be small.
        assert 1e-5 < error < (0.2 if "layer_norm" in options else 0.03), f"{name}: {error}"


def test_near_torch() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(9, 40, num_layers=2, bidirectional=True, batch_first=True).to(torch.bfloat16)
    layer = lstmcore.Recurrent.from_torch(module, dtype="float32")
    ours = lstmcore.Recurrent(
        "lstm", input_size=9, hidden_size=40, num_layers=2, bidirectional=True, precision="bfloat16"
    )
    for name, value in layer.parameters.items():
        ours.parameters[name][...] = value
    x = np.random.default_rng(0).standard_normal((4, 20, 9), dtype=np.float32)
    with torch.no_grad():
        theirs = module(torch.from_numpy(x).to(torch.bfloat16))[0].float().numpy()
    assert np.abs(ours.forward(x)[0] - theirs).max() < 0.02  # they round states and gates as well
    exact = layer.forward(x)[0]
    assert np.abs(ours.forward(x)[0] - exact).max() < np.abs(theirs - exact).max()


# --- numbers at the edge ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, 1e-42])
@pytest.mark.parametrize("count", [1, 5])
def test_inputs_at_the_edge(value: float, count: int) -> None:
    layer = lstmcore.Recurrent("lstm", input_size=3, hidden_size=9, seed=2, precision="bfloat16")
    x = np.random.default_rng(1).standard_normal((count, 4, 3), dtype=np.float32)
    expected = layer.forward(x)[0]
    x[0, 2, 1] = value
    y = layer.forward(x)[0]
    assert_bitwise(y[1:], expected[1:], "other sequences")
    assert_bitwise(y[0, :2], expected[0, :2], "earlier steps")
    assert np.isnan(y[0, 2:]).any() == bool(np.isnan(value))


def test_the_nearest_bf16() -> None:
    """A single unit without a recurrence shows what became of its input: h = x for relu and a weight of 1."""
    layer = lstmcore.Recurrent("elman", input_size=1, hidden_size=1, nonlinearity="relu", precision="bfloat16")
    layer.parameters["W_l0"][:] = 1.0
    layer.parameters["R_l0"][:] = 0.0
    layer.parameters["b_l0"][:] = 0.0
    x = np.abs(np.random.default_rng(0).standard_normal((50, 1, 1), dtype=np.float32)) * np.float32(1e3)
    x[:4, 0, 0] = [1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20, 0.0]  # ties go to the even neighbour
    found = layer.forward(x)[0][:, 0, 0]
    assert_bitwise(found, bfloat16.rounded(x[:, 0, 0]).astype(np.float32), "rounded")
    assert found[:4].tolist() == [1.0, 1 + 2.0**-6, 1 + 2.0**-7, 0.0]


# --- arguments and copies ---------------------------------------------------------------------------------------------


def test_the_argument() -> None:
    sizes = {"input_size": 2, "hidden_size": 3}
    layer = lstmcore.Recurrent("lstm", **sizes, precision="bfloat16")
    assert layer.precision == "bfloat16"
    assert layer.dtype == np.float32
    assert "precision='bfloat16'" in repr(layer)
    assert lstmcore.Recurrent("lstm", **sizes).precision == "float32"
    assert lstmcore.Recurrent("lstm", **sizes, precision="float32").precision == "float32"
    assert lstmcore.Recurrent("lstm", **sizes, dtype="float64", precision="float64").precision == "float64"
    assert "precision" not in repr(lstmcore.Recurrent("lstm", **sizes))
    x = np.ones((1, 3, 2), dtype=np.float32)
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert other.precision == "bfloat16"
        assert_bitwise(other.forward(x)[0], layer.forward(x)[0], "y")


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"dtype": "float64"}, ValueError, r"precision: bfloat16 .*expected dtype float32, got float64"),
    (
        {"precision": "float64"},
        ValueError,
        r"precision: expected None, 'bfloat16' or the dtype, 'float32', got 'float64'",
    ),
    ({"precision": "float16"}, ValueError, r"precision: expected None, 'bfloat16' or the dtype.*got 'float16'"),
    ({"precision": 16}, TypeError, r"precision: expected a str, got 16"),
    ({"cell": "mlstm"}, ValueError, r"precision: bfloat16 does not work with cell 'mlstm'.*use float32"),
    ({"cell": "xlstm"}, ValueError, r"precision: bfloat16 does not work with cell 'xlstm'"),
    ({"variant": "FGR"}, ValueError, r"variant='FGR' of cell 'lstm', whose gates feed back; use float32"),
    ({"cell": "lstm1997", "gate_recurrence": True}, ValueError, r"gate_recurrence=true of cell 'lstm1997'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lstmcore.Recurrent(**{"cell": "lstm", "input_size": 2, "hidden_size": 4, "precision": "bfloat16", **arguments})
