"""_core.Optimiser: the steps of _core.Trainer bit for bit, and the equations in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checking import assert_bitwise, assert_close
from lstmcore import _core

Arrays = dict[str, np.ndarray]
SOLVERS: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "momentum": 0.8},
    "nesterov": {"solver": "sgd", "momentum": 0.8, "nesterov": True},
    "rmsprop": {"solver": "rmsprop", "rho": 0.9, "epsilon": 1e-5},
    "adam": {"solver": "adam", "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-6},
    "adamw": {"solver": "adamw", "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-6},
}


def make_arrays(dtype: str = "float64", seed: int = 0) -> Arrays:
    """A matrix, a bias, peepholes, a kernel, a number."""
    rng = np.random.default_rng(seed)
    shapes = {"W_l0": (4, 3), "b_l0": (4,), "P_l0": (3, 2), "kernel": (2, 3, 2, 2), "scale": ()}
    return {name: np.asarray(rng.standard_normal(shape), dtype=dtype) for name, shape in shapes.items()}


# ---- the same as Trainer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"alpha": 0.05, "clip_norm": 0.05},
        {"alpha": 0.05, "clip_value": 0.01, "max_norm": 0.9},
        {"gradient_noise": 0.1, "clip_norm": 0.05, "seed": 7},
    ],
    ids=["plain", "clip_norm", "clip_value, max_norm", "noise"],
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_steps_are_those_of_trainer(solver: str, extra: dict[str, Any], dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = _core.Sequences(rng.standard_normal((9, 5, 3)), dtype=dtype)
    y = rng.integers(0, 4, 9)
    recurrent = {"cell": "peephole", "input_size": 3, "hidden_size": 5, "dtype": dtype, "seed": 3}
    config = {"recurrent": recurrent, "activation": "softmax", "outputs": 4}
    ours, theirs = _core.Model(config), _core.Model(config)
    options = {"learning_rate": 0.02, **SOLVERS[solver], **extra}
    trainer = _core.Trainer(theirs, options)
    gradients = _core.Trainer(ours, {})  # without penalty and clipping
    weights = ours.parameters
    optimiser = _core.Optimiser(options, weights)
    for step in range(4):
        ours.set_parameters(weights)
        loss, gradient = gradients.gradient(x, y)
        penalty = optimiser.penalty()
        norm = optimiser.step(gradient)
        assert norm == pytest.approx(np.sqrt(sum(float((g.astype("f8") ** 2).sum()) for g in gradient.values())))
        assert trainer.step(x, y) == loss + penalty
        for name, value in theirs.parameters.items():
            assert_bitwise(weights[name], value, f"{name} after step {step + 1}")
    assert optimiser.steps == 4


# ---- the same as the equations


class Reference:
    """The equations at the head of optimisers.hpp, in NumPy."""

    def __init__(self, options: dict[str, Any], parameters: Arrays) -> None:
        self.options = {"momentum": 0.9, "nesterov": False, "alpha": 0.0, "clip_norm": 0.0, "clip_value": 0.0} | options
        self.w = {name: value.copy() for name, value in parameters.items()}
        self.first = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.second = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.t = 0

    def step(self, gradients: Arrays, rate: float) -> float:
        o = self.options
        self.t += 1
        norm = float(np.sqrt(sum((g**2).sum() for g in gradients.values())))
        for name, g in gradients.items():
            w, m, s = self.w[name], self.first[name], self.second[name]
            if o["clip_norm"] > 0 and norm > o["clip_norm"]:
                g = g * o["clip_norm"] / (norm + 1e-6)
            if o["clip_value"] > 0:
                g = np.clip(g, -o["clip_value"], o["clip_value"])
            decay = o["alpha"] if name in ("W_l0", "kernel") else 0.0
            if o["solver"] == "adamw":
                w = w * (1 - rate * decay)
            else:
                g = g + decay * w
            if o["solver"] == "sgd":
                m = o["momentum"] * m + g
                w = w - rate * (g + o["momentum"] * m if o["nesterov"] else m)
            elif o["solver"] == "rmsprop":
                s = o["rho"] * s + (1 - o["rho"]) * g**2
                w = w - rate * g / (np.sqrt(s) + o["epsilon"])
            else:
                m = o["beta_1"] * m + (1 - o["beta_1"]) * g
                s = o["beta_2"] * s + (1 - o["beta_2"]) * g**2
                corrected = np.sqrt(s / (1 - o["beta_2"] ** self.t))
                w = w - rate * m / (1 - o["beta_1"] ** self.t) / (corrected + o["epsilon"])
            self.w[name], self.first[name], self.second[name] = w, m, s
        return norm


@pytest.mark.parametrize(
    "extra",
    [{}, {"alpha": 0.3}, {"clip_norm": 0.5}, {"clip_value": 0.2, "alpha": 0.1}],
    ids=lambda extra: "+".join(extra),
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_steps_are_those_of_the_equations(solver: str, extra: dict[str, Any]) -> None:
    options = {**SOLVERS[solver], **extra}
    weights = make_arrays()
    reference = Reference(options, weights)
    optimiser = _core.Optimiser({"learning_rate": 0.1, "schedule": "step", "schedule_every": 2, **options}, weights)
    for step in range(5):
        gradients = make_arrays(seed=10 + step)
        rate = 0.1 * 0.5 ** (step // 2)
        assert optimiser.learning_rate == rate
        assert optimiser.step(gradients) == pytest.approx(reference.step(gradients, rate), rel=1e-14)
        optimiser.epoch_finished()
        for name, value in reference.w.items():
            assert_close(weights[name], value, 1e-13, name)
    expected = 0.5 * options.get("alpha", 0.0) * sum((weights[name] ** 2).sum() for name in ("W_l0", "kernel"))
    assert optimiser.penalty() == pytest.approx(0.0 if solver == "adamw" else expected, rel=1e-13)


def test_bound_on_rows() -> None:
    weights = {"W": np.array([[3.0, 4.0], [0.3, 0.4]]), "kernel": np.full((2, 4, 2, 2), 1.0), "b": np.array([9.0, 9.0])}
    optimiser = _core.Optimiser({"solver": "sgd", "max_norm": 2.0}, weights)
    optimiser.step({name: np.zeros_like(value) for name, value in weights.items()})
    np.testing.assert_allclose(weights["W"], [[1.2, 1.6], [0.3, 0.4]], rtol=1e-15)
    np.testing.assert_allclose(weights["kernel"], np.full((2, 4, 2, 2), 0.5), rtol=1e-15)
    np.testing.assert_array_equal(weights["b"], [9.0, 9.0])


def test_plateau_schedule() -> None:
    optimiser = _core.Optimiser({"learning_rate": 1.0, "schedule": "plateau", "schedule_every": 2}, make_arrays())
    rates = []
    for monitored in (3.0, 2.0, 2.0, 2.0, 1.0):
        rates.append(optimiser.learning_rate)
        optimiser.epoch_finished()
        optimiser.report(monitored)
    assert [*rates, optimiser.learning_rate] == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    with pytest.raises(ValueError, match="monitored: NaN"):
        optimiser.report(float("nan"))


def test_any_number_of_threads() -> None:
    """Above the size from which threads share the passes."""
    results = []
    for threads in (1, 2, 3):
        rng = np.random.default_rng(0)
        weights = {"W": rng.standard_normal((700, 500)).astype("f4"), "b": rng.standard_normal(1001).astype("f4")}
        optimiser = _core.Optimiser({"n_threads": threads, "clip_norm": 1.0, "alpha": 0.1}, weights)
        for _ in range(3):
            optimiser.step({name: rng.standard_normal(value.shape).astype("f4") for name, value in weights.items()})
        results.append(weights)
    for result in results[1:]:
        for name in result:
            assert_bitwise(result[name], results[0][name], name)


# ---- what it refuses


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradient_that_is_not_finite(bad: float) -> None:
    weights = make_arrays()
    untouched = make_arrays()
    one, two = _core.Optimiser({}, weights), _core.Optimiser({}, untouched)
    broken = make_arrays(seed=1)
    broken["kernel"][1, 2, 0, 1] = bad
    with pytest.raises(
        RuntimeError, match=r"the gradient became NaN or infinite in step 1; the weights are those before"
    ):
        one.step(broken)
    for name, value in make_arrays().items():
        assert_bitwise(weights[name], value, name)
    assert one.steps == 0
    # The running averages have not seen it either.
    one.step(make_arrays(seed=2))
    two.step(make_arrays(seed=2))
    for name in weights:
        assert_bitwise(weights[name], untouched[name], name)


def without(name: str) -> Arrays:
    return {key: value for key, value in make_arrays().items() if key != name}


@pytest.mark.parametrize(
    ("gradients", "error", "message"),
    [
        (without("b_l0"), ValueError, "gradients: missing key 'b_l0'"),
        (make_arrays() | {"b_l1": np.zeros(2)}, ValueError, "gradients.*'b_l1'"),
        (
            make_arrays() | {"b_l0": np.zeros((4, 1))},
            ValueError,
            r"gradients\['b_l0'\]: expected shape \(4,\), got \(4, 1\)",
        ),
        (make_arrays("float32"), TypeError, r"gradients\['W_l0'\]: expected dtype float64.* got float32"),
        (make_arrays() | {"b_l0": [0.0] * 4}, TypeError, r"gradients\['b_l0'\]: expected an ndarray, got list"),
        (make_arrays() | {1: np.zeros(2)}, TypeError, "gradients key"),
        ([np.zeros(2)], TypeError, "gradients"),
        (None, TypeError, "gradients"),
    ],
)
def test_bad_gradients(gradients: Any, error: type[Exception], message: str) -> None:
    weights = make_arrays()
    optimiser = _core.Optimiser({}, weights)
    with pytest.raises(error, match=message):
        optimiser.step(gradients)
    for name, value in make_arrays().items():
        assert_bitwise(weights[name], value, name)


def read_only() -> np.ndarray:
    array = np.zeros((2, 2))
    array.flags.writeable = False
    return array


SHARED = np.zeros(8)


@pytest.mark.parametrize(
    ("config", "parameters", "error", "message"),
    [
        ({"solver": "newton"}, make_arrays(), ValueError, "solver: expected one of"),
        ({"batch_size": 3}, make_arrays(), ValueError, "config.*batch_size"),
        ({"loss": "squared"}, make_arrays(), ValueError, "config.*loss"),
        ({"learning_rate": -1.0}, make_arrays(), ValueError, "learning_rate: expected a number above 0, got -1"),
        ({"nesterov": 1}, make_arrays(), TypeError, "nesterov"),
        (None, make_arrays(), TypeError, "config"),
        ({}, {}, ValueError, "parameters: empty"),
        ({}, [np.zeros(2)], TypeError, "parameters"),
        ({}, {"W": [[1.0]]}, TypeError, r"parameters\['W'\]: expected an ndarray"),
        (
            {},
            {"W": np.zeros((2, 2), dtype=int)},
            TypeError,
            r"parameters\['W'\]: expected dtype float32 or float64, got int64",
        ),
        ({}, {"W": np.zeros((2, 2), dtype=">f8")}, TypeError, r"parameters\['W'\]: expected dtype"),
        (
            {},
            {"W": np.zeros(2), "b": np.zeros(2, "f4")},
            TypeError,
            r"parameters\['b'\]: expected dtype float64 as all",
        ),
        ({}, {"W": np.zeros((2, 3)).T}, ValueError, r"parameters\['W'\]: expected a C-contiguous"),
        ({}, {"W": read_only()}, ValueError, r"parameters\['W'\]: expected a writable array.*read-only"),
        ({}, {"W": np.zeros((0, 3))}, ValueError, r"parameters\['W'\]: empty, shape \(0, 3\)"),
        ({}, {"": np.zeros(3)}, ValueError, "no name"),
        ({}, {"a": SHARED[:5], "b": SHARED[4:]}, ValueError, "parameters: 'a' and 'b' share memory"),
    ],
)
def test_bad_arguments(config: Any, parameters: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _core.Optimiser(config, parameters)


def test_arrays_that_change_their_form_later() -> None:
    weights = make_arrays()
    optimiser = _core.Optimiser({}, weights)
    weights["W_l0"].shape = (3, 4)
    with pytest.raises(ValueError, match=r"parameters\['W_l0'\]: its shape was \(4, 3\), and has changed to \(3, 4\)"):
        optimiser.step(make_arrays())
    weights["W_l0"].shape = (4, 3)
    weights["W_l0"].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        optimiser.step(make_arrays())
    weights["W_l0"].flags.writeable = True
    optimiser.step(make_arrays())


def test_it_keeps_the_arrays_alive_and_takes_any_layout_of_gradients() -> None:
    weights = {"W": np.ones((2, 3))}
    view = weights["W"][:]
    optimiser = _core.Optimiser({"solver": "sgd", "momentum": 0.0, "learning_rate": 1.0}, weights)
    del weights["W"]
    gradient = np.arange(6.0).reshape(3, 2).T
    optimiser.step({"W": gradient})
    np.testing.assert_array_equal(view, 1.0 - gradient)
    assert repr(optimiser) == "<Optimiser of 1 arrays, 6 parameters, dtype='float64'>"
