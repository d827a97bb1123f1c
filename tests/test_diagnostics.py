"""gradient_flow against finite differences, the NumPy reference and cases with a known answer; gate_statistics against
the reference's gates; plots of both."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lstmcore
from cases import CELLS, VARIANTS, Case, Cell, Shape, make_data
from checking import assert_close
from layers import as_list, make_layer
from lstmcore import _core, plotting
from reference import driver
from reference.activations import sigmoid

TINY = Shape(2, 5, 2, 4)
STACKED = Shape(4, 5, 3, 4, L=2, D=2, ragged=True)
every_cell = pytest.mark.parametrize(
    "cell", [cell for cell in (*CELLS, *VARIANTS) if cell.fits(TINY) and cell.stepwise], ids=lambda cell: cell.label
)


# --- Jacobians -------------------------------------------------------------------------------------------------------


def numeric_jacobian(layer: Any, rest: np.ndarray, state: dict[str, np.ndarray], of: str, name: str) -> np.ndarray:
    """∂(final `of`)/∂(state `name`) of one sequence, central differences: the rest of it is run from a moved state."""
    columns = []
    for unit in range(state[name].shape[2]):
        moved = []
        for sign in (1.0, -1.0):
            start = {key: np.array(value) for key, value in state.items()}
            start[name][0, 0, unit] += sign * 1e-5
            moved.append(layer.forward(rest, state=start)[1][of][0, 0])
        columns.append((moved[0] - moved[1]) / 2e-5)
    return np.stack(columns, axis=1)


def check_jacobians(layer: Any, x: np.ndarray) -> None:
    flow = lstmcore.gradient_flow(layer, x, method="exact")
    T = x.shape[1]
    assert flow.exact
    np.testing.assert_array_equal(flow.lags, np.arange(T))
    for of in layer.states:
        for name in layer.states:
            expected = np.zeros(T)
            for lag in range(T):
                for n in range(len(x)):
                    _, state = layer.forward(x[n : n + 1, : T - lag])
                    if lag == 0:
                        jacobian = np.eye(state[of].shape[2]) if of == name else np.zeros(1)
                    else:
                        jacobian = numeric_jacobian(layer, x[n : n + 1, T - lag :], state, of, name)
                    expected[lag] += np.linalg.norm(jacobian) / np.sqrt(state[of].shape[2]) / len(x)
            got = flow.layers[0].jacobian[of][name]
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9, err_msg=f"∂{of}_T/∂{name}_t")


@every_cell
def test_jacobians_are_those_of_forward(cell: Cell) -> None:
    if cell.truncated:  # the gradient of no function, see test_a_truncated_gradient_flows_through_the_cell_alone
        cell = Cell(cell.name, tuple(option for option in cell.options if option[0] != "gradient"))
    case = Case(cell, TINY, "float64")
    data = make_data(case)
    check_jacobians(make_layer(case, data), data.x)


@pytest.mark.parametrize("name", ["lstm", "slstm", "gru"])
def test_jacobians_with_zoneout_are_those_of_inference(name: str) -> None:
    case = Case(Cell(name), TINY, "float64")
    data = make_data(case)
    zoneout = {"zoneout_hidden": 0.3} | ({} if name == "gru" else {"zoneout_cell": 0.2})
    check_jacobians(make_layer(case, data, variational_dropout=0.5, **zoneout), data.x)


def test_the_constant_error_carousel_is_one() -> None:
    """With the input gate shut nothing but s_T = s_t is left, whatever the weights."""
    layer = lstmcore.Recurrent("lstm1997", input_size=2, hidden_size=6, dtype="float64")
    layer.parameters["b_l0"][:6] = -1e4
    flow = lstmcore.gradient_flow(layer, np.random.default_rng(0).normal(size=(3, 40, 2)))
    np.testing.assert_array_equal(flow.layers[0].jacobian["s"]["s"], np.ones(40))


def test_a_truncated_gradient_flows_through_the_cell_alone() -> None:
    layer = lstmcore.Recurrent("lstm1997", input_size=2, hidden_size=6, dtype="float64", gradient="truncated")
    layers = lstmcore.gradient_flow(layer, np.random.default_rng(0).normal(size=(3, 40, 2))).layers
    np.testing.assert_array_equal(layers[0].jacobian["s"]["s"], np.ones(40))
    np.testing.assert_array_equal(layers[0].jacobian["h"]["h"], [1.0] + [0.0] * 39)


def test_a_simple_network_forgets_as_its_matrix_does() -> None:
    """At rest tanh has slope 1 and R = Q/2 for an orthogonal Q: the Jacobian over k steps is (Q/2)^k."""
    layer = lstmcore.Recurrent("elman", input_size=2, hidden_size=6, dtype="float64", seed=3)
    layer.parameters["R_l0"][...] *= 0.5
    flow = lstmcore.gradient_flow(layer, np.zeros((1, 30, 2)))
    np.testing.assert_allclose(flow.layers[0].jacobian["h"]["h"], 0.5 ** np.arange(30), rtol=1e-12)


def test_a_trained_length_of_memory_is_seen() -> None:
    """∂c_T/∂c_t of an LSTM whose gates see neither input nor h is f^lag."""
    layer = lstmcore.Recurrent("lstm", input_size=1, hidden_size=3, dtype="float64")
    for value in layer.parameters.values():
        value[...] = 0.0
    layer.parameters["b_l0"][3:6] = 2.0
    flow = lstmcore.gradient_flow(layer, np.ones((2, 20, 1)))
    np.testing.assert_allclose(flow.layers[0].jacobian["c"]["c"], sigmoid(np.array(2.0)) ** np.arange(20), rtol=1e-12)


def test_projections_estimate_the_exact_norm() -> None:
    layer = lstmcore.Recurrent("lstm", input_size=2, hidden_size=40, seed=1)
    x = [np.random.default_rng(n).normal(size=(length, 2)) for n, length in enumerate((12, 4, 9))]
    exact = lstmcore.gradient_flow(layer, x, method="exact")
    some = lstmcore.gradient_flow(layer, x, n_projections=200, seed=0)
    assert exact.exact
    assert not some.exact  # above 32 units, by default
    for of in ("h", "c"):
        for name in ("h", "c"):
            norms = exact.layers[0].jacobian[of][name]
            np.testing.assert_allclose(some.layers[0].jacobian[of][name], norms, rtol=0.1, atol=1e-12)
    again = lstmcore.gradient_flow(layer, x, n_projections=200, seed=0)
    other = lstmcore.gradient_flow(layer, x, n_projections=200, seed=1)
    np.testing.assert_array_equal(again.layers[0].jacobian["h"]["h"], some.layers[0].jacobian["h"]["h"])
    assert (other.layers[0].jacobian["h"]["h"][1:] != some.layers[0].jacobian["h"]["h"][1:]).all()


def test_ragged_batches_are_means_over_single_sequences() -> None:
    layer = lstmcore.Recurrent("gru", input_size=2, hidden_size=5, num_layers=2, bidirectional=True, seed=1)
    x = [np.random.default_rng(n).normal(size=(length, 2)) for n, length in enumerate((3, 7, 1, 7, 4))]
    together = lstmcore.gradient_flow(layer, x)
    alone = [lstmcore.gradient_flow(layer, [one]) for one in x]
    assert together.counts.tolist() == [5, 4, 4, 3, 2, 2, 2]
    assert [(layer.layer, layer.direction) for layer in together.layers] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for place, layer_flow in enumerate(together.layers):
        for lag in range(7):
            those = [flow.layers[place] for flow in alone if len(flow.lags) > lag]
            mean = np.mean([flow.jacobian["h"]["h"][lag] for flow in those])
            np.testing.assert_allclose(layer_flow.jacobian["h"]["h"][lag], mean, rtol=1e-12)
            np.testing.assert_allclose(
                layer_flow.loss["h"][lag], np.mean([flow.loss["h"][lag] for flow in those]), rtol=1e-12
            )
    short = lstmcore.gradient_flow(layer, x, max_lag=3)
    assert short.lags.tolist() == [0, 1, 2, 3]
    for one, other in zip(short.layers, together.layers, strict=True):
        np.testing.assert_array_equal(one.jacobian["h"]["h"], other.jacobian["h"]["h"][:4])
        np.testing.assert_array_equal(one.loss["h"], other.loss["h"][:4])


def test_results_do_not_depend_on_how_much_runs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = lstmcore.Recurrent("lstm", input_size=2, hidden_size=5, dtype="float64")
    x = [np.random.default_rng(n).normal(size=(length, 2)) for n, length in enumerate((3, 7, 1, 7, 4))]
    whole = lstmcore.gradient_flow(layer, x)
    monkeypatch.setattr("lstmcore.diagnostics._ROWS", 1)
    for of, row in lstmcore.gradient_flow(layer, x).layers[0].jacobian.items():
        for name, values in row.items():
            np.testing.assert_allclose(values, whole.layers[0].jacobian[of][name], rtol=1e-12)


# --- gradients of a loss ---------------------------------------------------------------------------------------------


def reference_norms(case: Case, data: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """For each run, state → mean ‖∂loss/∂state‖ by lag: what the reference hands from step to step on its way back."""
    stack = case.stack
    _, _, tape = driver.forward(stack, data.parameters, data.x, data.lengths)
    seen: list[dict[str, np.ndarray]] = []
    cell = stack.module

    def backward(p: Any, d: dict[str, np.ndarray], saved: Any, options: Any) -> Any:
        seen.append({name: np.linalg.norm(value, axis=1) for name, value in d.items()})
        return cell.backward(p, d, saved, options)

    module = SimpleNamespace(**{**vars(cell), "backward": backward})
    monkeypatch.setitem(driver.CELLS, case.cell.name, module)
    driver.backward(tape, data.dy)
    monkeypatch.undo()
    D, T = stack.directions, case.shape.T
    sums = [{name: np.zeros(T) for name in stack.states()} for _ in range(stack.num_layers * D)]
    counts = np.zeros(T)
    calls = iter(seen)  # by length, then from the top layer down, then by direction, then back in time
    for group in tape.groups:
        counts[: group.length] += len(group.rows)
        for layer in reversed(range(stack.num_layers)):
            for direction in range(D):
                for lag in range(group.length):
                    for name, norms in next(calls).items():
                        sums[layer * D + direction][name][lag] += norms.sum()
    return [{name: total / counts for name, total in run.items()} for run in sums]


@every_cell
def test_gradients_of_a_loss_equal_the_reference(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(cell, STACKED, "float64")
    data = make_data(case)
    flow = lstmcore.gradient_flow(make_layer(case, data), data.x, dy=data.dy, max_lag=None)
    for layer, expected in zip(flow.layers, reference_norms(case, data, monkeypatch), strict=True):
        assert list(layer.loss) == list(expected)
        for name, norms in expected.items():
            assert_close(layer.loss[name], norms, 1e-9, f"{layer.name}, {name}")


def test_forms_of_dy_and_the_default_loss() -> None:
    case = Case(Cell("lstm"), STACKED, "float64")
    layer = make_layer(case, data := make_data(case))
    listed = lstmcore.gradient_flow(layer, as_list(data.x, data.lengths), dy=as_list(data.dy, data.lengths))
    padded = lstmcore.gradient_flow(layer, data.x, dy=data.dy)
    np.testing.assert_array_equal(listed.layers[1].loss["c"], padded.layers[1].loss["c"])
    dy = np.zeros_like(data.dy)
    dy[np.arange(4), data.lengths - 1, :4] = 1.0
    dy[:, 0, 4:] = 1.0
    given, default = lstmcore.gradient_flow(layer, data.x, dy=dy), lstmcore.gradient_flow(layer, data.x)
    np.testing.assert_array_equal(given.layers[0].loss["h"], default.layers[0].loss["h"])
    assert default.layers[2].loss["h"][0] == pytest.approx(2.0)  # √4 ones


HEADS: dict[str, dict[str, Any]] = {
    "last": {"pooling": "last"},
    "mean": {"pooling": "mean"},
    "max": {"pooling": "max"},
    "attention": {"pooling": "attention", "pooling_size": 2},
    "hopfield": {"pooling": "hopfield", "pooling_patterns": 2, "pooling_size": 4, "pooling_updates": 3},
    "hopfield-beta": {"pooling": "hopfield", "pooling_updates": 0, "pooling_beta": 0.7},
    "selu": {"pooling": "last", "head_sizes": [5, 3]},
    "relu": {"pooling": "mean", "head_sizes": [6], "head_activation": "relu"},
    "tanh": {"pooling": "attention", "head_sizes": [4, 4], "head_activation": "tanh"},
}


@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("activation", ["softmax", "identity"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_loss_of_a_model_is_that_of_training(activation: str, head: str, bidirectional: bool) -> None:
    """Without recurrence, and with a feature of its own for each step, column t of dW is ∂loss/∂h_t ⊙ (1 − h_t²)."""
    T, H, K = 5, 3, 4
    rng = np.random.default_rng(0)
    recurrent = {"cell": "elman", "input_size": T, "hidden_size": H, "bidirectional": bidirectional, "dtype": "float64"}
    core = _core.Model({"recurrent": recurrent, "activation": activation, "outputs": K, **HEADS[head]})
    core.set_weights(rng.normal(size=core.get_weights().shape))
    core.set_parameters({name: np.zeros((H, H)) for name in core.parameters if name.startswith("R")})
    core.set_preprocessing(np.zeros(T), np.ones(T), rng.normal(size=K), rng.uniform(1.0, 2.0, size=K))
    if activation == "softmax":
        core.set_preprocessing(np.zeros(T), np.ones(T), np.zeros(K), np.ones(K))
    model = lstmcore.Model(core, np.array(list("abcd")) if activation == "softmax" else None)
    X = [np.eye(T)[:3], np.eye(T)]
    y = np.array(["c", "a"]) if activation == "softmax" else rng.normal(size=(2, K))
    flow = lstmcore.gradient_flow(model, X, y)
    loss = "cross_entropy" if activation == "softmax" else "squared"
    for direction, layer in enumerate(flow.layers):
        suffix = "_l0_reverse" if direction else "_l0"
        total, counts = np.zeros(T), np.zeros(T)
        for n, x in enumerate(X):
            target = np.array(["abcd".index(y[n])]) if activation == "softmax" else y[n : n + 1]
            _, gradient = _core.Trainer(core, {"loss": loss}).gradient(_core.Sequences([x], dtype="float64"), target)
            h = np.tanh(core.parameters["W" + suffix] + core.parameters["b" + suffix][:, None])
            norms = np.linalg.norm(gradient["W" + suffix] / (1.0 - h**2), axis=0)[: len(x)]
            total[: len(x)] += norms if direction else norms[::-1]
            counts[: len(x)] += 1
        np.testing.assert_allclose(layer.loss["h"], total / counts, rtol=1e-9, atol=1e-15)


def test_preprocessing_of_an_estimator_is_applied() -> None:
    pytest.importorskip("sklearn")
    from sequences import FAST, ragged, two_classes

    X = [100.0 + 7.0 * x for x in ragged(20)]
    model = lstmcore.SequenceClassifier(**{**FAST, "max_iter": 2, "precision": "float64"}).fit(
        X, two_classes([(x - 100.0) / 7.0 for x in X])
    )
    scale = model.model_.core.preprocessing
    layer = lstmcore.Recurrent("lstm", input_size=3, hidden_size=12, dtype="float64")
    for name, value in layer.parameters.items():
        value[...] = model.model_.parameters[name]
    standardised = [(x - scale["input_mean"]) * scale["input_scale"] for x in X]
    for one, other in (
        (lstmcore.gradient_flow(model, X), lstmcore.gradient_flow(layer, standardised)),
        (lstmcore.gradient_flow(model.model_, X, max_lag=2), lstmcore.gradient_flow(layer, standardised, max_lag=2)),
    ):
        np.testing.assert_allclose(one.layers[0].jacobian["h"]["h"], other.layers[0].jacobian["h"]["h"], rtol=1e-10)
    one, other = lstmcore.gate_statistics(model, X), lstmcore.gate_statistics(layer, standardised)
    np.testing.assert_allclose(one.layers[0].mean["f"], other.layers[0].mean["f"], rtol=1e-10)
    with pytest.raises(ValueError, match=r"y: expected \(N,\) labels among .*sideways"):
        lstmcore.gradient_flow(model, X, ["sideways"] * 20)
    with pytest.raises(ValueError, match="y has 3 entries"):
        lstmcore.gradient_flow(model, X, ["up"] * 3)
    with pytest.raises(ValueError, match="not fitted"):
        lstmcore.gradient_flow(lstmcore.SequenceClassifier(), X)


# --- gates -----------------------------------------------------------------------------------------------------------


def reference_gates(name: str, saved: Any, options: dict[str, object]) -> dict[str, np.ndarray]:
    """Activations that the reference computed in one step."""
    if name in ("lstm", "peephole"):
        shut_out = {"NIG": "i", "NFG": "f", "CIFG": "f", "NOG": "o"}.get(str(options.get("variant")))
        return {gate: saved[gate] for gate in ("i", "f", "o") if gate != shut_out}
    if name == "slstm":
        forget = {} if options.get("forget_activation") == "exponential" else {"f": sigmoid(saved[2])}
        return {**forget, "o": saved[7]}
    places = {"lstm1997": {"i": 0, "o": 2}, "gru": {"r": 1, "z": 2}, "min_lstm": {"i": 5, "f": 6}, "min_gru": {"z": 2}}
    return {gate: saved[place] for gate, place in places[name].items()}


@every_cell
def test_gates_equal_those_of_the_reference(cell: Cell) -> None:
    case = Case(cell, STACKED, "float64")
    data = make_data(case)
    for value in data.parameters.values():
        value *= 2.0  # so that some gates saturate
    layer = make_layer(case, data)
    if cell.name in ("elman", "indrnn"):
        with pytest.raises(ValueError, match="no gates"):
            lstmcore.gate_statistics(layer, data.x)
        return
    statistics = lstmcore.gate_statistics(layer, data.x, low=0.3, high=0.7, bins=5)
    assert statistics.steps == data.lengths.sum()
    _, _, tape = driver.forward(case.stack, data.parameters, data.x, data.lengths)
    for run, (number, direction, suffix) in zip(statistics.layers, case.stack.runs(), strict=True):
        assert (run.layer, run.direction) == (number, direction)
        steps = [reference_gates(cell.name, s, case.options) for group in tape.groups for s in group.saved[suffix]]
        assert list(run.mean) == list(steps[0]) == list(statistics.gates)
        for gate in statistics.gates:
            values = np.concatenate([step[gate] for step in steps])
            np.testing.assert_allclose(run.mean[gate], values.mean(axis=0), rtol=1e-10)
            np.testing.assert_array_equal(run.left[gate], (values < 0.3).mean(axis=0))
            np.testing.assert_array_equal(run.right[gate], (values > 0.7).mean(axis=0))
            share = np.histogram(values, bins=5, range=(0, 1))[0] / values.size
            np.testing.assert_allclose(run.histogram[gate], share, rtol=1e-12)


def test_saturated_gates_are_counted() -> None:
    layer = lstmcore.Recurrent("lstm", input_size=1, hidden_size=2)
    layer.parameters["b_l0"][:] = [-9, 9, 9, 9, 0, 0, 0, 0]
    for name in ("W_l0", "R_l0"):
        layer.parameters[name][...] = 0.0
    run = lstmcore.gate_statistics(layer, np.ones((3, 4, 1))).layers[0]
    assert {gate: (run.left[gate].tolist(), run.right[gate].tolist()) for gate in run.left} == {
        "i": ([1, 0], [0, 1]),
        "f": ([0, 0], [1, 1]),
        "o": ([0, 0], [0, 0]),
    }
    assert run.histogram["o"][10] == 1.0


# --- errors and plots ------------------------------------------------------------------------------------------------

LAYER = lstmcore.Recurrent("lstm", input_size=2, hidden_size=3, num_layers=2)
X = np.random.default_rng(0).normal(size=(3, 6, 2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": X[:, :, :1]}, ValueError, "X has 1 features, but the network expects 2"),
        ({"X": np.full((1, 2, 2), np.inf)}, ValueError, "infinity"),
        ({"y": [1, 2, 3]}, TypeError, "dy"),
        ({"y": [1, 2, 3], "dy": np.zeros((3, 6, 3))}, ValueError, "y and dy"),
        ({"dy": np.zeros((2, 6, 3))}, ValueError, "dy has 2 entries, X has 3"),
        ({"dy": np.zeros((3, 6, 2))}, ValueError, r"dy: sequence 0 has shape \(6, 2\), expected \(6, 3\)"),
        ({"dy": np.full((3, 6, 3), np.nan)}, ValueError, "dy contains NaN"),
        ({"max_lag": -1}, ValueError, "max_lag: expected an integer of at least 0"),
        ({"max_lag": 1.5}, ValueError, "max_lag"),
        ({"method": "guess"}, ValueError, "method"),
        ({"n_projections": 0}, ValueError, "n_projections"),
        ({"seed": -1}, ValueError, "seed"),
        ({"model": "lstm"}, TypeError, "model: expected a Recurrent, a Model or a fitted estimator, got str"),
    ],
)
def test_gradient_flow_refuses(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lstmcore.gradient_flow(**{"model": LAYER, "X": X, **arguments})


def test_a_model_without_pooling_has_no_single_loss() -> None:
    core = _core.Model(
        {"recurrent": {"input_size": 2, "hidden_size": 3}, "pooling": "none", "activation": "identity", "outputs": 1}
    )
    with pytest.raises(ValueError, match="y: this model has no pooling"):
        lstmcore.gradient_flow(lstmcore.Model(core), X, np.zeros(3))
    assert lstmcore.gradient_flow(lstmcore.Model(core), X).layers[0].loss["h"][0] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"low": 0.9, "high": 0.1}, "low"), ({"low": -0.1}, "low"), ({"bins": 0}, "bins"), ({"bins": 2.5}, "bins")],
)
def test_gate_statistics_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lstmcore.gate_statistics(LAYER, X, **arguments)


def test_models_are_not_changed() -> None:
    layer = lstmcore.Recurrent("lstm", input_size=2, hidden_size=3, dropout=0.5, num_layers=2, seed=4)
    before = {name: np.array(value) for name, value in layer.parameters.items()}
    lstmcore.gradient_flow(layer, X)
    lstmcore.gate_statistics(layer, X)
    for name, value in layer.parameters.items():
        np.testing.assert_array_equal(value, before[name])
    fresh = lstmcore.Recurrent("lstm", input_size=2, hidden_size=3, dropout=0.5, num_layers=2, seed=4)
    np.testing.assert_array_equal(layer.forward(X, training=True)[0], fresh.forward(X, training=True)[0])


def test_gradient_flow_is_plotted(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    flow = lstmcore.gradient_flow(LAYER, X)
    ax = flow.plot(tmp_path / "flow.png")
    assert (tmp_path / "flow.png").stat().st_size > 1000
    assert ax.get_yscale() == "log"
    drawn = {line.get_label(): line.get_ydata().tolist() for line in ax.get_lines()}
    assert drawn["layer 1: ∂c$_T$ / ∂c$_t$"] == flow.layers[1].jacobian["c"]["c"].tolist()
    assert len(drawn) == 4
    assert flow.plot(ax=ax, quantity="loss") is ax
    drawn = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    np.testing.assert_array_equal(drawn["layer 0: ∂loss / ∂c$_t$"][1:], flow.layers[0].loss["c"][1:])
    assert flow.layers[0].loss["c"][0] == 0.0
    assert np.isnan(drawn["layer 0: ∂loss / ∂c$_t$"][0])
    with pytest.raises(ValueError, match="quantity"):
        plotting.plot_gradient_flow(flow, quantity="size")  # type: ignore[arg-type]
    lstmcore.gradient_flow(LAYER, X[:, :1]).plot(tmp_path / "one.png")  # a single lag


def test_gate_saturation_is_plotted(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    statistics = lstmcore.gate_statistics(LAYER, X)
    axes = statistics.plot(tmp_path / "gates.png")
    assert (tmp_path / "gates.png").stat().st_size > 1000
    assert [ax.get_title() for ax in axes] == ["gate i", "gate f", "gate o"]
    points = axes[1].collections[0].get_offsets()
    run = statistics.layers[0]
    np.testing.assert_array_equal(points, np.stack([run.left["f"], run.right["f"]], axis=1))
    assert statistics.plot(ax=axes)[0] is axes[0]
    with pytest.raises(ValueError, match="expected 3 axes"):
        plotting.plot_gate_saturation(statistics, axes[:2])
    one = lstmcore.gate_statistics(lstmcore.Recurrent("min_gru", input_size=2, hidden_size=3), X)
    assert len(one.plot(tmp_path / "one.png")) == 1
