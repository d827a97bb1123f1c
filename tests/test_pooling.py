"""Pooling over time and hidden layers of the head: values, gradients, streaming, dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from heads import POOLINGS, H, I, K, each_direction, each_dtype, each_head, each_pooling, make_data, make_model
from lstmcore import Recurrent, _core
from reference import pooling as reference


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


# ---- outputs at every step


@each_dtype
@each_direction
@each_head
def test_no_pooling(head: str, bidirectional: bool, dtype: str, tmp_path: Path) -> None:
    """The head at every step, as if each were the last."""
    model = make_model("last", head, dtype, more={"pooling": "none"}, bidirectional=bidirectional, num_layers=2)
    x = make_data(dtype)
    listed = model.predict(x)
    assert [y.shape for y in listed] == [(len(each), K) for each in x]
    parameters = {name: value.astype(np.float64) for name, value in model.parameters.items()}
    layers = Recurrent("lstm", I, H, num_layers=2, bidirectional=bidirectional, dtype=dtype)
    for name, view in layers.parameters.items():
        view[...] = model.parameters[name]
    for n, h in enumerate(layers.forward(x)[0]):
        expected = np.stack([reference.head(model.config, parameters, row) for row in h.astype(np.float64)])
        assert_close(listed[n], expected, 1e-11 if dtype == "float64" else 5e-6, f"sequence {n}")
    padded = np.zeros((len(x), 11, I), dtype)
    for n, each in enumerate(x):
        padded[n, : len(each)] = each
    lengths = [len(each) for each in x]
    for n, y in enumerate(model.predict(padded, lengths)):
        assert_bitwise(y[: lengths[n]], listed[n], "padded")
        assert not y[lengths[n] :].any()
    assert all(
        np.array_equal(a, b) for a, b in zip(model.predict(_core.Sequences(x, dtype=dtype)), listed, strict=True)
    )
    wrapped = lstmcore.model.Model(model)
    assert_bitwise(wrapped.outputs(x)[1], listed[1], "Model.outputs")
    with pytest.raises(ValueError, match="predict: this model has pooling 'none'"):
        wrapped.predict(x)
    model.save(str(tmp_path / "model"))
    assert_bitwise(_core.Model.load(str(tmp_path / "model")).predict(x)[3], listed[3], "loaded")
    if not bidirectional:
        last, state = make_model("last", head, dtype, num_layers=2), model.make_state()
        for t, row in enumerate(x[1]):
            y = model.step(row, state)
            assert_bitwise(y, listed[1][t], f"step {t}")
            assert_bitwise(y, last.predict([x[1][: t + 1]])[0], "as pooling last")
    with pytest.raises(ValueError, match="pooling 'none' gives outputs at every step, which cannot be trained yet"):
        _core.Trainer(model, {})


def test_no_pooling_of_more_steps_than_one_pass_takes() -> None:
    model = make_model("last", dtype="float32", more={"pooling": "none"})
    x = make_data("float32", (20000, 5, 30000, 20001, 1))
    for n, y in enumerate(model.predict(x)):
        assert_bitwise(y, model.predict([x[n]])[0], f"sequence {n}")


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
