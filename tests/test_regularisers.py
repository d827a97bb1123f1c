"""Regularisers of Recurrent: what their masks are, what inference does, and gradients of masked passes.

Masks are recovered from outputs, with weights that make a unit's output tell the factors it was given.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lstmcore
from cases import CELLS, VARIANTS, Case, Cell, Shape, make_data
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from layers import make_layer, run_layer
from lstmcore import _core
from reference import driver

DROPOUTS = {"dropout": 0.3, "variational_dropout": 0.25, "recurrent_dropout": 0.2}
ALL = {**DROPOUTS, "zoneout_hidden": 0.3, "zoneout_cell": 0.2}
MIXED = Shape(3, 4, 2, 6, L=2, D=2, ragged=True, initial_state=True)
EVERY_CELL = [
    cell for cell in (*CELLS, *VARIANTS) if cell.fits(MIXED) and not cell.learn_initial_state and cell.stepwise
]
every_cell = pytest.mark.parametrize("cell", EVERY_CELL, ids=lambda cell: cell.label)
with_candidate = pytest.mark.parametrize(
    "cell", [cell for cell in EVERY_CELL if cell.name not in ("elman", "indrnn")], ids=lambda cell: cell.label
)
CANDIDATE = dict.fromkeys(("lstm", "peephole", "lstm1997", "min_lstm"), "g") | {
    "gru": "n",
    "min_gru": "n",
    "slstm": "z",
}


def fitting(cell: Cell, settings: dict[str, float]) -> dict[str, float]:
    """Those of the settings that a cell can have."""
    without = []
    if not cell.stepwise:
        without += [name for name in settings if name != "dropout"]
    if cell.name in ("elman", "indrnn"):
        without.append("recurrent_dropout")
    if len(lstmcore.cells()[cell.name]["states"]) == 1:
        without.append("zoneout_cell")
    return {name: value for name, value in settings.items() if name not in without}


def assert_share(hits: np.ndarray, p: float) -> None:
    """The fraction of hits is within 4.5 standard deviations of p: a right one fails once in 150 000 draws."""
    deviation = np.sqrt(p * (1.0 - p) / hits.size)
    assert abs(hits.mean() - p) < 4.5 * deviation, f"{hits.mean():.4f} of {hits.size}, expected {p}"


# --- masks -----------------------------------------------------------------------------------------------------------


def rectifier(H: int, **arguments: Any) -> Any:
    """An Elman network h = max(0, W x + R h₋ + b) with all weights zero."""
    layer = lstmcore.Recurrent("elman", H, H, nonlinearity="relu", dtype="float64", **arguments)
    for value in layer.parameters.values():
        value[...] = 0.0
    return layer


@pytest.mark.parametrize("p", [0.2, 0.75])
@pytest.mark.parametrize("D", [1, 2])
def test_variational_dropout_of_the_input(p: float, D: int) -> None:
    """With W the identity and x ones, the output is the mask: one for a sequence, for both directions and all steps."""
    N, T, H = 150, 6, 20
    layer = rectifier(H, variational_dropout=p, bidirectional=D == 2, seed=3)
    for name in ("W_l0", "W_l0_reverse")[:D]:
        layer.parameters[name][...] = np.eye(H)
    y, _, _ = layer.forward(np.ones((N, T, H)), training=True)
    mask = y[:, 0, :H]
    assert set(np.unique(mask)) == {0.0, 1.0 / (1.0 - p)}
    assert_share(mask == 0.0, p)
    np.testing.assert_array_equal(y, np.broadcast_to(np.tile(mask, (1, D))[:, None], y.shape))
    assert_share((mask[1:] == 0.0) & (mask[:-1] == 0.0), p * p)  # sequences do not share masks
    assert_share((mask[:, 1:] == 0.0) & (mask[:, :-1] == 0.0), p * p)


@pytest.mark.parametrize("D", [1, 2])
def test_variational_dropout_of_h(D: int) -> None:
    """With R the identity and b ones, h_t = 1 + mask ⊙ h_{t−1}, and h_1 = 1: every step tells the mask."""
    N, T, H, p = 150, 6, 20, 0.4
    layer = rectifier(H, variational_dropout=p, bidirectional=D == 2, seed=3)
    for suffix in ("_l0", "_l0_reverse")[:D]:
        layer.parameters["R" + suffix][...] = np.eye(H)
        layer.parameters["b" + suffix][...] = 1.0
    y, _, _ = layer.forward(np.zeros((N, T, H)), training=True)
    masks = []
    for direction in range(D):
        h = y[:, :, direction * H : (direction + 1) * H]
        h = h[:, ::-1] if direction else h
        factors = (h[:, 1:] - 1.0) / h[:, :-1]
        np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1], factors.shape), atol=1e-12)
        masks.append(factors[:, 0])
        np.testing.assert_allclose(np.unique(masks[-1].round(12)), [0.0, 1.0 / (1.0 - p)])
        assert_share(masks[-1] < 0.5, p)
    if D == 2:
        assert_share((masks[0] < 0.5) & (masks[1] < 0.5), p * p)  # independent


def test_layers_have_masks_of_their_own() -> None:
    """Two layers of identities: the output is the product of their masks of the input."""
    N, H, p = 200, 20, 0.3
    layer = rectifier(H, variational_dropout=p, num_layers=2, seed=3)
    for name in ("W_l0", "W_l1"):
        layer.parameters[name][...] = np.eye(H)
    y, _, _ = layer.forward(np.ones((N, 2, H)), training=True)
    assert_share(y[:, 0] == 0.0, 1.0 - (1.0 - p) ** 2)
    np.testing.assert_allclose(y[:, 0][y[:, 0] > 0], (1.0 - p) ** -2)


@pytest.mark.parametrize("name", ["min_gru", "gru", "indrnn"])
def test_what_variational_dropout_leaves_alone(name: str) -> None:
    """h₋ is masked where it enters R (or u), and nowhere else: not where a gate lets it through."""
    H = 12
    layer = lstmcore.Recurrent(name, input_size=1, hidden_size=H, dtype="float64", variational_dropout=0.5)
    for value in layer.parameters.values():
        value[...] = 0.0
    if name == "indrnn":
        layer.parameters["u_l0"][...] = 1.0
    else:  # z shut for the new value, open for the old
        layer.parameters["b_l0"][layer.gates.index("z") * H :][:H] = 40.0 if name == "gru" else -40.0
    state = {"h": np.ones((1, 30, H))}
    y, _, _ = layer.forward(np.ones((30, 3, 1)), state=state, training=True)
    if name == "indrnn":
        assert set(np.unique(y[:, 0])) == {0.0, 2.0}
        np.testing.assert_array_equal(y[:, 2], y[:, 0] ** 3)
    else:
        np.testing.assert_allclose(y, 1.0, rtol=1e-12)


@with_candidate
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_recurrent_dropout_of_the_candidate(cell: Cell, p: float) -> None:
    """A step without weights gives what it gives for a candidate of 0, or for the candidate divided by 1 − p."""
    N, H = 60, 24
    arguments = {"input_size": 1, "hidden_size": H, "dtype": "float64", **cell.options_for(H)}
    layer = lstmcore.Recurrent(cell.name, recurrent_dropout=p, seed=5, **arguments)
    plain = lstmcore.Recurrent(cell.name, **arguments)
    rng = np.random.default_rng(0)
    for name, value in layer.parameters.items():
        value[...] = rng.uniform(0.5, 1.0, size=value.shape) if name.startswith(("b_", "proj", "ln_")) else 0.0
        plain.parameters[name][...] = value
    gate = CANDIDATE[cell.name]
    rows = plain.parameters["b_l0"].size
    first = 0
    for name in layer.gates:
        height = rows - H * (len(layer.gates) - 1)
        if cell.name == "lstm1997":
            height = H if name == "g" else (rows - H) // 2
        if name == gate:
            candidate = slice(first, first + height)
        first += height
    bias = np.full(H, 0.4)  # a candidate that may be doubled and stays within the range of tanh
    linear = cell.name in ("min_lstm", "min_gru") or ("variant", "NIAF") in cell.options
    scale = 2.0 if cell.name == "lstm1997" else 1.0  # 4σ(a) − 2 = 2 tanh(a / 2)
    kept_bias = bias / (1.0 - p) if linear else scale * np.arctanh(np.tanh(bias / scale) / (1.0 - p))
    layer.parameters["b_l0"][candidate] = bias

    def units(of: Any, training: bool) -> np.ndarray:
        """What tells the candidate of each unit: c where h is a mixture of units, else h."""
        mixes = "proj_size" in cell.options_for(H) or ("layer_norm", True) in cell.options
        _, state, *_ = of.forward(np.ones((N, 1, 1)), training=training)
        return state["c" if mixes and "c" in state else "h"][0]

    got = units(layer, training=True)
    outcomes = []
    for value in (np.zeros(H), kept_bias):
        plain.parameters["b_l0"][candidate] = value
        outcomes.append(units(plain, training=False))
    dropped, kept = (np.isclose(got, outcome, rtol=1e-11, atol=1e-13) for outcome in outcomes)
    assert (dropped ^ kept).all()
    assert_share(dropped, p)


def test_recurrent_dropout_is_drawn_anew_in_each_step() -> None:
    N, T, H, p = 50, 8, 16, 0.3
    layer = lstmcore.Recurrent("min_gru", input_size=1, hidden_size=H, dtype="float64", recurrent_dropout=p)
    layer.parameters["W_l0"][...] = 0.0
    layer.parameters["b_l0"][...] = np.repeat([50.0, 1.0], H)  # z = 1, n = 1
    y, _, _ = layer.forward(np.zeros((N, T, 1)), training=True)
    dropped = y == 0.0
    np.testing.assert_allclose(y[~dropped], 1.0 / (1.0 - p))
    assert_share(dropped, p)
    assert_share(dropped[:, 1:] & dropped[:, :-1], p * p)
    assert_share(dropped[1:] & dropped[:-1], p * p)
    assert_share(dropped[:, :, 1:] & dropped[:, :, :-1], p * p)


@pytest.mark.parametrize(
    ("cell", "which"),
    [(cell, which) for cell in EVERY_CELL for which in fitting(cell, ALL) if which.startswith("zoneout")],
    ids=lambda value: value if isinstance(value, str) else value.label,
)
def test_zoneout_keeps_the_old_or_takes_the_new(cell: Cell, which: str) -> None:
    """In training; the further states of a unit are held together, and h by itself."""
    p = 0.35
    case = Case(cell, Shape(60, 1, 3, 12, initial_state=True), "float64")
    data = make_data(case)
    _, fresh = make_layer(case, data).forward(data.x, state=data.state)
    _, got, _ = make_layer(case, data, **{which: p}).forward(data.x, state=data.state, training=True)
    held = {}
    for name, old in data.state.items():
        if (name == "h") != (which == "zoneout_hidden"):
            continue
        kept, new = np.isclose(got[name], old, rtol=1e-12), np.isclose(got[name], fresh[name], rtol=1e-12)
        assert (kept | new).all()
        held[name] = kept & ~new
        same = kept & new
        assert_share(held[name][~same], p)
    first = next(iter(held.values()))
    for name, kept in held.items():
        step = first.shape[2] // kept.shape[2]  # gates that units of a block share
        unlike = kept != first[:, :, ::step]
        # Old and new may agree by chance in one of them: a rectifier at rest, a gate that is 1.
        assert unlike.mean() < 0.02, name


def test_zoneout_is_drawn_anew_in_each_step() -> None:
    """Of a unit that counts steps, where R is the identity."""
    N, T, H, p = 40, 10, 16, 0.3
    layer = rectifier(H, zoneout_hidden=p)
    layer.parameters["R_l0"][...] = np.eye(H)
    layer.parameters["b_l0"][...] = 1.0
    y, _, _ = layer.forward(np.zeros((N, T, H)), training=True)
    steps = np.diff(y, axis=1, prepend=0.0)
    assert set(np.unique(steps)) == {0.0, 1.0}
    assert_share(steps == 0.0, p)
    assert_share((steps[:, 1:] == 0.0) & (steps[:, :-1] == 0.0), p * p)


# --- inference -------------------------------------------------------------------------------------------------------


def zoned_out(case: Case, hidden: float, other: float) -> SimpleNamespace:
    """The reference's cell with states p·old + (1 − p)·new."""
    cell = case.stack.module

    def forward(p: Any, x: np.ndarray, previous: dict[str, np.ndarray], options: Any) -> Any:
        now, saved = cell.forward(p, x, previous, options)
        shares = {name: hidden if name == "h" else other for name in now}
        return {name: shares[name] * previous[name] + (1.0 - shares[name]) * now[name] for name in now}, saved

    return SimpleNamespace(**{**vars(cell), "forward": forward})


@every_cell
def test_inference_takes_the_expectation_of_zoneout(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(cell, MIXED, "float64")
    data = make_data(case)
    settings = fitting(cell, ALL)
    y, final = make_layer(case, data, **settings).forward(data.x, state=data.state, lengths=data.lengths)
    shares = settings["zoneout_hidden"], settings.get("zoneout_cell", 0.0)
    monkeypatch.setitem(driver.CELLS, cell.name, zoned_out(case, *shares))
    expected, expected_final, _ = driver.forward(case.stack, data.parameters, data.x, data.lengths, data.state)
    assert_close(y, expected, 1e-11, "y")
    assert_all_close(final, expected_final, 1e-11, "final state")


@every_cell
def test_streaming_takes_the_expectation_too(cell: Cell) -> None:
    case = Case(cell, Shape(3, 5, 2, 4, L=2), "float64")
    layer = make_layer(case, data := make_data(case), **fitting(cell, ALL))
    y, final = layer.forward(data.x)
    state = None
    for t in range(5):
        out, state = layer.step(data.x[:, t], state)
        assert_close(out, y[:, t], 1e-12, f"step {t}")
    assert_all_close(state, final, 1e-12, "final state")


@every_cell
def test_dropout_of_all_kinds_does_nothing_in_inference(cell: Cell) -> None:
    case = Case(cell, MIXED, "float32")
    data = make_data(case)
    plain, settings = make_layer(case, data), fitting(cell, DROPOUTS)
    y, final = plain.forward(data.x, state=data.state, lengths=data.lengths)
    other, other_final = make_layer(case, data, **settings).forward(data.x, state=data.state, lengths=data.lengths)
    assert_close(other, y, 2e-6, "y")
    assert_all_close(other_final, final, 2e-6, "final state")


@pytest.mark.parametrize("name", ["lstm", "gru", "slstm"])
def test_models_predict_and_stream_the_expectation(name: str) -> None:
    settings = fitting(Cell(name), ALL)
    recurrent = {"cell": name, "input_size": 2, "hidden_size": 5, "num_layers": 2, "dtype": "float64", **settings}
    model = _core.Model({"recurrent": recurrent, "pooling": "last", "activation": "identity", "outputs": 3})
    layer = lstmcore.Recurrent(**recurrent)
    for key, value in layer.parameters.items():
        value[...] = model.parameters[key]
    x = np.random.default_rng(0).normal(size=(1, 6, 2))
    expected = layer.forward(x)[0][0, -1] @ model.parameters["head_W"].T + model.parameters["head_b"]
    assert_close(model.predict(x)[0], expected, 1e-12, "predict")
    state = model.make_state()
    for t in range(6):
        out = model.step(x[0, t], state)
    assert_close(out, expected, 1e-12, "step")


# --- training passes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.label)
def test_passes_repeat_by_seed_and_number(cell: Cell) -> None:
    case = Case(cell, MIXED, "float32")
    data = make_data(case)
    settings = fitting(cell, ALL)

    def passes(seed: int) -> list[np.ndarray]:
        layer = make_layer(case, data, seed=seed, **settings)
        return [layer.forward(data.x, lengths=data.lengths, training=True)[0] for _ in range(2)]

    (first, second), again, other = passes(1), passes(1), passes(2)
    assert_bitwise(again[0], first, "first pass")
    assert_bitwise(again[1], second, "second pass")
    assert (first != second).any()
    assert (first != other[0]).any()


@every_cell
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_do_not_depend_on_threads(cell: Cell, dtype: str) -> None:
    case = Case(cell, Shape(17, 8, 5, 72, L=2, D=2, ragged=True, initial_state=True), dtype)
    data = make_data(case)
    one, two = (
        run_layer(make_layer(case, data, seed=7, n_threads=n, **fitting(cell, ALL)), data).arrays for n in (1, 2)
    )
    assert_all_bitwise(two, one, "2 threads")


@pytest.mark.parametrize("start", ["given", "learnt"])
@pytest.mark.parametrize("cell", [cell for cell in EVERY_CELL if not cell.truncated], ids=lambda cell: cell.label)
def test_gradients_are_those_of_the_masked_pass(cell: Cell, start: str) -> None:
    """All regularisers at once. The first recorded pass of equal layers draws equal masks."""
    learnt = Cell(cell.name, cell.options, learn_initial_state=start == "learnt")
    case = Case(learnt, MIXED, "float64")
    data = make_data(case)
    data.x, data.dy = np.nan_to_num(data.x), np.nan_to_num(data.dy)
    if start == "learnt":
        data.state = None
    settings = {**fitting(cell, ALL), "seed": 11, "n_threads": 1}
    result = run_layer(make_layer(case, data, **settings), data)

    def loss() -> float:
        layer = make_layer(case, data, **settings)
        y, final, _ = layer.forward(data.x, state=data.state, lengths=data.lengths, training=True)
        return float((y * data.dy).sum() + sum((final[name] * data.dstate[name]).sum() for name in final))

    checked = {"dx": data.x}
    checked |= {f"d_initial.{name}": value for name, value in (data.state or {}).items()}
    checked |= {f"gradient.{name}": value for name, value in data.parameters.items()}
    rng = np.random.default_rng(0)
    for name, values in checked.items():
        analytic = result.arrays[name]
        numeric = analytic.copy()
        for flat in rng.permutation(values.size)[:6]:
            index = np.unravel_index(flat, values.shape)
            keep = values[index]
            values[index] = keep + 1e-5
            above = loss()
            values[index] = keep - 1e-5
            below = loss()
            values[index] = keep
            numeric[index] = (above - below) / 2e-5
        assert_close(analytic, numeric, 1e-6, name)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.0, np.nan])
@pytest.mark.parametrize("name", list(ALL))
def test_probabilities_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a number from 0 up to but not including 1"):
        lstmcore.Recurrent("lstm", input_size=2, hidden_size=3, **{name: value})


@pytest.mark.parametrize("cell", sorted(lstmcore.cells()))
def test_refused(cell: str) -> None:
    missing = {name: 0.1 for name in ALL if name not in fitting(Cell(cell), ALL)}
    for name, value in missing.items():
        with pytest.raises(ValueError, match=f"{name}: cell '{cell}' has no .*; use "):
            lstmcore.Recurrent(cell, input_size=2, hidden_size=4, **{name: value})
    if not Cell(cell).stepwise:
        with pytest.raises(ValueError, match=r"learn_initial_state: cell .* has no .*; use "):
            lstmcore.Recurrent(cell, input_size=2, hidden_size=4, learn_initial_state=True)
    learns = Cell(cell).stepwise
    layer = lstmcore.Recurrent(
        cell, input_size=2, hidden_size=4, learn_initial_state=learns, **fitting(Cell(cell), ALL)
    )
    assert {name: getattr(layer, name) for name in fitting(Cell(cell), ALL)} == fitting(Cell(cell), ALL)
