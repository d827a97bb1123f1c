"""Epochs of the estimators: validation, early stopping, callbacks, progress, going on, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss

import lstmcore
from lstmcore import SequenceClassifier, SequenceRegressor
from sequences import FAST, last_value, ragged, three_classes, two_classes

X = ragged(90)
Y2, Y3, YR = two_classes(X), three_classes(X), last_value(X)
X_TEST = ragged(40, seed=1)
Estimator = Any
BOTH = [pytest.param(SequenceClassifier, Y3, id="classifier"), pytest.param(SequenceRegressor, YR, id="regressor")]


def weights_of(estimator: Estimator) -> np.ndarray:
    return estimator.model_.core.get_weights()


# --- validation, stopping, callbacks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "y"), BOTH)
def test_eval_set_is_only_watched_without_early_stopping(kind: Any, y: np.ndarray) -> None:
    y_test = three_classes(X_TEST) if kind is SequenceClassifier else last_value(X_TEST)
    plain = kind(**FAST).fit(X, y)
    watched = kind(**FAST).fit(X, y, eval_set=(X_TEST, y_test))
    np.testing.assert_array_equal(weights_of(plain), weights_of(watched))
    assert plain.validation_loss_curve_ is None
    assert plain.validation_scores_ is None
    assert len(watched.validation_loss_curve_) == len(watched.validation_scores_) == watched.n_iter_ == 12
    assert watched.validation_scores_[-1] == pytest.approx(watched.score(X_TEST, y_test), abs=1e-6)
    assert watched.best_validation_score_ == max(watched.validation_scores_)
    if kind is SequenceClassifier:
        expected = log_loss(y_test, watched.predict_proba(X_TEST))
    else:
        expected = np.mean(np.square((watched.predict(X_TEST) - y_test) / y.std()))
    assert watched.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("kind", "y"), BOTH)
def test_validation_in_pieces(kind: Any, y: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large validation sets are worked off in pieces, so that Ctrl-C is heard; the result must not show it."""
    y_test = three_classes(X_TEST) if kind is SequenceClassifier else last_value(X_TEST)
    eval_set = (X_TEST, y_test, np.r_[np.zeros(20), np.linspace(1, 2, 20)])
    settings = FAST | {"precision": "float64", "max_iter": 3}
    whole = kind(**settings).fit(X, y, eval_set=eval_set)
    monkeypatch.setattr(lstmcore._fitting.Validation, "_PIECE", 1.0)  # one sequence a piece
    pieces = kind(**settings).fit(X, y, eval_set=eval_set)
    np.testing.assert_allclose(pieces.validation_loss_curve_, whole.validation_loss_curve_, rtol=1e-12)
    np.testing.assert_allclose(pieces.validation_scores_, whole.validation_scores_, rtol=1e-12)


def test_early_stopping_restores_the_best_weights() -> None:
    rng = np.random.default_rng(0)
    noise = rng.choice(["a", "b"], size=len(X))  # nothing to learn: the validation loss must rise
    seen: list[np.ndarray] = []
    classifier = SequenceClassifier(**FAST | {"max_iter": 200, "n_iter_no_change": 6}, early_stopping=True)
    classifier.fit(
        X,
        noise,
        eval_set=(X_TEST, rng.choice(["a", "b"], size=40)),
        callbacks=lambda info: seen.append(weights_of(info.estimator)),
    )
    curve = classifier.validation_loss_curve_
    best = int(np.argmin(curve))
    assert len(curve) == classifier.n_iter_ == len(seen) < 200
    assert best < classifier.n_iter_ - 1
    np.testing.assert_array_equal(weights_of(classifier), seen[best])
    assert classifier.best_loss_ == curve[best]
    assert classifier.best_validation_score_ == classifier.validation_scores_[best]


@pytest.mark.parametrize(("kind", "y"), BOTH)
def test_early_stopping_holds_out_a_part(kind: Any, y: np.ndarray) -> None:
    estimator = kind(**FAST, early_stopping=True, validation_fraction=0.3).fit(X, y)
    assert len(estimator.validation_loss_curve_) == estimator.n_iter_
    # A score of 27 sequences is a multiple of 1/27, and those are standardised without.
    if kind is SequenceClassifier:
        scores = np.array(estimator.validation_scores_) * 27
        np.testing.assert_allclose(scores, scores.round(), atol=1e-9)
    steps = np.concatenate(X)
    assert not np.allclose(estimator.model_.core.preprocessing["input_mean"], steps.mean(axis=0), rtol=1e-6)


def test_early_stopping_on_too_few() -> None:
    with pytest.raises(
        ValueError, match=r"early_stopping=True cannot hold out validation_fraction=0.1 of 6 sequences.*eval_set"
    ):
        SequenceClassifier(**FAST, early_stopping=True).fit(X[:6], ["a", "b", "c"] * 2)


def test_training_loss_stops_training() -> None:
    stopped = SequenceClassifier(**FAST | {"max_iter": 500, "n_iter_no_change": 3}, tol=0.05).fit(X, Y2)
    assert stopped.n_iter_ < 100
    assert stopped.best_loss_ == min(stopped.loss_curve_)
    assert stopped.loss_ == stopped.loss_curve_[-1]
    full = SequenceClassifier(**FAST | {"max_iter": 30, "n_iter_no_change": None}, tol=10.0).fit(X, Y2)
    assert full.n_iter_ == 30


def test_slow_progress_is_progress() -> None:
    """Improvements below tol add up: a loss that keeps falling is not stale."""
    settings = FAST | {"max_iter": 40, "learning_rate_init": 2e-4, "n_iter_no_change": 8}
    classifier = SequenceClassifier(**settings, tol=2e-3).fit(X, Y2)
    falls = -np.diff(classifier.loss_curve_)
    assert np.median(falls) < 2e-3
    assert classifier.n_iter_ == 40


def test_callbacks() -> None:
    infos: list[Any] = []

    def stop_at_three(info: Any) -> bool:
        assert info.estimator.predict(X[:2]).shape == (2,)
        return bool(info.epoch == 3)

    classifier = SequenceClassifier(**FAST)
    classifier.fit(X, Y2, eval_set=[(X_TEST, two_classes(X_TEST))], callbacks=[infos.append, stop_at_three])
    assert [info.epoch for info in infos] == [1, 2, 3]
    assert [info.loss for info in infos] == classifier.loss_curve_
    assert [info.validation_loss for info in infos] == classifier.validation_loss_curve_
    assert [info.validation_score for info in infos] == classifier.validation_scores_
    assert isinstance(infos[0], lstmcore.EpochInfo)
    assert infos[0].estimator is classifier
    assert infos[0].n_epochs == 12
    assert infos[0].learning_rate == 2e-2
    with pytest.raises(TypeError, match=r"callbacks\[1\] must be callable"):
        classifier.fit(X, Y2, callbacks=[print, 3])
    with pytest.raises(TypeError, match="callbacks must be a callable or an iterable"):
        classifier.fit(X, Y2, callbacks=3)


def test_learning_rate_of_the_schedules() -> None:
    def rates(**settings: Any) -> list[float]:
        found: list[float] = []
        settings = FAST | {"max_iter": 6, "n_iter_no_change": None} | settings
        SequenceClassifier(**settings).fit(X, Y2, callbacks=lambda info: found.append(info.learning_rate))
        return found

    assert rates() == [0.02] * 6
    assert rates(learning_rate="step", schedule_every=2, schedule_factor=0.1) == pytest.approx(
        [0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002]
    )
    cosine = rates(learning_rate="cosine")
    assert cosine[0] == 0.02
    assert (np.diff(cosine) < 0).all()
    assert cosine[-1] < 0.005
    # tol makes every epoch one without progress.
    plateau = rates(learning_rate="plateau", schedule_every=2, tol=100.0)
    assert plateau[0] == 0.02
    assert plateau[-1] < 0.02


def test_bad_eval_sets() -> None:
    classifier = SequenceClassifier(**FAST)
    for eval_set, message in (
        (
            (X_TEST, np.array(["up"] * 39 + ["side"])),
            r"eval_set y contains the unknown label 'side' \(position 39\). Known",
        ),
        ((X_TEST, two_classes(X_TEST)[:-1]), "eval_set y has 39 entries, but eval_set X has 40 sequences"),
        (([x[:, :2] for x in X_TEST], two_classes(X_TEST)), "eval_set X has 2 features, but SequenceClassifier is exp"),
        ((X_TEST,), r"eval_set must be \(X, y\) or \(X, y, sample_weight\). Got 1 elements"),
        (7, "eval_set must be .* Got int"),
        ((X_TEST, two_classes(X_TEST), np.zeros(40)), "eval_set sample_weight: the weights are all zero"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier.fit(X, Y2, eval_set=eval_set)


def test_a_fit_that_fails_leaves_no_model_of_other_data() -> None:
    classifier = SequenceClassifier(**FAST | {"max_iter": 1}).fit(X, Y3)
    with pytest.raises(ValueError, match="hidden_size"):
        classifier.set_params(hidden_size=0).fit(X, Y2)
    assert classifier.predict(X).tolist()  # nothing had been touched
    with pytest.raises(ValueError, match="eval_set"):
        classifier.set_params(hidden_size=3).fit(X, Y2, eval_set=3)
    with pytest.raises(NotFittedError):
        classifier.predict(X)


def test_divergence_is_an_error() -> None:
    huge = [x * 1e30 for x in X]
    regressor = SequenceRegressor(
        **FAST | {"learning_rate_init": 1e30}, standardize=False, clip_norm=None, solver="sgd"
    )
    with pytest.raises(ValueError, match=r"Training diverged in epoch \d+.*learning_rate_init=1e\+30"):
        regressor.fit(huge, YR * 1e30)
    assert np.isfinite(weights_of(regressor)).all()


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    SequenceClassifier(**FAST, verbose=1).fit(X, Y2, eval_set=(X_TEST, two_classes(X_TEST)))
    error = capsys.readouterr().err
    assert "12/12" in error
    assert re.search(r"loss \d\.\d+, validation loss \d\.\d+, score \d\.\d+", error)


def test_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    SequenceClassifier(**FAST, verbose=2).fit(X, Y2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert re.fullmatch(r"SequenceClassifier: epoch 1/12, loss \d\.\d+, rate 0\.02, \d+\.\d+ s", lines[0])
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)  # as if it were not installed
    SequenceClassifier(**FAST, verbose=1).fit(X, Y2)
    assert len(capsys.readouterr().out.splitlines()) == 12
    SequenceClassifier(**FAST).fit(X, Y2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "y"), BOTH)
def test_warm_start(kind: Any, y: np.ndarray) -> None:
    estimator = kind(**FAST | {"max_iter": 4}, warm_start=True).fit(X, y)
    before = list(estimator.loss_curve_)
    model, preprocessing = estimator.model_, estimator.model_.core.preprocessing
    estimator.fit(X[:60], y[:60])
    assert estimator.model_ is model
    assert estimator.loss_curve_[:4] == before
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 8
    assert estimator.loss_curve_[4] < before[0]
    np.testing.assert_array_equal(estimator.model_.core.preprocessing["input_mean"], preprocessing["input_mean"])
    estimator.fit(X, y, eval_set=(X, y))
    assert np.isnan(estimator.validation_loss_curve_[:8]).all()
    assert np.isfinite(estimator.validation_loss_curve_[8:]).all()
    cold = estimator.set_params(warm_start=False).fit(X, y)
    assert cold.n_iter_ == 4
    assert cold.loss_curve_ == before


def test_warm_start_with_other_classes_or_layers() -> None:
    classifier = SequenceClassifier(**FAST | {"max_iter": 2}, warm_start=True).fit(X, Y3)
    with pytest.raises(ValueError, match="y contains the unknown label 40"):
        classifier.fit(X, Y3 + 10)
    for name, value in (("hidden_size", 5), ("pooling", "mean"), ("cell", "elman"), ("precision", "float64")):
        changed = SequenceClassifier(**FAST | {"max_iter": 2}, warm_start=True).fit(X, Y3).set_params(**{name: value})
        with pytest.raises(ValueError, match=rf"{name}=.*but the model to go on with has.*warm_start=False"):
            changed.fit(X, Y3)


def test_partial_fit_is_an_epoch_of_fit() -> None:
    whole = SequenceClassifier(**FAST | {"max_iter": 4}).fit(X, Y3)
    parts = SequenceClassifier(**FAST | {"max_iter": 4})
    for _ in range(4):
        parts.partial_fit(X, Y3, classes=[30, 20, 10])
    np.testing.assert_array_equal(weights_of(whole), weights_of(parts))
    assert parts.loss_curve_ == whole.loss_curve_
    regressor = SequenceRegressor(**FAST)
    for _ in range(3):
        regressor.partial_fit(X, YR)
    assert regressor.n_iter_ == 3


def test_partial_fit_with_some_of_the_classes() -> None:
    classifier = SequenceClassifier(**FAST).partial_fit(X[:30], np.full(30, 10), classes=[10, 20, 30])
    classifier.partial_fit(X, Y3)
    assert classifier.predict_proba(X).shape == (90, 3)
    with pytest.raises(ValueError, match="y contains the unknown label 5"):
        classifier.partial_fit(X, np.full(90, 5))
    with pytest.raises(ValueError, match=r"classes=.* are not those of the first call"):
        classifier.partial_fit(X, Y3, classes=[1, 2])
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        SequenceClassifier(**FAST).partial_fit(X, Y3)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        SequenceClassifier(**FAST, early_stopping=True).partial_fit(X, Y3, classes=[10, 20, 30])
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported for partial_fit"):
        SequenceClassifier(**FAST, class_weight="balanced").partial_fit(X, Y3, classes=[10, 20, 30])


def test_partial_fit_follows_set_params() -> None:
    one, two = (SequenceRegressor(**FAST).partial_fit(X, YR) for _ in range(2))
    one.partial_fit(X, YR)
    two.set_params(learning_rate_init=1e-5).partial_fit(X, YR)
    assert not np.array_equal(weights_of(one), weights_of(two))


# --- interruption -----------------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_what_was_learnt() -> None:
    rng = np.random.default_rng(0)
    long = rng.normal(size=(400, 200, 4))
    y = rng.integers(0, 2, size=400)
    classifier = SequenceClassifier(hidden_size=64, max_iter=10_000, n_iter_no_change=None, n_jobs=1, random_state=0)
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(1.0, interrupt)
    timer.start()
    with pytest.warns(UserWarning, match=r"Training was interrupted after \d+ of 10000 epochs"):
        classifier.fit(long, y)
    assert time.perf_counter() - sent[0] < 0.5  # 0.2 s promised; room for a machine that does other things too
    timer.join()
    assert classifier.predict(long[:5]).shape == (5,)
    assert classifier.n_iter_ == len(classifier.loss_curve_)
    classifier.set_params(max_iter=1, warm_start=True).fit(long[:20], y[:20])
    assert clone(classifier).get_params() == classifier.get_params()
