"""Label smoothing, bounds on weights, noise on gradients and truncated backpropagation, each against plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstmcore import SequenceClassifier, SequenceRegressor, _core
from reference import driver
from sequences import FAST, last_value, ragged, three_classes

N, T, I, H, K = 5, 13, 3, 6, 4


def make(head: str = "softmax", cell: str = "lstm", pooling: str = "mean", **options: Any) -> _core.Model:
    recurrent = {"cell": cell, "input_size": I, "hidden_size": H, "dtype": "float64", "seed": 3, **options}
    return _core.Model({"recurrent": recurrent, "pooling": pooling, "activation": head, "outputs": K})


def data(seed: int = 0, lengths: Any = (13, 4, 9, 1, 12)) -> tuple[_core.Sequences, list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    x = [rng.standard_normal((length, I)) for length in lengths]
    return _core.Sequences(x, dtype="float64"), x, rng.integers(0, K, size=len(x)).astype(np.int32)


def flat(gradient: dict[str, np.ndarray]) -> np.ndarray:
    """In the order of get_weights()."""
    return np.concatenate([value.ravel() for value in gradient.values()])


def scores(model: _core.Model, x: _core.Sequences) -> np.ndarray:
    """Linear outputs of the head, from probabilities: up to a constant a sequence, which no loss here sees."""
    return np.log(model.predict(x))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_label_smoothing(smoothing: float) -> None:
    model, (x, _, y) = make(), data()
    trainer = _core.Trainer(model, {"label_smoothing": smoothing})
    loss, _ = trainer.gradient(x, y)
    log_p = scores(model, x)
    target = (1 - smoothing) * np.eye(K)[y] + smoothing / K
    assert loss == pytest.approx(-(target * log_p).sum(axis=1).mean(), rel=1e-12)
    # The loss that is shown for validation is that of the labels.
    assert trainer.evaluate(x, y) == pytest.approx(-log_p[np.arange(N), y].mean(), rel=1e-12)


def test_label_smoothing_gradient_is_that_of_the_loss() -> None:
    model, (x, _, y) = make(), data()
    trainer = _core.Trainer(model, {"label_smoothing": 0.3})
    _, gradient = trainer.gradient(x, y)
    gradient, weights = flat(gradient), model.get_weights()
    for k in np.random.default_rng(1).choice(weights.size, 40, replace=False):
        change = np.zeros_like(weights)
        change[k] = 1e-5
        loss = []
        for sign in (1, -1):
            model.set_weights(weights + sign * change)
            loss.append(trainer.gradient(x, y)[0])
        assert gradient[k] == pytest.approx((loss[0] - loss[1]) / 2e-5, abs=1e-9, rel=1e-6)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_max_norm_bounds_rows_of_matrices_and_nothing_else(solver: str) -> None:
    free, bound, (x, _, y) = make(cell="peephole"), make(cell="peephole"), data()
    options = {"solver": solver, "learning_rate": 0.1, "seed": 1}
    _core.Trainer(free, options).step(x, y)
    _core.Trainer(bound, {**options, "max_norm": 0.8}).step(x, y)
    bounded = 0
    for name, value in bound.parameters.items():
        expected = free.parameters[name].copy()
        if expected.ndim == 2 and not name.startswith("P_"):
            norm = np.linalg.norm(expected, axis=1, keepdims=True)
            bounded += int((norm > 0.8).sum())
            expected = expected * np.minimum(1, 0.8 / norm)
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-15, err_msg=name)
    assert bounded > 5


def test_gradient_noise() -> None:
    """Without momentum the update is the gradient: what is added to it has the deviation that the paper gives."""
    model, (x, _, y) = make(), data()
    eta, rate = 0.3, 0.5
    trainer = _core.Trainer(model, {"solver": "sgd", "momentum": 0.0, "learning_rate": rate, "gradient_noise": eta})
    noise = []
    for step in range(6):
        before = model.get_weights()
        gradient = flat(trainer.gradient(x, y)[1])
        trainer.step(x, y)
        noise.append((before - model.get_weights()) / rate - gradient)
        deviation = np.sqrt(eta / (1 + step) ** 0.55)
        assert abs(noise[-1].std() / deviation - 1) < 4 / np.sqrt(2 * gradient.size)
        assert abs(noise[-1].mean()) < 4 * deviation / np.sqrt(gradient.size)
    assert abs(np.corrcoef(noise)[~np.eye(6, dtype=bool)]).max() < 5 / np.sqrt(gradient.size)


def test_gradient_noise_comes_after_clipping_and_from_the_seed() -> None:
    def weights(seed: int, eta: float, clip: float) -> np.ndarray:
        model, (x, _, y) = make(), data()
        options = {"solver": "sgd", "momentum": 0.0, "learning_rate": 1.0, "gradient_noise": eta, "seed": seed}
        _core.Trainer(model, {**options, "clip_norm": clip}).step(x, y)
        return model.get_weights()

    np.testing.assert_array_equal(weights(1, 0.1, 0.01), weights(1, 0.1, 0.01))
    assert np.abs(weights(1, 0.1, 0.01) - weights(2, 0.1, 0.01)).max() > 0.1
    # A tenth of the norm changes the part that is gradient, not the noise.
    np.testing.assert_allclose(
        weights(1, 0.1, 0.01) - weights(1, 0.1, 0.001), weights(1, 0.0, 0.01) - weights(1, 0.0, 0.001), atol=1e-12
    )


def truncated(stack: driver.Stack, parameters: dict, x: np.ndarray, dy: np.ndarray, window: int) -> dict:
    """Gradient of truncated BPTT for one sequence: each window by itself, from the state that the one before left."""
    total: dict[str, np.ndarray] = {}
    state = None
    for start in range(0, x.shape[1], window):
        part = slice(start, start + window)
        _, state, tape = driver.forward(stack, parameters, x[:, part], None, state)
        _, _, gradient = driver.backward(tape, dy[:, part], None)
        for name, value in gradient.items():
            total[name] = total.get(name, 0.0) + value
    return total


@pytest.mark.parametrize("window", [1, 4, 5, 13])
@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("lstm", {}),
        ("gru", {}),
        ("gru", {"reset_after": False}),
        ("slstm", {"heads": 2}),
        ("lstm", {"proj_size": 2}),
        ("peephole", {"layer_norm": True}),
    ],
)
def test_truncated_bptt(cell: str, options: dict[str, Any], window: int) -> None:
    """States go on, gradients stop at the windows' borders; a window as long as the sequence changes nothing."""
    model = make("identity", cell, num_layers=2, cell_options=options)
    x, arrays, _ = data()
    y = np.random.default_rng(2).standard_normal((N, K))
    trainer = _core.Trainer(model, {"loss": "squared", "bptt_steps": window})
    parameters = model.parameters
    loss, gradient = trainer.gradient(x, y)
    outputs = model.predict(x)
    assert loss == pytest.approx(((outputs - y) ** 2).mean(), rel=1e-12)
    stack = driver.Stack(cell, I, H, 2, False, options)
    names = list(stack.shapes())
    expected = {name: np.zeros(shape) for name, shape in stack.shapes().items()}
    for n, one in enumerate(arrays):
        d_pooled = 2 * (outputs[n] - y[n]) / (N * K) @ parameters["head_W"]
        dy = np.broadcast_to(d_pooled / len(one), (1, len(one), d_pooled.size))
        layers = {name: parameters[name] for name in names}
        for name, value in truncated(stack, layers, one[None], dy, window).items():
            expected[name] += value
    for name in names:
        scale = max(1e-3, np.abs(expected[name]).max())
        np.testing.assert_allclose(gradient[name] / scale, expected[name] / scale, atol=1e-11, err_msg=name)


def test_truncated_bptt_counts_windows_from_where_a_direction_starts() -> None:
    """The reverse direction of a sequence alone and in a batch with a longer one has the same gradient."""
    gradients = []
    _, arrays, _ = data()
    y = np.random.default_rng(2).standard_normal((N, K))
    for parts in ([[0], [1], [2], [3], [4]], [[0, 1, 2, 3, 4]]):
        total = 0.0
        for part in parts:
            model = make("identity", bidirectional=True)
            trainer = _core.Trainer(model, {"loss": "squared", "bptt_steps": 4})
            chosen = _core.Sequences([arrays[n] for n in part], dtype="float64")
            total = total + len(part) / N * flat(trainer.gradient(chosen, y[part])[1])
        gradients.append(total)
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-14)


def test_the_same_for_any_number_of_threads() -> None:
    weights = []
    for n_threads in (1, 2):
        recurrent = {"cell": "gru", "input_size": I, "hidden_size": 64, "seed": 1, "n_threads": n_threads}
        recurrent |= {
            "zoneout_hidden": 0.2,
            "recurrent_dropout": 0.1,
            "variational_dropout": 0.2,
            "bidirectional": True,
        }
        model = _core.Model({"recurrent": recurrent, "pooling": "max", "activation": "softmax", "outputs": K})
        options = {"label_smoothing": 0.1, "max_norm": 1.0, "gradient_noise": 0.01, "bptt_steps": 5, "batch_size": 8}
        trainer = _core.Trainer(model, {**options, "n_threads": n_threads, "seed": 5})
        rng = np.random.default_rng(0)
        x = _core.Sequences([rng.standard_normal((t, I)).astype(np.float32) for t in rng.integers(1, 40, size=40)])
        for _ in range(2):
            trainer.run_epoch(x, rng.integers(0, K, size=40).astype(np.int32))
        weights.append(model.get_weights())
    np.testing.assert_array_equal(weights[0], weights[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing: expected a number in \[0, 1\), got 1"),
        ({"label_smoothing": 0.1, "loss": "squared"}, "label_smoothing: expected 0 with any loss but cross_entropy"),
        ({"max_norm": -1.0}, "max_norm: expected 0 .off. or a number above 0, got -1"),
        ({"gradient_noise": float("inf")}, "gradient_noise"),
        ({"bptt_steps": -1}, "bptt_steps: expected 0 .whole sequences. or an integer of at least 1, got -1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Trainer(make("softmax" if "loss" not in options else "identity"), options)


@pytest.mark.parametrize("cell", ["lstm", "gru", "peephole", "slstm", "lstm1997", "min_lstm", "min_gru", "indrnn"])
def test_estimators_with_every_practice_learn(cell: str) -> None:
    practice: dict[str, Any] = {"variational_dropout": 0.05, "zoneout_hidden": 0.05, "learn_initial_state": True}
    practice |= {"max_norm": 4.0, "gradient_noise": 1e-4, "bptt_steps": 6, "random_state": 0, "max_iter": 60}
    if cell != "indrnn":
        practice["recurrent_dropout"] = 0.05
    x = ragged(80)
    classifier = SequenceClassifier(cell, **FAST | practice, label_smoothing=0.05).fit(x, three_classes(x))
    assert classifier.score(x, three_classes(x)) > 0.7
    regressor = SequenceRegressor(cell, **FAST | practice).fit(x, last_value(x))
    assert regressor.score(x, last_value(x)) > 0.5
