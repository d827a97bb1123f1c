"""Sizes at and beside every boundary, unusual memory, denormals, saturation, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import lstmcore
from cases import CELLS, DTYPES, LSTM, VARIANTS, Case, Cell, Shape, make_data
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from layers import make_layer, run_layer
from reference import driver

each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.label)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def compare_with_reference(case: Case) -> None:
    layer = make_layer(case, data := make_data(case))
    result = run_layer(layer, data)
    y, final, tape = driver.forward(case.stack, data.parameters, data.x, data.lengths, data.state)
    dx, d_initial, gradient = driver.backward(tape, data.dy, data.dstate)
    expected = {"y": y, "dx": dx}
    expected |= {f"final.{name}": value for name, value in final.items()}
    expected |= {f"d_initial.{name}": value for name, value in d_initial.items()}
    expected |= {f"gradient.{name}": value for name, value in gradient.items()}
    assert_all_close(result.arrays, expected, case.tolerance("reference"), case.id)


@each_dtype
@each_cell
@pytest.mark.parametrize("H", range(1, 41))
def test_every_hidden_size(cell: Cell, H: int, dtype: str) -> None:
    compare_with_reference(Case(cell, Shape(3, 4, 1 + H % 6, H, ragged=True, initial_state=True), dtype))


@each_dtype
@each_cell
@pytest.mark.parametrize("N", [*range(1, 20), 31, 32, 33, 63, 64, 65, 127, 129, 257])
def test_every_batch_size(cell: Cell, N: int, dtype: str) -> None:
    compare_with_reference(Case(cell, Shape(N, 3, 4, 10, D=2, ragged=N % 2 == 1, initial_state=True), dtype))


@each_dtype
@each_cell
@pytest.mark.parametrize("I", [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 130, 300])
def test_every_input_size(cell: Cell, I: int, dtype: str) -> None:
    compare_with_reference(Case(cell, Shape(4, 3, I, 9, ragged=True), dtype))


@each_dtype
@each_cell
@pytest.mark.parametrize(
    "shape",
    [
        Shape(1, 1, 1, 1, L=3, D=2),
        Shape(5, 1, 3, 20, L=2, D=2, initial_state=True),
        Shape(40, 1, 2, 6, initial_state=True),
        Shape(1, 1500, 2, 5, ragged=True),
        Shape(3, 700, 1, 3, D=2, ragged=True),
        Shape(1, 3, 2, 7, L=6, D=2),
        Shape(2, 2, 3, 600),
        Shape(300, 2, 1, 1),
    ],
    ids=lambda shape: shape.label,
)
def test_extreme_shapes(cell: Cell, shape: Shape, dtype: str) -> None:
    compare_with_reference(Case(cell, shape, dtype))


@each_dtype
@each_cell
def test_all_lengths_one(cell: Cell, dtype: str) -> None:
    """Ragged in form only; equal to the first step alone."""
    case = Case(cell, Shape(7, 6, 3, 21, L=2, D=2, initial_state=True), dtype)
    layer = make_layer(case, data := make_data(case))
    y, final = layer.forward(data.x, state=data.state, lengths=np.ones(7, int))
    alone, alone_final = layer.forward(data.x[:, :1], state=data.state)
    assert_bitwise(y[:, :1], alone, "y")
    assert not y[:, 1:].any()
    assert_all_bitwise(final, alone_final, "final state")


# --- memory ----------------------------------------------------------------------------------------------------------


@each_dtype
def test_memory_layout_does_not_matter(dtype: str) -> None:
    case = Case(LSTM, Shape(5, 8, 6, 13, D=2, initial_state=True), dtype)
    layer = make_layer(case, data := make_data(case))
    assert data.state is not None
    expected = run_layer(layer, data)

    def spread(value: np.ndarray) -> np.ndarray:
        """The same values with gaps between all elements, in reverse order in memory, and read-only."""
        wide = np.full([2 * n for n in value.shape], np.nan, value.dtype)
        view = wide[tuple(slice(None, None, -2) for _ in value.shape)]
        view[...] = value
        view.flags.writeable = False
        assert not view.flags.c_contiguous
        return view

    def unaligned(value: np.ndarray) -> np.ndarray:
        raw = np.zeros(value.nbytes + 1, np.uint8)[1:].view(value.dtype).reshape(value.shape)
        raw[...] = value
        assert not raw.flags.aligned
        return raw

    for change in (spread, unaligned, np.asfortranarray, lambda value: value.tolist()):
        given = make_data(case)
        given.x, given.dy = change(data.x), change(data.dy)
        given.state = {name: change(value) for name, value in data.state.items()}
        given.dstate = {name: change(value) for name, value in data.dstate.items()}
        assert_all_bitwise(run_layer(layer, given).arrays, expected.arrays, "arrays in another layout")


def test_arguments_are_not_written_to() -> None:
    case = Case(LSTM, Shape(4, 5, 3, 8, L=2, initial_state=True), "float64")
    layer = make_layer(case, data := make_data(case))
    untouched = make_data(case)
    run_layer(layer, data)
    layer.step(data.x[:, 0], data.state)
    assert data.state is not None
    assert untouched.state is not None
    assert_bitwise(data.x, untouched.x, "x")
    assert_bitwise(data.dy, untouched.dy, "dy")
    assert_all_bitwise(data.state, untouched.state, "state")
    assert_all_bitwise(data.dstate, untouched.dstate, "dstate")


# --- numbers ---------------------------------------------------------------------------------------------------------


def denormals_survive() -> bool:
    """Whether arithmetic of this thread keeps denormals, on scalars and on SIMD lanes."""
    tiny = np.full(64, 1e-40, np.float32)
    tiny_double = np.full(64, 1e-310)
    return bool((tiny * np.float32(0.5)).all() and (tiny_double * 0.5).all())


@each_dtype
@each_cell
@pytest.mark.parametrize("n_threads", [1, 2])
def test_denormals(cell: Cell, dtype: str, n_threads: int) -> None:
    """Tiny inputs, weights, states and gradients give finite results, and the caller's floating-point mode stays."""
    case = Case(cell, Shape(40, 20, 8, 32, L=2, D=2, initial_state=True), dtype)
    data = make_data(case)
    scale = 1e-40 if dtype == "float32" else 1e-310
    data.x, data.dy = (data.x * scale).astype(dtype), (data.dy * scale).astype(dtype)
    assert data.state is not None
    data.state = {name: (value * scale).astype(dtype) for name, value in data.state.items()}
    for name in data.parameters:
        if name.startswith("b"):
            data.parameters[name] = np.zeros_like(data.parameters[name])
    data.dstate = {name: (value * scale).astype(dtype) for name, value in data.dstate.items()}
    layer = make_layer(case, data, n_threads=n_threads)
    assert denormals_survive()
    result = run_layer(layer, data)
    assert denormals_survive(), "forward or backward left denormals flushed"
    for name, value in result.arrays.items():
        assert np.isfinite(value).all(), name
        if name != "final.n":  # the normaliser of sLSTM counts steps also where there is nothing to store
            assert np.abs(value).max() < 1e-30, name
    with pytest.raises(ValueError, match="x"):
        layer.forward(np.zeros((2, 3, 9)))
    assert denormals_survive(), "an error left denormals flushed"


@each_dtype
@each_cell
def test_saturation(cell: Cell, dtype: str) -> None:
    """Pre-activations far beyond the range of exp: gates are exactly 0, 1 or −1, and nothing overflows."""
    case = Case(cell, Shape(6, 5, 4, 24, initial_state=True), dtype)
    data = make_data(case)
    data.x = (np.sign(data.x) * 1e4).astype(dtype)
    layer = make_layer(case, data)
    result = run_layer(layer, data)
    y, _, _ = driver.forward(case.stack, data.parameters, data.x, data.lengths, data.state)
    # lstm1997 adds up what the rounding of such large products leaves of the few that nearly cancel.
    assert_close(result.arrays["y"], y, 5e-5 if dtype == "float32" else 1e-10, "y")
    assert all(np.isfinite(value).all() for value in result.arrays.values())


@each_dtype
def test_activations_over_their_whole_range(dtype: str) -> None:
    """σ and tanh, seen through an LSTM of one unit, hold full accuracy from tiny to saturating arguments."""
    layer = lstmcore.Recurrent(input_size=1, hidden_size=1, dtype=dtype)
    magnitudes = np.concatenate([np.logspace(-30, 2, 4000), np.linspace(0.0, 40.0, 4001)])
    a = np.concatenate([-magnitudes, magnitudes]).astype(dtype)
    big = 100.0
    epsilon = np.finfo(dtype).eps
    parameters = layer.parameters

    def output(weights: list[float], biases: list[float]) -> tuple[np.ndarray, np.ndarray]:
        parameters["R_l0"][...] = 0.0
        parameters["W_l0"][:, 0] = weights
        parameters["b_l0"][...] = biases
        _, final = layer.forward(a.reshape(-1, 1, 1))
        return final["h"][0, :, 0].astype(np.float64), final["c"][0, :, 0].astype(np.float64)

    exact = a.astype(np.longdouble)
    # i = o = 1, f = 0: c = tanh(a).
    _, c = output([0, 0, 1, 0], [big, -big, 0, big])
    np.testing.assert_allclose(c, np.tanh(exact).astype(np.float64), rtol=8 * epsilon, atol=np.finfo(dtype).tiny)
    # g = 1, f = 0: c = σ(a).
    _, c = output([1, 0, 0, 0], [0, -big, big, big])
    sigmoid = (1.0 / (1.0 + np.exp(-exact))).astype(np.float64)
    moderate = np.abs(a) < 30
    np.testing.assert_allclose(c[moderate], sigmoid[moderate], rtol=16 * epsilon)
    np.testing.assert_allclose(c, sigmoid, rtol=0, atol=2 * epsilon)
    assert np.all((c >= 0.0) & (c <= 1.0))


@each_dtype
def test_not_a_number_stays_in_its_sequence(dtype: str) -> None:
    """A layer does not hide NaN and does not spread it to other sequences or to earlier steps."""
    case = Case(LSTM, Shape(9, 6, 3, 17), dtype)
    layer = make_layer(case, data := make_data(case))
    clean, _ = layer.forward(data.x)
    for bad in (np.nan, np.inf):
        x = data.x.copy()
        x[4, 3, 1] = bad
        y, _ = layer.forward(x)
        others = np.arange(9) != 4
        assert_bitwise(y[others], clean[others], "other sequences")
        assert_bitwise(y[4, :3], clean[4, :3], "earlier steps")
        assert np.isnan(bad) == np.isnan(y[4, 3:]).any()


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "lstn"}, "cell.*lstm.*lstn"),
        ({"input_size": 0}, "input_size.*0"),
        ({"input_size": -3}, "input_size.*-3"),
        ({"hidden_size": 0}, "hidden_size.*0"),
        ({"num_layers": 0}, "num_layers.*0"),
        ({"dropout": 1.0}, "dropout.*1"),
        ({"dropout": -0.1}, "dropout.*-0.1"),
        ({"dropout": float("nan")}, "dropout.*nan"),
        ({"dtype": "float16"}, "dtype.*float16"),
        ({"dtype": "int32"}, "dtype.*int32"),
        ({"n_threads": -1}, "n_threads.*-1"),
        ({"n_threads": 0}, "n_threads.*0"),
        ({"seed": -1}, "seed.*-1"),
        ({"nonlinearity": "relu"}, "nonlinearity"),
        ({"cell": "elman", "nonlinearity": "selu"}, "nonlinearity.*tanh.*selu"),
        ({"cell": "elman", "nonlinearity": 3}, "nonlinearity"),
        ({"peepholes": True}, "peepholes"),
        ({"hidden_size": 2**40}, "hidden_size|memory"),
        ({"input_size": 2.5}, "input_size"),
        ({"hidden_size": "8"}, "hidden_size"),
    ],
    ids=str,
)
def test_constructor_refuses(arguments: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError, MemoryError), match=message):
        lstmcore.Recurrent(**{"input_size": 3, "hidden_size": 4, **arguments})


@pytest.mark.parametrize("missing", ["input_size", "hidden_size"])
def test_sizes_have_no_default(missing: str) -> None:
    arguments = {"input_size": 3, "hidden_size": 4}
    del arguments[missing]
    with pytest.raises((ValueError, TypeError), match=missing):
        lstmcore.Recurrent("lstm", **arguments)


def good_state(N: int = 2) -> dict[str, np.ndarray]:
    return {"h": np.zeros((1, N, 4), np.float32), "c": np.zeros((1, N, 4), np.float32)}


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (np.zeros((2, 5, 4)), {}, r"x.*\(2, 5, 4\).*3"),
        (np.zeros((5, 3)), {}, r"x.*\(5, 3\)"),
        (np.zeros(3), {}, "x"),
        (np.zeros((0, 5, 3)), {}, "x"),
        (np.zeros((2, 0, 3)), {}, "x"),
        (np.zeros((2, 5, 3), complex), {}, "x.*complex"),
        (np.full((2, 5, 3), "a"), {}, "x"),
        (np.full((2, 5, 3), None), {}, "x"),
        (np.zeros((2, 5, 3), "datetime64[s]"), {}, "x"),
        ([np.zeros((4, 3)), np.zeros((0, 3))], {}, r"x\[1\]"),
        ([np.zeros((4, 3)), np.zeros((2, 2))], {}, r"x\[1\]"),
        ([np.zeros((4, 3)), np.zeros(3)], {}, r"x\[1\]"),
        ([], {}, "x"),
        ("text", {}, "x"),
        (None, {}, "x"),
        (np.zeros((2, 5, 3)), {"lengths": [5]}, "lengths"),
        (np.zeros((2, 5, 3)), {"lengths": [5, 6]}, "lengths.*5.*6"),
        (np.zeros((2, 5, 3)), {"lengths": [5, 0]}, "lengths"),
        (np.zeros((2, 5, 3)), {"lengths": [5, -1]}, "lengths.*-1"),
        (np.zeros((2, 5, 3)), {"lengths": [5, 2.5]}, "lengths"),
        (np.zeros((2, 5, 3)), {"lengths": [[5, 2]]}, "lengths"),
        (np.zeros((2, 5, 3)), {"lengths": 5}, "lengths"),
        ([np.zeros((4, 3)), np.zeros((2, 3))], {"lengths": [4, 3]}, "lengths"),
        (np.zeros((2, 5, 3)), {"state": good_state(3)}, "state.*h"),
        (np.zeros((2, 5, 3)), {"state": {"h": good_state()["h"]}}, "state.*c"),
        (np.zeros((2, 5, 3)), {"state": {**good_state(), "m": np.zeros((1, 2, 4))}}, "state.*m"),
        (np.zeros((2, 5, 3)), {"state": np.zeros((1, 2, 4))}, "state"),
        (np.zeros((2, 5, 3)), {"state": {**good_state(), "h": np.zeros((1, 2, 4), complex)}}, "state.*h.*complex"),
    ],
    ids=lambda value: str(np.shape(value)) if isinstance(value, np.ndarray) else None,
)
def test_forward_refuses(x, arguments: dict, message: str) -> None:
    layer = lstmcore.Recurrent(input_size=3, hidden_size=4)
    with pytest.raises((ValueError, TypeError, KeyError), match=message):
        layer.forward(x, **arguments)
    # And the layer works as before.
    assert np.isfinite(layer.forward(np.zeros((2, 5, 3)))[0]).all()


def test_step_refuses() -> None:
    layer = lstmcore.Recurrent(input_size=3, hidden_size=4)
    for bad in (np.zeros((2, 4)), np.zeros((2, 1, 3)), np.zeros((0, 3)), "x"):
        with pytest.raises((ValueError, TypeError), match="x"):
            layer.step(bad)
    with pytest.raises(ValueError, match="state"):
        layer.step(np.zeros((2, 3)), good_state(3))
    with pytest.raises(ValueError, match="N"):
        layer.init_state(0)
    backwards = lstmcore.Recurrent(input_size=3, hidden_size=4, bidirectional=True)
    with pytest.raises(ValueError, match="bidirectional"):
        backwards.step(np.zeros((2, 3)))


def test_cells_are_listed_with_their_options() -> None:
    cells = lstmcore.cells()
    assert set(cells) == {*driver.CELLS, "xlstm"}  # whose blocks have a reference of their own: tests/test_xlstm.py
    for name in driver.CELLS:
        described = cells[name]
        plain = driver.Stack(name, 3, 4)
        assert tuple(described["gates"]) == plain.gates
        assert list(described["states"]) == list(plain.states())
        assert described["source"]
    for cell in (*CELLS, *VARIANTS):
        for name, value in Case(cell, Shape(1, 1, 1, 4), "float64").options.items():
            allowed = cells[cell.name]["options"][name]
            if isinstance(value, int) and not isinstance(value, bool):
                assert isinstance(allowed, str), f"{cell.name}, {name}: any whole number of a range"
            else:
                assert value in allowed, f"{cell.name}, {name}"


@pytest.mark.parametrize("cell", [*CELLS, *VARIANTS], ids=lambda cell: cell.label)
def test_layers_say_which_gates_and_states_they_have(cell: Cell) -> None:
    case = Case(cell, Shape(2, 1, 3, 4, L=2, D=2), "float32")
    layer = make_layer(case, make_data(case))
    assert tuple(layer.gates) == case.stack.gates
    assert list(layer.states) == list(case.stack.states())
