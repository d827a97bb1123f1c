"""Pooling over time and hidden layers of the head: values, gradients, streaming, dropout, files and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import lstmcore
import model_bytes
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from lstmcore import ModelFileError, Recurrent, SequenceClassifier, SequenceRegressor, _core
from reference import pooling as reference

I, H, K = 3, 5, 4  # input features, hidden units, outputs; H is no multiple of a pack

ATTENTION = {"pooling": "attention"}
HOPFIELD = {"pooling": "hopfield"}
POOLINGS: dict[str, dict[str, Any]] = {
    "last": {"pooling": "last"},
    "mean": {"pooling": "mean"},
    "max": {"pooling": "max"},
    "attention": ATTENTION,
    "attention 3": ATTENTION | {"pooling_size": 3},
    "attention 19": ATTENTION | {"pooling_size": 19},
    "hopfield": HOPFIELD,
    "hopfield 0": HOPFIELD | {"pooling_updates": 0, "pooling_patterns": 3},
    "hopfield 1": HOPFIELD | {"pooling_updates": 1, "pooling_patterns": 2, "pooling_size": 9, "pooling_beta": 1.5},
    "hopfield 4": HOPFIELD | {"pooling_updates": 4, "pooling_patterns": 3, "pooling_size": 2, "pooling_beta": 3.0},
}
HEADS: dict[str, dict[str, Any]] = {
    "none": {},
    "selu": {"head_sizes": [7, 3]},
    "relu": {"head_sizes": [6], "head_activation": "relu"},
    "tanh": {"head_sizes": [3, 9, 5], "head_activation": "tanh"},
}
each_pooling = pytest.mark.parametrize("pooling", POOLINGS)
each_head = pytest.mark.parametrize("head", HEADS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
each_direction = pytest.mark.parametrize("bidirectional", [False, True])


def make_model(
    pooling: str = "last",
    head: str = "none",
    dtype: str = "float64",
    activation: str = "softmax",
    more: dict[str, Any] | None = None,
    **recurrent: Any,
) -> _core.Model:
    """With weights a few times the initial ones, so that softmaxes are far from uniform."""
    arguments = {"cell": "lstm", "input_size": I, "hidden_size": H, "dtype": dtype, "seed": 4, **recurrent}
    architecture = POOLINGS[pooling] | HEADS[head] | (more or {})
    model = _core.Model({"recurrent": arguments, "activation": activation, "outputs": K, **architecture})
    rng = np.random.default_rng(8)
    model.set_parameters(
        {
            name: (2.0 * value + rng.normal(0, 0.5, value.shape)).astype(dtype)
            for name, value in model.parameters.items()
        }
    )
    return model


def make_data(dtype: str = "float64", lengths: tuple[int, ...] = (4, 9, 1, 7, 9, 2)) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.normal(0, 1.5, (length, I)).astype(dtype) for length in lengths]


def expected_outputs(model: _core.Model, x: list[np.ndarray]) -> np.ndarray:
    """The reference on top of the recurrent layers, which have tests of their own."""
    config = model.config
    layers = Recurrent(**{k: v for k, v in config["recurrent"].items() if k != "cell_options"})
    parameters = {name: value.astype(np.float64) for name, value in model.parameters.items()}
    for name, view in layers.parameters.items():
        view[...] = parameters[name]
    outputs = layers.forward(x)[0]
    return np.stack(
        [reference.head(config, parameters, reference.pool(config, parameters, h.astype(np.float64))) for h in outputs]
    )


# ---- values


@each_dtype
@each_direction
@each_head
@each_pooling
def test_outputs_equal_the_reference(pooling: str, head: str, bidirectional: bool, dtype: str) -> None:
    for activation in ("softmax", "identity"):
        model = make_model(pooling, head, dtype, activation, bidirectional=bidirectional, num_layers=2)
        x = make_data(dtype)
        tolerance = 1e-11 if dtype == "float64" else 5e-6
        assert_close(model.predict(x), expected_outputs(model, x), tolerance, activation)


@each_pooling
@pytest.mark.parametrize("hidden_size", [1, 8, 16, 33])
def test_other_widths(pooling: str, hidden_size: int) -> None:
    model = make_model(pooling, "selu", hidden_size=hidden_size)
    x = make_data(lengths=(3, 40, 1))
    assert_close(model.predict(x), expected_outputs(model, x), 1e-11, "outputs")


@pytest.mark.parametrize("cell_options", [{"proj_size": 3}])
@each_pooling
def test_projected_outputs(pooling: str, cell_options: dict[str, Any]) -> None:
    """D·P with P < H: the pooled vector is as wide as the outputs are."""
    model = make_model(pooling, "relu", bidirectional=True, cell_options=cell_options)
    parameters = model.parameters
    out = 2 * 3
    size = model.config["pooling_size"] or out
    if pooling.startswith("attention"):
        assert parameters["pool_W"].shape == (size, out)
    if pooling.startswith("hopfield"):
        assert parameters["pool_K"].shape == parameters["pool_V"].shape == (size, out)
    width = model.config["pooling_patterns"] * size if pooling.startswith("hopfield") else out
    assert parameters["head_W_l0"].shape == (6, width)
    layers = Recurrent("lstm", I, H, bidirectional=True, dtype="float64", **cell_options)
    for name, view in layers.parameters.items():
        view[...] = parameters[name]
    x = make_data()
    pooled = [reference.pool(model.config, parameters, h) for h in layers.forward(x)[0]]
    expected = np.stack([reference.head(model.config, parameters, z) for z in pooled])
    assert_close(model.predict(x), expected, 1e-11, "outputs")


@pytest.mark.parametrize("pooling", ["attention", "hopfield 4"])
def test_large_scores(pooling: str) -> None:
    """Softmaxes with one weight of 1: nothing overflows."""
    model = make_model(pooling)
    for name, value in model.parameters.items():
        if name.startswith("pool_"):
            model.set_parameters({name: value * 1e3})
    x = make_data()
    assert_close(model.predict(x), expected_outputs(model, x), 1e-9, "outputs")


@each_pooling
def test_a_sequence_does_not_depend_on_its_neighbours(pooling: str) -> None:
    model = make_model(pooling, "selu", "float32", bidirectional=True)
    x = make_data("float32")
    together = model.predict(x)
    for n, one in enumerate(x):
        assert_bitwise(model.predict([one])[0], together[n], f"sequence {n}")


# ---- gradients


@each_direction
@each_head
@each_pooling
def test_gradients_equal_finite_differences(pooling: str, head: str, bidirectional: bool) -> None:
    model = make_model(pooling, head, bidirectional=bidirectional)
    x, y = _core.Sequences(make_data(), dtype="float64"), np.arange(6, dtype=np.int32) % K
    trainer = _core.Trainer(model, {})
    _, gradient = trainer.gradient(x, y)
    w = model.get_weights()
    numeric = np.empty_like(w)
    step = 1e-5
    for k in range(w.size):
        losses = []
        for sign in (1, -1):
            moved = w.copy()
            moved[k] += sign * step
            model.set_weights(moved)
            losses.append(trainer.evaluate(x, y))
        numeric[k] = (losses[0] - losses[1]) / (2 * step)
    offset = 0
    largest = np.abs(numeric).max()
    for name, value in gradient.items():
        part = numeric[offset : offset + value.size].reshape(value.shape)
        offset += value.size
        # Against the tensor's own largest element; some tensors have next to none (a key bias would have none at all).
        error = np.abs(value - part).max()
        assert error <= 1e-6 * max(np.abs(part).max(), 1e-4 * largest), f"{name}: {error}"
    assert offset == w.size


@each_dtype
@each_direction
@each_pooling
def test_any_number_of_threads_gives_the_same_bits(pooling: str, bidirectional: bool, dtype: str) -> None:
    """Enough arithmetic for two threads to be worth waking."""
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=(length, I)).astype(dtype) for length in rng.integers(1, 60, 40)]
    x, y = _core.Sequences(arrays, dtype=dtype), rng.integers(0, K, 40).astype(np.int32)
    results = []
    for threads in (1, 2, 3):
        model = make_model(
            pooling, "selu", dtype, bidirectional=bidirectional, hidden_size=37, more={"head_dropout": 0.2}
        )
        outputs = model.predict(x, n_threads=threads)
        trainer = _core.Trainer(model, {"n_threads": threads, "batch_size": 20})
        loss, gradient = trainer.gradient(x, y)
        trainer.run_epoch(x, y)
        results.append((outputs, np.array(loss), gradient, model.get_weights()))
    for outputs, loss, gradient, weights in results[1:]:
        assert_bitwise(outputs, results[0][0], "outputs")
        assert_bitwise(loss, results[0][1], "loss")
        assert_all_bitwise(gradient, results[0][2], "gradient")
        assert_bitwise(weights, results[0][3], "weights")


@each_pooling
def test_training_pass_and_evaluation_agree(pooling: str) -> None:
    """Also after larger and smaller batches have used the same memory."""
    model = make_model(pooling, "selu")
    data = make_data()
    labels = np.arange(6, dtype=np.int32) % K
    trainer = _core.Trainer(model, {})
    for rows in (slice(0, 6), slice(2, 3), slice(0, 6), slice(1, 4)):
        x = _core.Sequences(data[rows], dtype="float64")
        loss, gradient = trainer.gradient(x, labels[rows])
        assert loss == pytest.approx(trainer.evaluate(x, labels[rows]), rel=1e-13)
        _, fresh = _core.Trainer(model, {}).gradient(x, labels[rows])
        assert_all_bitwise(gradient, fresh, "gradient")


@pytest.mark.parametrize("pooling", ["attention", "hopfield", "hopfield 0"])
def test_learns_which_step_matters(pooling: str) -> None:
    """The label stands at one step, marked by the last feature, among many that mean nothing."""
    rng = np.random.default_rng(6)
    labels = rng.integers(0, K, 300).astype(np.int32)
    arrays = []
    for label in labels:
        a = np.zeros((int(rng.integers(10, 25)), K + 1))
        a[np.arange(len(a)), rng.integers(0, K, len(a))] = 1
        at = int(rng.integers(0, len(a)))
        a[at] = np.append(np.eye(K)[label], 1)
        arrays.append(a.astype(np.float32))
    recurrent = {"cell": "lstm", "input_size": K + 1, "hidden_size": 12, "seed": 1}
    model = _core.Model({"recurrent": recurrent, "activation": "softmax", "outputs": K, **POOLINGS[pooling]})
    trainer = _core.Trainer(model, {"learning_rate": 0.02, "batch_size": 20, "clip_norm": 5.0})
    x = _core.Sequences(arrays)
    for _ in range(25):
        trainer.run_epoch(x, labels)
    assert (model.predict(x).argmax(1) == labels).mean() > 0.95


# ---- streaming


@each_dtype
@each_head
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention", "attention 19", "hopfield 0"])
def test_streaming_equals_prediction(pooling: str, head: str, dtype: str) -> None:
    model = make_model(pooling, head, dtype, num_layers=2)
    x = make_data(dtype, (30,))[0]
    state = model.make_state()
    for t, row in enumerate(x):
        assert_bitwise(model.step(row, state), model.predict([x[: t + 1]])[0], f"step {t}")
        if t == 7:
            branch = state.copy()
    for t, row in enumerate(x[8:], 8):
        assert_bitwise(model.step(row, branch), model.predict([x[: t + 1]])[0], f"copied, step {t}")
    state.reset()
    assert_bitwise(model.step(x[0], state), model.predict([x[:1]])[0], "reset")


def test_updates_cannot_be_streamed() -> None:
    with pytest.raises(ValueError, match=r"pooling_updates=1 needs the whole sequence.*use predict\(\).*'attention'"):
        make_model("hopfield").make_state()
    with pytest.raises(ValueError, match="bidirectional"):
        make_model("attention", bidirectional=True).make_state()


# ---- initial weights


def test_initial_weights() -> None:
    recurrent = {"cell": "lstm", "input_size": I, "hidden_size": 40, "dtype": "float64", "seed": 3}

    def parameters(**architecture: Any) -> dict[str, np.ndarray]:
        return _core.Model({"recurrent": recurrent, "outputs": K, **architecture}).parameters

    attention = parameters(pooling="attention", pooling_size=50)
    assert np.abs(attention["pool_W"]).max() <= np.sqrt(6 / 90)
    assert np.abs(attention["pool_W"]).max() > 0.95 * np.sqrt(6 / 90)
    assert 0.8 * np.sqrt(6 / 51) < np.abs(attention["pool_v"]).max() <= np.sqrt(6 / 51)
    assert not attention["pool_b"].any()
    hopfield = parameters(pooling="hopfield", pooling_patterns=30)
    assert list(hopfield)[3:] == ["pool_Q", "pool_K", "pool_V", "head_W", "head_b"]
    assert hopfield["pool_Q"].std() == pytest.approx(0.02, rel=0.05)
    assert not np.array_equal(hopfield["pool_K"], hopfield["pool_V"])
    for activation, deviation in (("selu", np.sqrt(1 / 40)), ("relu", np.sqrt(2 / 40)), ("tanh", np.sqrt(2 / 240))):
        p = parameters(head_sizes=[200, 10], head_activation=activation)
        assert list(p)[3:] == ["head_W_l0", "head_b_l0", "head_W_l1", "head_b_l1", "head_W", "head_b"]
        assert p["head_W_l0"].std() == pytest.approx(deviation, rel=0.03)
        assert not p["head_b_l0"].any()
        # The recurrent layers' weights do not depend on what comes after them.
        assert_bitwise(p["R_l0"], hopfield["R_l0"], "R_l0")


# ---- dropout of the head


@pytest.mark.parametrize("activation", ["selu", "relu", "tanh"])
def test_head_dropout(activation: str) -> None:
    more = {"head_sizes": [2000], "head_activation": activation, "head_dropout": 0.3}
    model = make_model("mean", more=more, activation="identity")
    x, y = _core.Sequences(make_data(lengths=(5,)), dtype="float64"), np.zeros((1, K))
    parameters = model.parameters
    trainer = _core.Trainer(model, {"loss": "squared"})
    loss, gradient = trainer.gradient(x, y)
    assert trainer.gradient(x, y)[0] == loss  # the masks of the next step, again
    assert trainer.evaluate(x, y) != loss
    # The gradient of head_W is an outer product with what the head was fed.
    fed = gradient["head_W"][0] / gradient["head_b"][0]
    layer = {name.removesuffix("_l0"): parameters[name] for name in ("head_W_l0", "head_b_l0")}
    hidden = reference.activate(
        activation, layer["head_W"] @ _pooled(model, make_data(lengths=(5,))[0]) + layer["head_b"]
    )
    if activation == "selu":
        limit, q = -reference.SELU_SCALE * reference.SELU_ALPHA, 0.7
        a = (q + limit**2 * q * (1 - q)) ** -0.5
        b = -a * (1 - q) * limit
        kept, dropped = a * hidden + b, a * limit + b
    else:
        kept, dropped = hidden / 0.7, 0.0
    is_dropped = np.isclose(fed, dropped, rtol=1e-9, atol=1e-12) & ~np.isclose(fed, kept, rtol=1e-9, atol=1e-12)
    assert_close(fed[~is_dropped], kept[~is_dropped], 1e-9, "kept units")
    undecided = np.isclose(kept, dropped, rtol=1e-9, atol=1e-12)  # relu: 0 either way
    assert is_dropped[~undecided].mean() == pytest.approx(0.3, abs=0.05)
    # Dropped units send nothing back.
    assert not gradient["head_b_l0"][is_dropped].any()
    assert gradient["head_b_l0"][~is_dropped].any()


def _pooled(model: _core.Model, x: np.ndarray) -> np.ndarray:
    layers = Recurrent("lstm", I, H, dtype="float64")
    for name, view in layers.parameters.items():
        view[...] = model.parameters[name]
    return layers.forward([x])[0][0].mean(0)


@pytest.mark.parametrize("head", ["selu", "relu", "tanh"])
def test_gradient_with_head_dropout(head: str) -> None:
    """The masks of a step are fixed, so that its loss can be differentiated."""
    model = make_model("attention", head, more={"head_dropout": 0.4})
    x, y = _core.Sequences(make_data(), dtype="float64"), np.arange(6, dtype=np.int32) % K
    trainer = _core.Trainer(model, {"seed": 5})
    _, gradient = trainer.gradient(x, y)
    flat = np.concatenate([value.ravel() for value in gradient.values()])
    w, numeric = model.get_weights(), []
    for k in range(w.size):
        losses = []
        for step in (1e-5, -1e-5):
            moved = w.copy()
            moved[k] += step
            model.set_weights(moved)
            losses.append(trainer.gradient(x, y)[0])
        numeric.append((losses[0] - losses[1]) / 2e-5)
    assert_close(flat, np.array(numeric), 1e-6, "gradient")


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    """Klambauer et al. (2017): for units of mean 0 and variance 1, as SELU drives them to."""
    size = 20000
    more = {"head_sizes": [size], "head_dropout": 0.25}
    model = make_model("last", more=more, activation="identity")
    rng = np.random.default_rng(0)
    p = model.parameters
    model.set_parameters({"head_W_l0": np.zeros_like(p["head_W_l0"]), "head_b_l0": rng.normal(size=size)})
    x, y = _core.Sequences(make_data(lengths=(3,)), dtype="float64"), np.zeros((1, K))
    trainer = _core.Trainer(model, {"loss": "squared"})
    gradient = trainer.gradient(x, y)[1]
    fed = gradient["head_W"][0] / gradient["head_b"][0]
    assert fed.mean() == pytest.approx(0.0, abs=0.03)
    assert fed.var() == pytest.approx(1.0, abs=0.04)


# ---- files and configurations


@each_head
@each_pooling
def test_file_round_trip(pooling: str, head: str, tmp_path: Path) -> None:
    more = {"head_dropout": 0.25} if HEADS[head] else {}
    for dtype in ("float32", "float64"):
        model = make_model(pooling, head, dtype, more=more, bidirectional=head == "selu")
        path = str(tmp_path / dtype)
        model.save(path)
        loaded = _core.Model.load(path)
        assert loaded.config == model.config
        assert_all_bitwise(loaded.parameters, model.parameters, "parameters")
        assert_bitwise(loaded.predict(make_data(dtype)), model.predict(make_data(dtype)), "outputs")


def test_config_is_complete() -> None:
    model = make_model("hopfield 1", "tanh", more={"head_dropout": 0.5})
    again = _core.Model(model.config)
    assert again.config == model.config
    assert {k: v for k, v in model.config.items() if k.startswith(("pooling", "head"))} == {
        "pooling": "hopfield", "pooling_size": 9, "pooling_patterns": 2, "pooling_beta": 1.5, "pooling_updates": 1,
        "head_sizes": [3, 9, 5], "head_activation": "tanh", "head_dropout": 0.5,
    }  # fmt: skip


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"pooling_size": 3}, ValueError, "pooling_size: expected 0 with any pooling but attention and hopfield, got 3"),
    ({"pooling": "mean", "pooling_patterns": 2}, ValueError, "pooling_patterns: expected 1 with any pooling but hopf"),
    ({"pooling": "attention", "pooling_beta": 0.5}, ValueError, "pooling_beta: expected 0 with any pooling but hopf"),
    ({"pooling": "attention", "pooling_updates": 2}, ValueError, "pooling_updates: expected 1 with any pooling but"),
    (ATTENTION | {"pooling_size": -1}, ValueError, "pooling_size: expected an integer of at least 0, got -1"),
    (ATTENTION | {"pooling_size": 2**40}, ValueError, "pooling_size: expected an integer from 1 to 2147483648"),
    (ATTENTION | {"pooling_size": 3.0}, TypeError, "pooling_size: expected an integer"),
    (HOPFIELD | {"pooling_patterns": 0}, ValueError, "pooling_patterns: expected an integer of at least 1, got 0"),
    (HOPFIELD | {"pooling_patterns": 2**31, "pooling_size": 2**31}, ValueError, "more weights than can be addressed"),
    (HOPFIELD | {"pooling_beta": -0.5}, ValueError, "pooling_beta: expected a number above 0"),
    (HOPFIELD | {"pooling_beta": np.nan}, ValueError, "pooling_beta: expected a number above 0"),
    (HOPFIELD | {"pooling_beta": "1"}, TypeError, "pooling_beta: expected a number"),
    (HOPFIELD | {"pooling_updates": -1}, ValueError, "pooling_updates: expected an integer of at least 0, got -1"),
    (HOPFIELD | {"pooling_updates": 101}, ValueError, "pooling_updates: expected an integer from 0 to 100, got 101"),
    ({"head_sizes": 5}, TypeError, "head_sizes: expected a list or tuple of integers, got int"),
    ({"head_sizes": [5, 0]}, ValueError, r"head_sizes\[1\]: expected an integer of at least 1, got 0"),
    ({"head_sizes": [5, 2**40]}, ValueError, r"head_sizes\[1\]: expected an integer from 1 to 2147483648"),
    ({"head_sizes": [2**31, 2**31]}, ValueError, "more weights than can be addressed"),
    ({"head_sizes": [1] * 1001}, ValueError, "head_sizes: expected at most 1000 hidden layers, got 1001"),
    ({"head_sizes": ["5"]}, TypeError, r"head_sizes\[0\]: expected an integer"),
    ({"head_sizes": [5], "head_activation": "elu"}, ValueError, "head_activation: expected one of 'selu', 'relu', 'tanh'"),
    ({"head_sizes": [5], "head_dropout": 1.0}, ValueError, "head_dropout: expected a number from 0"),
    ({"head_sizes": [5], "head_dropout": np.nan}, ValueError, "head_dropout: expected a number from 0"),
    ({"head_dropout": 0.5}, ValueError, "head_dropout: expected 0 without hidden layers"),
    ({"pooling": "sum"}, ValueError, "pooling: expected one of 'last', 'mean', 'max', 'attention', 'hopfield'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "kind", "message"), REFUSED)
def test_refused_configurations(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        _core.Model({"recurrent": {"input_size": I, "hidden_size": H}, "outputs": K, **changes})


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"pooling_size": -3}, "pooling_size: expected an integer from 0"),
    ({"pooling_size": 2.0}, "pooling_size: expected an integer from 0"),
    ({"pooling_size": None}, "pooling_size: expected an integer from 0"),
    ({"pooling_size": 2**63 - 1}, "pooling_size: expected an integer from 1 to 2147483648"),
    ({"pooling_size": 2**31}, "expected shape"),
    ({"pooling_size": 0}, "expected shape"),
    ({"pooling_patterns": 0}, "pooling_patterns: expected an integer from 1"),
    ({"pooling_patterns": -(2**62)}, "pooling_patterns: expected an integer from 1"),
    ({"pooling_patterns": 2**63 - 1}, "pooling_patterns: expected an integer from 1 to 2147483648"),
    ({"pooling_patterns": 2**30}, "expected shape"),
    ({"pooling_patterns": True}, "pooling_patterns: expected an integer from 1"),
    ({"pooling_beta": -1.0}, "pooling_beta: expected a number above 0"),
    ({"pooling_beta": "1"}, "pooling_beta: expected a number"),
    ({"pooling_beta": 7.5}, "does not reproduce the test vector"),
    ({"pooling_updates": -1}, "pooling_updates: expected an integer from 0"),
    ({"pooling_updates": 10**9}, "pooling_updates: expected an integer from 0 to 100"),
    ({"pooling": "attention"}, "with any pooling but hopfield"),
    ({"pooling": "attention", "pooling_patterns": 1, "pooling_beta": 0.0, "pooling_updates": 1}, "'pool_W' is missing"),
    ({"head_sizes": 7}, "head_sizes: expected an array of integers"),
    ({"head_sizes": [7, -3]}, "head_sizes: expected integers from 1"),
    ({"head_sizes": [7, 3.0]}, "head_sizes: expected integers from 1"),
    ({"head_sizes": [[7], 3]}, "head_sizes: expected integers from 1"),
    ({"head_sizes": [7]}, "expected shape"),
    ({"head_sizes": [7, 3, 3]}, "'head_W_l2' is missing"),
    ({"head_sizes": [2**63 - 1, 3]}, "expected an integer from 1 to 2147483648"),
    ({"head_sizes": [2**30, 2**30]}, "more weights than can be addressed"),
    ({"head_sizes": [1] * 100000}, "head_sizes: expected at most 1000"),
    ({"head_activation": "elu"}, "head_activation: expected one of 'selu', 'relu', 'tanh'"),
    ({"head_activation": 1}, "head_activation: expected a string"),
    ({"head_activation": "tanh"}, "does not reproduce the test vector"),
    ({"head_dropout": 2.0}, "head_dropout: expected a number from 0"),
    ({"head_dropout": False}, "head_dropout: expected a number"),
]


@pytest.mark.parametrize(("changes", "message"), HOSTILE)
def test_hostile_files(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    make_model("hopfield 1", "selu", activation="identity").save(str(path))
    header, data = model_bytes.split(path.read_bytes())
    architecture = json.loads(header["__metadata__"]["model"]) | changes
    header["__metadata__"]["model"] = json.dumps(architecture)
    path.write_bytes(model_bytes.sealed(header, data))
    with pytest.raises(ModelFileError) as error:
        _core.Model.load(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize("name", [k for k in make_model().config if k.startswith(("pooling", "head"))])
def test_every_entry_is_required_in_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    make_model("hopfield 1", "selu", activation="identity").save(str(path))
    header, data = model_bytes.split(path.read_bytes())
    architecture = json.loads(header["__metadata__"]["model"])
    del architecture[name]
    header["__metadata__"]["model"] = json.dumps(architecture)
    path.write_bytes(model_bytes.sealed(header, data))
    with pytest.raises(ModelFileError, match=f"model: '{name}' is missing"):
        _core.Model.load(str(path))


def test_weight_decay_is_on_matrices() -> None:
    for pooling in ("attention", "hopfield"):
        model = make_model(pooling, "selu")
        x, y = _core.Sequences(make_data(), dtype="float64"), np.arange(6, dtype=np.int32) % K
        plain = _core.Trainer(model, {}).gradient(x, y)[1]
        decayed = _core.Trainer(model, {"alpha": 0.1}).gradient(x, y)[1]
        expected = {
            name: plain[name] + (0.1 * value if value.ndim == 2 else 0.0) for name, value in model.parameters.items()
        }
        assert_all_close(decayed, expected, 1e-12, pooling)


# ---- estimators

STATES = np.random.default_rng(1).normal(size=(60, 12, 2)).astype(np.float32)
LABELS = (STATES[:, :, 0].mean(1) > 0).astype(int)
FAST: dict[str, Any] = {"hidden_size": 6, "max_iter": 3, "random_state": 0}
TOPS: list[dict[str, Any]] = [
    {"pooling": "attention"},
    {"pooling": "attention", "pooling_options": {"size": np.int64(5)}, "head_sizes": (8,), "head_dropout": 0.1},
    {"pooling": "hopfield", "pooling_options": {"size": 4, "patterns": 2, "beta": 2, "updates": 0}},
    {"pooling": "hopfield", "head_sizes": (8, np.int64(4)), "head_activation": "relu"},
    {"head_sizes": [5], "head_activation": "tanh"},
]


@pytest.mark.parametrize("top", TOPS)
@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_estimators(kind: Any, top: dict[str, Any], tmp_path: Path) -> None:
    estimator = kind(**FAST, **top)
    assert all(estimator.get_params()[name] is value for name, value in top.items())
    clone(estimator).fit(STATES, LABELS)
    estimator.fit(STATES, LABELS)
    config = estimator.model_.config
    assert config["pooling"] == top.get("pooling", "last")
    assert config["head_sizes"] == list(top.get("head_sizes", ()))
    assert config["pooling_size"] == (top.get("pooling_options") or {}).get("size", 0)
    path = tmp_path / "model"
    estimator.save(path)
    loaded = lstmcore.load(path)
    assert_bitwise(loaded.predict(STATES), estimator.predict(STATES), "predictions")
    assert loaded.get_params()["pooling_options"] == top.get("pooling_options")
    assert list(loaded.head_sizes) == list(top.get("head_sizes", ()))
    assert pickle.loads(pickle.dumps(estimator)).predict(STATES[:3]).tolist() == estimator.predict(STATES[:3]).tolist()
    more = estimator.set_params(warm_start=True).fit(STATES, LABELS)
    assert more.n_iter_ == 6
    loaded.partial_fit(STATES, LABELS)
    if config["pooling"] != "hopfield" or config["pooling_updates"] == 0:
        state = None
        for row in STATES[0]:
            output, state = estimator.step(row, state)
        assert_bitwise(output, estimator.model_.outputs(STATES[:1])[0], "streamed")
    else:
        with pytest.raises(ValueError, match="pooling_updates=1 needs the whole sequence"):
            estimator.step(STATES[0, 0])


def test_a_warm_start_keeps_pooling_and_head() -> None:
    top = {"pooling": "hopfield", "pooling_options": {"size": 4}, "head_sizes": (8,)}
    for name, value in (
        ("pooling", "attention"), ("pooling_options", {"size": 5}), ("pooling_options", {"size": 4, "beta": 1.0}),
        ("head_sizes", (8, 8)), ("head_activation", "relu"), ("head_dropout", 0.5),
    ):  # fmt: skip
        estimator = SequenceClassifier(**FAST, **top, warm_start=True).fit(STATES, LABELS)
        with pytest.raises(ValueError, match=r"but the model to go on with has .*warm_start=False"):
            estimator.set_params(**{name: value}).fit(STATES, LABELS)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling_options": {"size": 0}}, "'pooling_options'.*'size' .int >= 1.*Got"),
        ({"pooling_options": {"heads": 2}}, "'pooling_options'"),
        ({"pooling_options": {"beta": 0.0}}, "'pooling_options'"),
        ({"pooling_options": [3]}, "'pooling_options'"),
        ({"pooling_options": {"patterns": 2}}, "pooling_patterns: expected 1 with any pooling but hopfield, got 2"),
        ({"head_sizes": 5}, "'head_sizes'.*a tuple or list of int >= 1. Got 5"),
        ({"head_sizes": (0,)}, "'head_sizes'"),
        ({"head_sizes": (5,), "head_activation": "elu"}, "'head_activation'"),
        ({"head_sizes": (5,), "head_dropout": 1.0}, "'head_dropout'"),
        ({"head_dropout": 0.5}, "head_dropout: expected 0 without hidden layers"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(**FAST, **parameters).fit(STATES, LABELS)
