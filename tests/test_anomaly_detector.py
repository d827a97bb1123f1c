"""SequenceAnomalyDetector: its gradient, scores and thresholds, streams, files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import lstmcore
from lstmcore import ModelFileError, SequenceAnomalyDetector, _core
from lstmcore.unsupervised.detector_model import DetectorModel
from lstmcore.unsupervised.forecast_network import START, ForecastNetwork
from lstmcore.unsupervised.pieces import beginnings, cut_pieces
from lstmcore.unsupervised.thresholds import lower_quantile

Array = NDArray[Any]

QUICK: dict[str, Any] = {"hidden_size": 8, "max_iter": 15, "random_state": 0, "n_jobs": 1, "precision": "float64"}


def waves(n: int = 12, steps: int = 40, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    t = np.arange(steps)
    return [
        np.stack([np.sin(t / 3 + phase), np.cos(t / 3 + phase)], axis=1)[: rng.integers(steps - 10, steps + 1)]
        + 0.05 * rng.standard_normal(2)
        for phase in rng.uniform(0, 6, n)
    ]


X = waves()
LOSSES = ("squared_error", "gaussian")


def config(horizon: int = 3, loss: str = "squared_error", layers: int = 1) -> dict[str, Any]:
    return {
        "cell": "lstm", "cell_options": {}, "inputs": 2, "hidden_size": 4, "num_layers": layers, "bidirectional": False,
        "outputs": horizon * 2 * (2 if loss == "gaussian" else 1), "dropout": 0.0, "variational_dropout": 0.0,
        "recurrent_dropout": 0.0, "vocabulary": None, "embedding_size": None, "dtype": "float64", "horizon": horizon,
        "loss": loss, "aggregation": "max",
    }  # fmt: skip


def network(horizon: int = 3, loss: str = "squared_error") -> ForecastNetwork:
    made = ForecastNetwork(config(horizon, loss), seed=3)
    rng = np.random.default_rng(0)
    for value in made.parameters.values():
        value[...] = 0.5 * rng.standard_normal(value.shape)
    made.constants["mean"][:] = [0.3, -0.2]
    made.constants["scale"][:] = [1.5, 0.7]
    return made


def plain_loss(made: ForecastNetwork, items: list[Array], weights: Array) -> float:
    """The mean over all forecasts of steps that exist, one at a time."""
    F, loss = made.config["horizon"], made.config["loss"]
    total = share = 0.0
    for x, w in zip(items, weights, strict=True):
        z = (x - made.constants["mean"]) * made.constants["scale"]
        y, _ = made._layer.forward(np.concatenate([np.zeros((1, 2)), z[:-1]])[None])
        scores = y[0] @ made.parameters["head_W"].T + made.parameters["head_b"]
        for t in range(len(z)):
            for k in range(min(F, len(z) - t)):
                if loss == "gaussian":
                    m, r = scores[t].reshape(F, 2, 2)[k].T
                    s = 1e-3 + np.log1p(np.exp(r))
                    each = np.log(s) + 0.5 * ((z[t + k] - m) / s) ** 2 + 0.5 * np.log(2 * np.pi)
                else:
                    each = (z[t + k] - scores[t].reshape(F, 2)[k]) ** 2
                total += w * float(each.mean())
                share += w
    return total / share


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("horizon", [1, 3])
def test_loss_and_gradient(loss: str, horizon: int) -> None:
    made = network(horizon, loss)
    rng = np.random.default_rng(1)
    items = [rng.standard_normal((n, 2)) for n in (5, 2, 1)]
    x, weights = made.read(items, "X", "float64"), np.array([1.0, 2.0, 0.5])
    total, share, gradients = made.loss_and_gradients(x, None, weights, 0)
    assert total / share == pytest.approx(plain_loss(made, items, weights), rel=1e-11)
    step = 1e-6
    for name, value in made.parameters.items():
        for at in list(np.ndindex(value.shape))[::5]:
            kept = value[at]
            value[at] = kept + step
            above = made.loss_and_gradients(x, None, weights, 0, training=False)[0]
            value[at] = kept - step
            below = made.loss_and_gradients(x, None, weights, 0, training=False)[0]
            value[at] = kept
            assert gradients[name][at] == pytest.approx((above - below) / (2 * step * share), rel=1e-6, abs=1e-9), name


def test_pieces_forecast_up_to_the_end_of_their_sequence() -> None:
    x = network().read([np.arange(14.0).reshape(7, 2), np.arange(6.0).reshape(3, 2)], "X", "float64")
    pieces, owner = cut_pieces(x, 3)
    assert owner.tolist() == [0, 0, 0, 1]
    assert pieces.lengths.tolist() == [2, 2, 3, 3]
    assert pieces.starts.tolist() == [0, 2, 4, 7]
    assert pieces.ends.tolist() == [7, 7, 7, 10]
    for steps in (None, 7):
        assert cut_pieces(x, steps)[0].lengths.tolist() == [7, 3]


def test_beginnings_of_what_is_cut_are_everywhere() -> None:
    x = network().read([np.zeros((40, 2)), np.zeros((7, 2))], "X", "float64")
    pieces, owner = beginnings(x, 16, 10)
    assert pieces.starts.tolist() == [*range(0, 40, 2), 40]
    assert pieces.lengths.tolist() == [10] * 16 + [8, 6, 4, 2, 7]
    assert owner.tolist() == [0] * 20 + [1]
    assert beginnings(x, None, 10)[0].starts.tolist() == [0, 40]


@pytest.mark.parametrize("loss", LOSSES)
def test_scores_are_mahalanobis_distances(loss: str) -> None:
    made = network(2, loss)
    rng = np.random.default_rng(2)
    errors = np.einsum("tfi,fj->tji", rng.standard_normal((500, 2, 2)), [[1.0, 0.7], [0.0, 0.5]]) + 0.3
    made.fit_errors(errors, np.ones(500))
    rows = errors.reshape(500, 4)
    centred = rows - rows.mean(axis=0)
    covariance = np.cov(rows.T, bias=True)
    covariance += max(1e-6 * np.trace(covariance) / 4, 1e-6) * np.eye(4)
    expected = -np.einsum("te,ef,tf->t", centred, np.linalg.inv(covariance), centred) / 4
    np.testing.assert_allclose(made.step_scores(errors), expected, rtol=1e-10)
    assert made.step_scores(errors).mean() == pytest.approx(-1.0, abs=1e-4)
    # A step that has one forecast only is judged by the marginal distribution of the errors one step ahead.
    first = errors.copy()
    first[:, 1] = np.nan
    expected = -np.einsum("te,ef,tf->t", centred[:, :2], np.linalg.inv(covariance[:2, :2]), centred[:, :2]) / 2
    np.testing.assert_allclose(made.step_scores(first), expected, rtol=1e-10)


def test_errors_at_the_start_are_compared_with_others_there() -> None:
    made = network(1)
    rng = np.random.default_rng(0)
    scale = np.concatenate([[8.0, 4.0], np.ones(60)])[:, None, None]
    errors = [scale * rng.standard_normal((62, 1, 2)) for _ in range(400)]
    usual = np.sqrt(np.mean(np.square(errors)))
    made.fit_start(errors, np.ones(400), usual**2)
    found = made.constants["start_scale"]
    assert found[0] == pytest.approx(8.0 / usual, rel=0.06)
    assert found[1] == pytest.approx(4.0 / usual, rel=0.06)
    assert (np.diff(found) <= 0).all()
    assert found[-1] == 1.0
    assert len(found) == START


def test_quantile_lies_between_scores_and_weights_count_as_copies() -> None:
    scores, weights = np.array([3.0, 1.0, 2.0, 4.0]), np.array([1.0, 1.0, 2.0, 0.0])
    assert lower_quantile(scores, weights, 0.25) == 1.5
    assert lower_quantile(np.repeat(scores, weights.astype(int)), np.ones(4), 0.25) == 1.5
    assert 0.999 < lower_quantile(scores, weights, 0.0) < 1.0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("horizon", [1, 3])
def test_finds_what_does_not_go_on(loss: str, horizon: int) -> None:
    detector = SequenceAnomalyDetector(horizon, loss=loss, **{**QUICK, "max_iter": 60}).fit(X)
    odd = X[0].copy()
    odd[20] += 1.5
    scores = detector.score_steps([odd, X[1]])
    assert abs(int(np.argmin(scores[0])) - 20) <= horizon
    assert detector.predict([odd, X[1]]).tolist() == [-1, 1]
    assert detector.predict_steps([odd])[0][20:22].min() == -1
    assert set(np.concatenate(list(detector.predict_steps(X)))) <= {-1, 1}
    assert detector.score_samples([odd])[0] == scores[0].min()
    assert detector.decision_function([odd])[0] == scores[0].min() - detector.offset_
    assert (detector.fit_predict(X) == 1).all()  # a hundredth of twelve is none


def test_thresholds() -> None:
    detector = SequenceAnomalyDetector(contamination=0.25, step_contamination=0.1, aggregation="mean", **QUICK).fit(X)
    assert (detector.predict(X) == -1).sum() == 3
    steps = np.concatenate(list(detector.predict_steps(X)))
    assert (steps == -1).sum() == int(0.1 * len(steps))
    scores = detector.score_steps(X)
    np.testing.assert_array_equal(detector.score_samples(X), [item.mean() for item in scores])


def test_thresholds_come_from_eval_set_or_held_out_steps() -> None:
    other = [3.0 * x for x in waves(4, seed=1)]
    detector = SequenceAnomalyDetector(**QUICK).fit(X, eval_set=other)
    assert len(detector.validation_loss_curve_) == len(detector.loss_curve_)
    worst = detector.score_samples(other).min()
    assert detector.offset_ == pytest.approx(worst, rel=1e-3)
    assert detector.fit(X, eval_set=(other, None)).offset_ == pytest.approx(worst, rel=1e-3)

    series = np.concatenate([np.sin(np.arange(300) / 3), 2 * np.sin(np.arange(60) / 3)])
    held = SequenceAnomalyDetector(early_stopping=True, bptt_steps=40, **QUICK).fit([series])
    # The last of nine pieces of 40 steps, whose amplitude is another.
    assert held.step_offset_ == pytest.approx(held.score_steps([series])[0][320:].min(), rel=1e-3)
    assert len(held.validation_scores_) == held.n_iter_


def test_weights_count_as_copies() -> None:
    whole = {**QUICK, "batch_size": 100, "shuffle": False}
    weights = np.array([2, 0, 1, 1, 0, 3, 1, 1, 1, 1, 1, 1])
    a = SequenceAnomalyDetector(contamination=0.2, **whole).fit(X, sample_weight=weights)
    copies = [x for x, w in zip(X, weights, strict=True) for _ in range(w)]
    b = SequenceAnomalyDetector(contamination=0.2, **whole).fit(copies)
    np.testing.assert_allclose(a.score_samples(X), b.score_samples(X), rtol=1e-9)
    assert a.offset_ == pytest.approx(b.offset_, rel=1e-9)
    assert a.step_offset_ == pytest.approx(b.step_offset_, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("horizon", [1, 3])
def test_step_gives_the_scores_of_the_whole(loss: str, horizon: int) -> None:
    detector = SequenceAnomalyDetector(horizon, loss=loss, num_layers=2, **QUICK).fit(X)
    both = np.stack([x[:30] for x in X[:2]])
    expected = detector.score_steps(both)
    assert expected.shape == (2, 30)
    state = None
    for t in range(30):
        kept = state
        scores, state = detector.step(both[:, t], state)
        np.testing.assert_allclose(scores, expected[:, t], rtol=1e-10)
    again, _ = detector.step(both[:, 29], kept)  # the state before it was not touched
    np.testing.assert_array_equal(again, scores)
    single, state = detector.step(both[0, 0])
    assert isinstance(single, float)
    assert len(state) == 1
    with pytest.raises(ValueError, match=r"state: it is of 1 stream\(s\), x has 2"):
        detector.step(both[:, 0], state)
    with pytest.raises(TypeError, match="state: expected what step returned"):
        detector.step(both[:, 0], {})
    with pytest.raises(ValueError, match="NaN"):
        detector.step([np.nan, 0.0])
    series = SequenceAnomalyDetector(**QUICK).fit([X[0][:, 0]])
    assert series.step(0.5)[0] == pytest.approx(series.score_steps([[0.5]])[0][0], rel=1e-12)


def test_threads_do_not_change_a_bit() -> None:
    settings = {**QUICK, "hidden_size": 32, "precision": "float32"}
    one, two = (SequenceAnomalyDetector(2, **{**settings, "n_jobs": n}).fit(X) for n in (1, 2))
    np.testing.assert_array_equal(one.score_samples(X), two.score_samples(X))
    assert one.offset_ == two.offset_


def test_table_warm_start_and_partial_fit() -> None:
    table = np.stack([x[:30, 0] for x in X])
    detector = SequenceAnomalyDetector(warm_start=True, **QUICK).fit(table)
    assert detector.n_features_in_ == 30
    assert detector.score_steps(table).shape == (12, 30)
    before = detector.loss_
    assert detector.fit(table).n_iter_ == 30
    assert detector.loss_ < before
    with pytest.raises(ValueError, match="horizon=2, but the model to go on with has 1"):
        detector.set_params(horizon=2).fit(table)
    fresh = SequenceAnomalyDetector(**QUICK).partial_fit(X)
    fresh.partial_fit(X)
    assert fresh.n_iter_ == 2
    assert fresh.predict(X).min() == 1
    with pytest.raises(ValueError, match="early_stopping"):
        clone(fresh).set_params(early_stopping=True).partial_fit(X)


@pytest.mark.parametrize("loss", LOSSES)
def test_file(loss: str, tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    detector = SequenceAnomalyDetector(2, loss=loss, aggregation="mean", contamination=0.1, **QUICK).fit(X)
    detector.save(path)
    loaded = lstmcore.load(path)
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    assert (loaded.offset_, loaded.step_offset_) == (detector.offset_, detector.step_offset_)
    assert loaded.get_params() == detector.get_params()
    model = lstmcore.load_model(path)
    assert isinstance(model, DetectorModel)
    np.testing.assert_array_equal(model.predict(X), detector.predict(X))
    np.testing.assert_array_equal(model.score_samples(X), detector.score_samples(X))
    np.testing.assert_array_equal(model.predict_steps(X)[0], detector.predict_steps(X)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, f: c.update(outputs=3), "outputs"),
        (lambda c, f: c.update(horizon=0), "horizon"),
        (lambda c, f: c.update(horizon=2**40), "horizon"),
        (lambda c, f: c.update(horizon=True), "horizon"),
        (lambda c, f: c.update(loss="huber"), "loss"),
        (lambda c, f: c.update(aggregation=["max"]), "aggregation"),
        (lambda c, f: c.update(bidirectional=True), "bidirectional"),
        (lambda c, f: c.pop("loss"), "config"),
        (lambda c, f: f["fitted"].update(table=1), "table"),
        (lambda c, f: f["fitted"].update(n_features_in_=7), "feature"),
        (lambda c, f: f["fitted"]["architecture"].update(horizon=5), "horizon"),
        (lambda c, f: f["fitted"].pop("architecture"), "architecture"),
        (lambda c, f: f["parameters"].update(contamination=2.0), "contamination"),
    ],
)
def test_hostile_file(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    SequenceAnomalyDetector(**QUICK).fit(X).save(path)
    tensors, texts = _core.read_tensors(str(path))
    documents = {name: json.loads(texts[name]) for name in ("network", "estimator")}
    change(documents["network"]["config"], documents["estimator"])
    _core.write_tensors(str(path), tensors, {**texts, **{k: json.dumps(v) for k, v in documents.items()}})
    with pytest.raises(ModelFileError, match=message):
        lstmcore.load(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("offset", np.zeros(2), "offset"),
        ("error_factor", np.zeros((2, 2)), "test vector"),
        ("error_factor", np.eye(3), "error_factor"),
        ("start_scale", np.zeros(START), "test vector"),
        ("mean", None, "mean"),
    ],
)
def test_hostile_tensors(name: str, value: Array | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    SequenceAnomalyDetector(**QUICK).fit(X).save(path)
    tensors, texts = _core.read_tensors(str(path))
    del tensors[name]
    _core.write_tensors(str(path), tensors if value is None else {**tensors, name: value}, texts)
    with np.errstate(all="ignore"), pytest.raises(ModelFileError, match=message):
        lstmcore.load(path)


@pytest.mark.parametrize("loss", LOSSES)
def test_quantize(loss: str) -> None:
    detector = SequenceAnomalyDetector(2, loss=loss, **{**QUICK, "max_iter": 40}).fit(X)
    network: Any = detector.model_.network
    x = X[0]
    scores = network._forward(network.read([x], "X", "float64"), 0, training=False).scores[0]
    each = scores.reshape(len(x), 2, 2, -1)
    expected = each[..., 0] / network.constants["scale"] + network.constants["mean"]
    # The engine's model reads x(t) where the network reads x(t − 1).
    before = np.concatenate([network.constants["mean"][None], x[:-1]])
    found = network.core_model().predict(before[None])[0].reshape(each.shape)
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-10)
    if loss == "gaussian":
        np.testing.assert_allclose(found[..., 1], each[..., 1], rtol=1e-10)
    exact = detector.quantize(scheme="float32").outputs([before])[0].reshape(each.shape)
    np.testing.assert_allclose(exact[..., 0], expected, atol=1e-4)
    coarse = detector.quantize(X).outputs([before])[0].reshape(each.shape)
    np.testing.assert_allclose(coarse[..., 0], expected, atol=0.2)
    with pytest.raises(ValueError, match="X_calibration"):
        detector.quantize()


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    detector = SequenceAnomalyDetector(step_contamination=0.1, **QUICK).fit(X)
    series, score = detector.plot(X, sequence=2, feature=1)
    marked = int((detector.predict_steps([X[2]])[0] == -1).sum())
    assert marked > 0
    np.testing.assert_array_equal(series.lines[0].get_ydata(), X[2][:, 1])
    assert len(series.lines[1].get_ydata()) == marked
    assert score.lines[1].get_ydata()[0] == -detector.step_offset_
    series.figure.savefig(tmp_path / "anomalies.png")
    with pytest.raises(ValueError, match="sequence=12: expected 0 to 11"):
        detector.plot(X, sequence=12)
    with pytest.raises(ValueError, match="two axes"):
        detector.plot(X, ax=[series])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "X is empty"),
        (None, "X: expected sequences"),
        ([["a", "b"]], "X holds text"),
        (np.arange(5.0), r"one series of 5 steps\? Pass it as a list of one, \[X\]"),
        ([1.0, 2.0], "one series of 2 steps"),
        ("text", "X: expected sequences"),
        ([[1.0, np.nan, 2.0], [1.0]], r"X: sequence 0, step 1"),
        ([np.zeros((3, 2)), np.zeros((3, 1))], r"X\[1\] has 1 feature"),
        (np.zeros((2, 3, 4, 5)), "dimensions"),
    ],
)
def test_refuses_data(data: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        SequenceAnomalyDetector(**QUICK).fit(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("horizon", 0), ("horizon", 1.5), ("loss", "huber"), ("aggregation", "sum"), ("contamination", -0.1),
        ("contamination", 0.6), ("contamination", "some"), ("step_contamination", True), ("step_contamination", 1.1),
        ("bidirectional", True),
        ("pooling", "last"), ("class_weight", "balanced"), ("bptt_steps", 0), ("device", "tpu"),
    ],
)  # fmt: skip
def test_refuses_parameters(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        SequenceAnomalyDetector(**{**QUICK, name: value}).fit(X)


def test_other_refusals() -> None:
    detector = SequenceAnomalyDetector(**QUICK)
    with pytest.raises(NotFittedError):
        detector.score_samples(X)
    with pytest.raises(ValueError, match="cannot hold out a part of one sequence"):
        SequenceAnomalyDetector(early_stopping=True, **QUICK).fit(X[:1])
    with pytest.raises(NotImplementedError, match="cuda"):
        SequenceAnomalyDetector(device="cuda", **QUICK).fit(X)
    detector.fit(X)
    with pytest.raises(ValueError, match="3 features, but SequenceAnomalyDetector is expecting 2"):
        detector.predict([np.zeros((4, 3))])
    with pytest.raises(ValueError, match="eval_set"):
        SequenceAnomalyDetector(**QUICK).fit(X, eval_set=[np.zeros((4, 3))])
    with pytest.raises(ValueError, match="sample_weight"):
        detector.fit(X, sample_weight=[1.0])
    with pytest.raises(NotFittedError):
        detector.predict(X)  # a fit that failed leaves no model of other data behind


def test_short_and_constant_sequences() -> None:
    tiny = SequenceAnomalyDetector(5, **QUICK).fit([[1.0], [2.0], [1.5]])
    assert np.isfinite(tiny.score_samples([[1.0], [9.0]])).all()
    still = SequenceAnomalyDetector(**QUICK).fit(np.ones((4, 20)))
    odd = np.ones((1, 20))
    odd[0, 10] = 2.0
    assert still.predict(np.ones((1, 20))).tolist() == [1]
    assert still.predict(odd).tolist() == [-1]
