"""Estimators whose network is put together in Python, with toy_estimator.py: trainer, head, fitting, files."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss

import lstmcore
import model_bytes
from checking import assert_bitwise, assert_close
from lstmcore import ModelFileError, SequenceClassifier, _core, persistence
from lstmcore import _layer_network as layer_network
from lstmcore._dense_head import cross_entropy, dense_backward, dense_forward, dense_init, numeric_loss, softmax
from lstmcore._layer_training import LayerTrainer, plan_batches
from toy_estimator import ToyClassifier, ToyRegressor
from toy_network import Bags, ToyNetwork

Array = np.ndarray
CONFIG = {"inputs": 3, "hidden": 5, "outputs": 4, "classifies": True, "dtype": "float64"}
OPTIONS = {"batch_size": 8, "shuffle": True, "learning_rate": 0.05}


def bags(n: int = 60, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(rng.normal(size=3), 0.3, size=(rng.integers(1, 9), 3)) for _ in range(n)]


X, X_TEST = bags(), bags(30, seed=1)


def labels(X: list[Array]) -> Array:
    return np.array(["low", "middle", "high"])[[int(np.digitize(x.mean(axis=0)[0], [-0.5, 0.5])) for x in X]]


def numbers(X: list[Array]) -> Array:
    return np.array([100.0 + 5.0 * x.mean(axis=0)[1] for x in X])


Y, YR = labels(X), numbers(X)
BOTH = [pytest.param(ToyClassifier, labels, id="classifier"), pytest.param(ToyRegressor, numbers, id="regressor")]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layer_network.NETWORKS, "ToyNetwork", "toy_network")
    for name in ("ToyClassifier", "ToyRegressor"):
        monkeypatch.setitem(persistence.LAYER_ESTIMATORS, name, "toy_estimator")


def weights_of(estimator: Any) -> Array:
    return estimator.model_.core.get_weights()


# --- the head --------------------------------------------------------------------------------------------------------


def differences(f: Any, x: Array) -> Array:
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        sides = []
        for step in (1e-6, -1e-6):
            moved = x.copy()
            moved[index] += step
            total, weight, _ = f(moved)
            sides.append(total / weight)
        gradient[index] = (sides[0] - sides[1]) / 2e-6
    return gradient


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "smoothed", "squared", "absolute", "huber"])
def test_losses(loss: str, weighted: bool) -> None:
    """Gradients against differences, values against the engine's own losses."""
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(6, 4)) * 2, rng.normal(size=(6, 4))
    classes = rng.integers(0, 4, 6)
    weights = np.array([0.5, 0.0, 2.0, 1.0, 1.5, 3.0]) if weighted else None

    def f(s: Array) -> tuple[float, float, Array]:
        if loss in ("cross_entropy", "smoothed"):
            return cross_entropy(s, classes, weights, 0.1 if loss == "smoothed" else 0.0)
        return numeric_loss(s, values, weights, loss, 0.7)

    total, weight, slopes = f(scores)
    assert weight == (8.0 if weighted else 6.0)
    assert_close(slopes, differences(f, scores), 1e-8, "gradient")
    # The engine's: a network whose outputs are these scores, W = 0 and the bias changing from sample to sample.
    activation = "softmax" if loss in ("cross_entropy", "smoothed") else "identity"
    sums = []
    for n in range(6):
        recurrent = {"cell": "elman", "input_size": 1, "hidden_size": 1, "dtype": "float64"}
        model = _core.Model({"recurrent": recurrent, "activation": activation, "outputs": 4})
        model.set_parameters({"head_W": np.zeros((4, 1)), "head_b": scores[n]})
        name = "cross_entropy" if activation == "softmax" else loss
        smoothing = {"label_smoothing": 0.1} if loss == "smoothed" else {}
        trainer = _core.Trainer(model, {"loss": name, "huber_delta": 0.7, **smoothing})
        x = _core.Sequences(np.zeros((1, 1, 1)), dtype="float64")
        target = classes[n : n + 1] if activation == "softmax" else values[n : n + 1]
        sums.append(trainer.gradient(x, target)[0] * (1.0 if weights is None else weights[n]))
    assert total == pytest.approx(sum(sums), rel=1e-13)


def test_losses_at_the_edge() -> None:
    big = np.array([[1e308, -1e308], [0.0, 40.0]])
    total, _, slopes = cross_entropy(big, np.array([0, 1]))
    assert total == pytest.approx(np.exp(-40.0), rel=1e-12)  # small, and not lost in 1 + small
    assert np.isfinite(slopes).all()
    assert np.isinf(numeric_loss(np.array([[1e200]]), np.zeros((1, 1)))[0])
    assert np.isnan(cross_entropy(np.array([[np.inf, np.inf]]), np.array([0]))[0])
    total, weight, slopes = numeric_loss(np.array([[np.inf], [1.0]]), np.zeros((2, 1)), np.array([0.0, 2.0]))
    assert (total, weight) == (2.0, 2.0)
    np.testing.assert_array_equal(slopes, [[0.0], [2.0]])
    assert numeric_loss(np.ones((2, 1)), np.zeros((2, 1)), np.zeros(2))[:2] == (0.0, 0.0)
    np.testing.assert_array_equal(softmax(np.array([[1000.0, 1000.0]], "f4")), np.float32([[0.5, 0.5]]))
    assert numeric_loss(np.ones((2, 1), "f4"), np.zeros((2, 1)))[2].dtype == np.float32
    with pytest.raises(ValueError, match="loss: expected 'squared', 'absolute' or 'huber', got 'cubic'"):
        numeric_loss(big, big, loss="cubic")


def test_dense_head() -> None:
    first, again, other = (dense_init(seed, 50, 30, "float32") for seed in (3, 3, 4))
    assert set(first) == {"head_W", "head_b"}
    assert first["head_W"].shape == (30, 50)
    assert first["head_W"].dtype == np.float32
    assert_bitwise(first["head_W"], again["head_W"], "same seed")
    assert not np.array_equal(first["head_W"], other["head_W"])
    bound = np.sqrt(6 / 80)
    assert 0.98 * bound < np.abs(first["head_W"]).max() <= np.float32(bound)
    assert abs(first["head_W"].mean()) < 0.01
    rng = np.random.default_rng(0)
    x, W, b, d = (rng.normal(size=s) for s in ((2, 3, 5), (4, 5), (4,), (2, 3, 4)))
    assert_close(dense_forward(x, W, b), x @ W.T + b, 1e-14, "forward")
    d_x, d_W, d_b = dense_backward(x, W, d)
    assert_close(d_x, d @ W, 1e-14, "x")
    assert_close(d_W, np.tensordot(d, x, ((0, 1), (0, 1))), 1e-14, "W")
    assert_close(d_b, d.sum(axis=(0, 1)), 1e-14, "b")


# --- the trainer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 16, 60, 100])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches(size: int, shuffle: bool) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, 61)
    weights = np.ones(61)
    weights[[3, 10]] = 0.0
    seen = set()
    for epoch in range(20):
        batches = plan_batches(lengths, weights, size, shuffle, (0, epoch))
        assert sorted(np.concatenate(batches)) == [n for n in range(61) if n not in (3, 10)]
        sizes = sorted((len(batch) for batch in batches), reverse=True)
        full, rest = divmod(59, min(size, 59))
        assert sizes == [min(size, 59)] * full + [rest] * (rest > 0)
        seen.add(tuple(np.concatenate(batches)))
    assert len(seen) == (20 if shuffle and size < 59 else len(seen))
    if not shuffle:
        assert list(np.concatenate(batches)) == sorted(np.concatenate(batches))
    elif size == 7:
        # Batches of similar lengths: within windows of four, so much narrower than the data.
        spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
        assert spread < 0.45 * np.ptp(lengths)
        assert sum(len(b) == 3 for b in (plan_batches(lengths, weights, 7, True, (1, e))[0] for e in range(50))) < 25


def test_an_epoch_is_steps_on_its_batches() -> None:
    x, y = Bags(bags(20)), np.random.default_rng(0).integers(0, 4, 20)
    weights = np.linspace(0.0, 2.0, 20)
    ours, theirs = ToyNetwork(CONFIG), ToyNetwork(CONFIG)
    trainer = LayerTrainer(ours, OPTIONS | {"alpha": 0.1}, seed=5)
    optimiser = _core.Optimiser({"learning_rate": 0.05, "alpha": 0.1, "seed": 5}, theirs.parameters)
    for epoch in (1, 2):
        total = weight = 0.0
        for batch in plan_batches(x.lengths, weights, 8, True, (5, epoch)):
            loss, share, gradients = theirs.loss_and_gradients(x.subset(batch), y[batch], weights[batch], 0)
            total += loss + share * 0.05 * sum((theirs.parameters[name] ** 2).sum() for name in ("W", "head_W"))
            weight += share
            optimiser.step(gradients)
        result = trainer.run_epoch(x, y, weights)
        assert result["loss"] == pytest.approx(total / weight, rel=1e-13)
        assert {name: result[name] for name in ("learning_rate", "sequences", "interrupted")} == {
            "learning_rate": 0.05,
            "sequences": 19,
            "interrupted": False,
        }
        for name, value in theirs.parameters.items():
            assert_bitwise(ours.parameters[name], value, name)
    sums = theirs.loss_and_gradients(x, y, weights, 0, training=False)
    assert trainer.evaluate(x, y, weights) == pytest.approx(sums[0] / sums[1], rel=1e-13)
    assert trainer.evaluate_sums(x, y)[1] == 20.0


def test_gradients_of_the_toy() -> None:
    x, y = Bags(bags(9)), np.random.default_rng(0).integers(0, 4, 9)
    network = ToyNetwork(CONFIG)
    network.dropout, network.label_smoothing = 0.3, 0.1
    _, _, gradients = network.loss_and_gradients(x, y, None, 7)
    for name, value in network.parameters.items():

        def f(moved: Array, value: Array = value) -> tuple[float, float, Any]:
            kept = value.copy()
            value[...] = moved
            result = network.loss_and_gradients(x, y, None, 7)
            value[...] = kept
            return result

        assert_close(gradients[name], differences(f, value.copy()), 1e-7, name)


def test_dropout_masks_change_from_step_to_step() -> None:
    x, y = Bags(bags(20)), np.zeros(20, dtype=int)
    network = ToyNetwork(CONFIG)
    seeds: list[int] = []
    plain = network.loss_and_gradients

    def watched(*arguments: Any, **options: Any) -> Any:
        seeds.append(arguments[3])
        return plain(*arguments, **options)

    network.loss_and_gradients = watched  # type: ignore[method-assign]
    trainer = LayerTrainer(network, OPTIONS, seed=0)
    trainer.run_epoch(x, y)
    trainer.run_epoch(x, y)
    assert len(set(seeds)) == len(seeds) == 6


def test_divergence_keeps_the_weights_before_the_batch() -> None:
    x, y = Bags(bags(20)), np.zeros(20, dtype=int)
    network = ToyNetwork(CONFIG)
    trainer = LayerTrainer(network, OPTIONS, seed=0)
    network.parameters["head_b"][0] = np.nan
    before = {name: value.copy() for name, value in network.parameters.items()}
    with pytest.raises(RuntimeError, match=r"the loss became NaN or infinite in epoch 1; the weights are those before"):
        trainer.run_epoch(x, y)
    for name, value in before.items():
        np.testing.assert_array_equal(network.parameters[name], value)


def test_interrupt_keeps_the_last_whole_batch() -> None:
    x, y = Bags(bags(40)), np.random.default_rng(0).integers(0, 4, 40)
    whole, cut = ToyNetwork(CONFIG), ToyNetwork(CONFIG)
    reference = LayerTrainer(whole, OPTIONS, seed=3)
    trainer = LayerTrainer(cut, OPTIONS, seed=3)
    snapshots: list[Array] = []
    plain = whole.loss_and_gradients

    def recorded(*arguments: Any, **options: Any) -> Any:
        snapshots.append(layer_network.NetworkCore(whole).get_weights())
        return plain(*arguments, **options)

    whole.loss_and_gradients = recorded  # type: ignore[method-assign]
    reference.run_epoch(x, y)
    original, calls = cut.loss_and_gradients, iter(range(100))

    def stopping(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if next(calls) == 2:
            raise KeyboardInterrupt
        return result

    cut.loss_and_gradients = stopping  # type: ignore[method-assign]
    result = trainer.run_epoch(x, y)
    assert result["interrupted"] is True
    assert result["sequences"] == 16
    assert_bitwise(layer_network.NetworkCore(cut).get_weights(), snapshots[2], "weights")


# --- the estimators --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "targets"), BOTH)
def test_it_learns(kind: Any, targets: Any) -> None:
    estimator = kind(max_iter=60, n_iter_no_change=None).fit(X, targets(X))
    assert estimator.score(X_TEST, targets(X_TEST)) > 0.85
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 60
    assert estimator.loss_ == estimator.loss_curve_[-1] < 0.5 * estimator.loss_curve_[0]
    assert estimator.n_features_in_ == 3
    if kind is ToyClassifier:
        assert estimator.classes_.tolist() == ["high", "low", "middle"]
        probabilities = estimator.predict_proba(X_TEST)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
        np.testing.assert_allclose(estimator.predict_log_proba(X_TEST), np.log(probabilities))
        assert set(estimator.predict(X_TEST)) <= {"low", "middle", "high"}
    else:
        assert estimator.predict(X_TEST).shape == (30,)
        two = kind().fit(X, np.c_[YR, -YR])
        assert two.predict(X_TEST).shape == (30, 2)
        with pytest.raises(ValueError, match="y has 1 targets, but the model was fitted on 2"):
            two.partial_fit(X, YR)


@pytest.mark.parametrize(("kind", "targets"), BOTH)
def test_seeds_decide(kind: Any, targets: Any) -> None:
    same = [kind(noise=0.2, random_state=4).fit(X, targets(X)) for _ in range(2)]
    np.testing.assert_array_equal(weights_of(same[0]), weights_of(same[1]))
    assert not np.array_equal(weights_of(kind(noise=0.2, random_state=5).fit(X, targets(X))), weights_of(same[0]))
    assert not np.array_equal(weights_of(kind(random_state=4).fit(X, targets(X))), weights_of(same[0]))


def test_eval_set() -> None:
    plain = ToyClassifier().fit(X, Y)
    watched = ToyClassifier().fit(X, Y, eval_set=(X_TEST, labels(X_TEST)))
    np.testing.assert_array_equal(weights_of(plain), weights_of(watched))
    assert plain.validation_loss_curve_ is None
    assert watched.validation_scores_[-1] == pytest.approx(watched.score(X_TEST, labels(X_TEST)))
    assert watched.validation_loss_curve_[-1] == pytest.approx(log_loss(labels(X_TEST), watched.predict_proba(X_TEST)))
    with pytest.raises(ValueError, match="eval_set y has 2 entries, but eval_set X has 30"):
        ToyClassifier().fit(X, Y, eval_set=(X_TEST, Y[:2]))
    with pytest.raises(ValueError, match="eval_set X has 2 features, but ToyClassifier is expecting 3"):
        ToyClassifier().fit(X, Y, eval_set=([x[:, :2] for x in X_TEST], labels(X_TEST)))


def test_early_stopping_restores_the_best_weights() -> None:
    noise = np.random.default_rng(0).choice(["a", "b"], size=60)
    seen: list[Array] = []
    estimator = ToyClassifier(max_iter=300, early_stopping=True, n_iter_no_change=6, learning_rate_init=0.1)
    estimator.fit(X, noise, callbacks=lambda info: seen.append(weights_of(info.estimator)))
    best = int(np.argmin(estimator.validation_loss_curve_))
    assert best < estimator.n_iter_ - 1 < 299
    np.testing.assert_array_equal(weights_of(estimator), seen[best])
    # Of the 12 samples held out, as many of each class as in all.
    assert {round(score * 12, 9) % 1 for score in estimator.validation_scores_} == {0.0}


def test_callbacks_stop_and_label_smoothing_and_weights() -> None:
    estimator = ToyClassifier().fit(X, Y, callbacks=lambda info: info.epoch == 3)
    assert estimator.n_iter_ == 3
    assert not np.allclose(
        weights_of(ToyClassifier(label_smoothing=0.2).fit(X, Y)), weights_of(ToyClassifier().fit(X, Y))
    )
    some = np.r_[np.zeros(20), np.ones(40)]
    once = ToyClassifier(batch_size=100, standardize=False).fit(X, Y, sample_weight=some)
    left_out = ToyClassifier(batch_size=100, standardize=False).fit(X[20:], Y[20:])
    np.testing.assert_allclose(weights_of(once), weights_of(left_out), rtol=1e-9)
    balanced = ToyClassifier(class_weight="balanced").fit(X, Y)
    assert not np.array_equal(weights_of(balanced), weights_of(ToyClassifier().fit(X, Y)))


def test_warm_start_and_partial_fit() -> None:
    estimator = ToyClassifier(warm_start=True, max_iter=3).fit(X, Y)
    before = weights_of(estimator)
    estimator.fit(X, Y)
    assert estimator.n_iter_ == 6
    assert not np.array_equal(weights_of(estimator), before)
    with pytest.raises(ValueError, match="hidden_size=9, but the model to go on with has 8"):
        estimator.set_params(hidden_size=9).fit(X, Y)
    online = ToyClassifier()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        online.partial_fit(X, Y)
    online.partial_fit(X[:10], Y[:10], classes=np.unique(Y))
    trainer = online._trainer[2]
    for _ in range(40):
        online.partial_fit(X, Y)
    assert online._trainer[2] is trainer  # the optimiser's averages go on
    assert online.score(X, Y) > 0.85
    assert ToyRegressor().partial_fit(X, YR).n_iter_ == 1
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        ToyRegressor(early_stopping=True).partial_fit(X, YR)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"noise": 2.0}, ValueError, "The 'noise' parameter of ToyClassifier must be a float in"),
        ({"solver": "newton"}, ValueError, "The 'solver' parameter of ToyClassifier"),
        ({"max_iter": 0}, ValueError, "The 'max_iter' parameter"),
        ({"device": "cuda"}, NotImplementedError, "device='cuda' is not implemented yet"),
        ({"precision": "bfloat16"}, NotImplementedError, "precision='bfloat16'"),
    ],
)
def test_bad_parameters(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ToyClassifier(**settings).fit(X, Y)


def test_bad_data() -> None:
    with pytest.raises(ValueError, match="requires y to be passed"):
        ToyClassifier().fit(X, None)
    with pytest.raises(ValueError, match="y has 59 entries, but X has 60"):
        ToyClassifier().fit(X, Y[:-1])
    with pytest.raises(ValueError, match=r"X\[0\] contains NaN"):
        ToyClassifier().fit([np.full((2, 3), np.nan)] * 60, Y)
    with pytest.raises(ValueError, match="only one class"):
        ToyClassifier().fit(X, ["a"] * 60)
    with pytest.raises(NotFittedError):
        ToyClassifier().predict(X)
    fitted = ToyClassifier(max_iter=1).fit(X, Y)
    with pytest.raises(ValueError, match="X has 2 features, but ToyClassifier is expecting 3"):
        fitted.predict([x[:, :2] for x in X])


def test_divergence_is_an_error_that_keeps_weights() -> None:
    estimator = ToyRegressor(solver="sgd", learning_rate_init=1e300, clip_norm=None)
    with pytest.raises(ValueError, match="Training diverged in epoch 1"):
        estimator.fit(X, YR)
    assert np.isfinite(weights_of(estimator)).all()


def test_many_samples_are_predicted_in_batches() -> None:
    estimator = ToyClassifier(max_iter=1, batch_size=7).fit(X, Y)
    whole = copy.deepcopy(estimator)
    whole.batch_size = 1000
    assert_bitwise(estimator.predict_proba(X), whole.predict_proba(X), "outputs")


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    estimator = ToyClassifier(max_iter=10**6, n_iter_no_change=None)
    thread = threading.Thread(target=lambda: (time.sleep(0.5), os.kill(os.getpid(), signal.SIGINT)))
    thread.start()
    with pytest.warns(UserWarning, match=r"Training was interrupted after \d+ of 1000000 epochs"):
        estimator.fit(X, Y)
    thread.join()
    assert estimator.n_iter_ == len(estimator.loss_curve_) > 0
    assert estimator.predict(X).shape == (60,)


# --- files and pickle ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "targets"), BOTH)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_there_and_back(kind: Any, targets: Any, precision: str, tmp_path: Path) -> None:
    estimator = kind(max_iter=3, precision=precision, early_stopping=True).fit(X, targets(X))
    estimator.save(tmp_path / "model")
    loaded = lstmcore.load(tmp_path / "model")
    assert type(loaded) is kind
    assert loaded.get_params() == estimator.get_params()
    skipped = {"model_", "_trainer", "classes_"}
    np.testing.assert_equal(
        {name: value for name, value in vars(loaded).items() if name not in skipped},
        {name: value for name, value in vars(estimator).items() if name not in skipped},
    )
    assert_bitwise(loaded._outputs(X_TEST), estimator._outputs(X_TEST), "outputs")
    assert loaded.predict(X_TEST).tolist() == estimator.predict(X_TEST).tolist()
    model = lstmcore.load_model(tmp_path / "model")
    assert model.predict(X_TEST).tolist() == estimator.predict(X_TEST).tolist()
    if kind is ToyClassifier:
        assert_bitwise(model.predict_proba(X_TEST), estimator.predict_proba(X_TEST), "probabilities")
    else:
        with pytest.raises(AttributeError, match="predicts numbers"):
            model.predict_proba(X_TEST)
    loaded.set_params(warm_start=True).fit(X, targets(X))
    assert loaded.n_iter_ > estimator.n_iter_
    with pytest.raises(ValueError, match="hidden_size=20, but the model to go on with has 8"):
        loaded.set_params(hidden_size=20).fit(X, targets(X))


@pytest.mark.parametrize(("kind", "targets"), BOTH)
def test_pickle_and_clone(kind: Any, targets: Any) -> None:
    estimator = kind(max_iter=2).fit(X, targets(X))
    for same in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        assert same.get_params() == estimator.get_params()
        assert_bitwise(same._outputs(X), estimator._outputs(X), "outputs")
        before = weights_of(estimator)
        same.set_params(warm_start=True).fit(X, targets(X))
        np.testing.assert_array_equal(weights_of(estimator), before)
    assert not hasattr(clone(estimator), "model_")


def test_load_model_needs_numpy_only(tmp_path: Path) -> None:
    ToyClassifier(max_iter=1).fit(X, Y).save(tmp_path / "model")
    program = """
import sys
for name in ("sklearn", "scipy", "pandas", "matplotlib", "tqdm", "joblib"):
    sys.modules[name] = None
import numpy as np, lstmcore
try:
    lstmcore.load_model(sys.argv[1])
except lstmcore.ModelFileError as error:
    assert "unknown network 'ToyNetwork'" in str(error), error
else:
    raise AssertionError
from lstmcore._layer_network import NETWORKS
NETWORKS["ToyNetwork"] = "toy_network"
model = lstmcore.load_model(sys.argv[1])
assert model.predict([np.ones((4, 3)), np.zeros((2, 3))]).shape == (2,)
"""
    folder = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "model")], check=True, env=environment)


def damaged(path: Path, change: Any) -> Path:
    """The file with a change of its header or data, its checksum right again."""
    header, data = model_bytes.split(path.read_bytes())
    data = change(header, data) or data
    path.write_bytes(model_bytes.sealed(header, data))
    return path


def metadata(name: str, value: Any) -> Any:
    def change(header: dict[str, Any], data: bytes) -> None:
        if value is None:
            header["__metadata__"].pop(name)
        else:
            header["__metadata__"][name] = value if isinstance(value, str) else json.dumps(value)

    return change


def inside(name: str, *keys: str, value: Any) -> Any:
    def change(header: dict[str, Any], data: bytes) -> None:
        document = json.loads(header["__metadata__"][name])
        place = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        header["__metadata__"][name] = json.dumps(document)

    return change


def rename(old: str, new: str) -> Any:
    def change(header: dict[str, Any], data: bytes) -> None:
        header[new] = header.pop(old)

    return change


def zeroed(name: str) -> Any:
    def change(header: dict[str, Any], data: bytes) -> bytes:
        begin, end = header[name]["data_offsets"]
        return data[:begin] + bytes(end - begin) + data[end:]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (metadata("network", None), "metadata 'network' is not an object"),
        (metadata("network", "{"), "metadata 'network' is not valid JSON"),
        (inside("network", "class", value="os.system"), "unknown network 'os.system'"),
        (inside("network", "class", value=["ToyNetwork"]), "has no name of a class"),
        (inside("network", "config", value=[]), "no object as config"),
        (inside("network", "config", "hidden", value=10**15), r"'\w+': expected float64 of shape"),
        (inside("network", "config", "hidden", value="8"), "expected sizes above 0"),
        (inside("network", "config", "dtype", value="float32"), "expected float32 of shape"),
        (inside("network", "config", "dtype", value=[]), "expected sizes above 0 and a dtype"),
        (inside("network", "config", "more", value=1), "unexpected entries"),
        (rename("b", "c"), "is missing|is unknown"),
        (rename("mean", "median"), "is missing|is unknown"),
        (rename("test_output", "other"), "'test_output' is missing"),
        (zeroed("W"), "does not reproduce the test vector in the file"),
        (zeroed("test_output"), "does not reproduce the test vector in the file"),
        (metadata("classes", None), "ToyClassifier without classes"),
        (metadata("classes", {"dtype": "<i8", "values": [1, 2]}), "2 classes for outputs of shape"),
        (metadata("target", 3), "metadata 'target' is not an object"),
        (metadata("target", {"single": True}), "a single target is declared"),
        (metadata("estimator", None), "holds a network but no estimator"),
        (inside("estimator", "class", value="ToyRegressor"), "unknown parameter|with classes"),
        (inside("estimator", "class", value="SequenceClassifier"), "unknown parameter|network of another kind"),
        (inside("estimator", "parameters", "noise", value=3.0), "The 'noise' parameter of ToyClassifier"),
        (inside("estimator", "fitted", "n_features_in_", value=4), "n_features_in_ is 4, the network has 3"),
        (inside("estimator", "fitted", "architecture", value={}), "architecture is not an object with hidden_size"),
        (inside("estimator", "fitted", "architecture", "hidden_size", value="x"), "The 'hidden_size' parameter"),
        (inside("estimator", "fitted", "loss_curve_", value=["high"]), "loss_curve_ holds 'high'"),
        (metadata("format", "lstmcore"), "tensor|missing"),
    ],
)
def test_hostile_files(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "model"
    ToyClassifier(max_iter=1).fit(X, Y).save(path)
    with pytest.raises(ModelFileError, match=message):
        lstmcore.load(damaged(path, change))


def test_networks_that_cannot_be_saved(tmp_path: Path) -> None:
    estimator = ToyClassifier(max_iter=1).fit(X, Y)
    estimator.model_.network.parameters["W"][0, 0] = np.inf
    with pytest.raises(ModelFileError, match="'W' holds a value that is not finite"):
        estimator.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()

    class Mine(ToyClassifier):
        pass

    with pytest.raises(TypeError, match="Mine is not one of lstmcore's estimators"):
        Mine(max_iter=1).fit(X, Y).save(tmp_path / "model")


def test_a_sequence_model_under_a_layer_estimators_name(tmp_path: Path) -> None:
    path = tmp_path / "model"
    SequenceClassifier(hidden_size=4, max_iter=1).fit(
        np.random.default_rng(0).normal(size=(20, 3, 2)), ["a", "b"] * 10
    ).save(path)
    document = {"format": 1, "class": "ToyClassifier", "parameters": {}, "fitted": {}}
    with pytest.raises(ModelFileError, match="ToyClassifier with a network of another kind"):
        lstmcore.load(damaged(path, metadata("estimator", document)))
