"""SequenceForecaster: windows, strategies, inputs, likelihoods, streams, backtests."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import lstmcore
from lstmcore import SequenceForecaster, _core, backtest
from lstmcore._windows import Layout, cut_windows, read_panel

QUICK: dict[str, Any] = {"hidden_size": 6, "max_iter": 4, "random_state": 0, "n_jobs": 1, "precision": "float64"}
RNG = np.random.default_rng(5)


def wave(T: int = 90, noise: float = 0.05, seed: int = 0) -> np.ndarray:
    t = np.arange(T)
    return 3.0 + 0.02 * t + np.sin(2 * np.pi * t / 12) + noise * np.random.default_rng(seed).standard_normal(T)


# ---- windows


@pytest.mark.parametrize("season", [0, 1, 4, 7])
@pytest.mark.parametrize("scaling", ["standard", "mean", "last", "none"])
def test_windows_hold_what_they_should(season: int, scaling: str) -> None:
    W, H, T = 5, 6, 24
    y = RNG.normal(2.0, 1.0, (T, 2))
    past, future = RNG.standard_normal((T, 1)), RNG.standard_normal((T, 3))
    layout = Layout(W, H, scaling, season, 2, 1, 3)
    windows = cut_windows(read_panel([y], [past], [future]), layout, 1, "float64")
    assert len(windows.origins) == T - (W + season) - H + 1
    for r, t in enumerate(windows.origins):
        recent = y[t - W + 1 : t + 1]
        level = {"standard": recent.mean(0), "last": y[t]}.get(scaling, np.zeros(2))
        scale = {"mean": np.abs(recent).mean(0), "none": np.ones(2)}.get(scaling, recent.std(0))
        x = windows.x.data[r]
        channels = [(recent - level) / scale]
        if season:
            channels.append((recent - y[t - W + 1 - season : t + 1 - season]) / scale)
        channels.append(past[t - W + 1 : t + 1])
        known = np.concatenate(channels, axis=1)
        np.testing.assert_allclose(x[:W, : known.shape[1]], known, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(x[W:, : known.shape[1]], 0.0)
        np.testing.assert_array_equal(x[:, known.shape[1] : -1], future[t - W + 1 : t + H + 1])
        np.testing.assert_array_equal(x[:, -1], [0.0] * W + [1.0] * H)
        for k in range(1, H + 1):
            base = level if not season else y[t + k - season * -(-k // season)]
            expected = (y[t + k] - base) / scale
            np.testing.assert_allclose(windows.targets[r].reshape(H, 2)[k - 1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("season", [0, 3])
@pytest.mark.parametrize("scaling", ["standard", "mean", "last", "none"])
def test_no_window_knows_the_future(season: int, scaling: str) -> None:
    y, past = RNG.standard_normal((30, 1)), RNG.standard_normal((30, 2))
    layout = Layout(4, 5, scaling, season, 1, 2, 0)
    before = cut_windows(read_panel([y], [past]), layout, 1, "float64")
    for cut in range(8, 25):
        changed, other = y.copy(), past.copy()
        changed[cut:] += 10.0 + RNG.standard_normal((30 - cut, 1))
        other[cut:] -= 7.0
        after = cut_windows(read_panel([changed], [other]), layout, 1, "float64")
        knows = before.origins < cut
        for field in ("location", "scale"):
            np.testing.assert_array_equal(getattr(before, field)[knows], getattr(after, field)[knows])
        np.testing.assert_array_equal(before.x.data[knows], after.x.data[knows])
        assert (before.x.data[~knows] != after.x.data[~knows]).any(axis=(1, 2)).all()


def test_forecasts_do_not_depend_on_what_comes_after() -> None:
    y = wave()
    forecaster = SequenceForecaster(12, 4, **QUICK).fit(y[:80])
    assert np.array_equal(forecaster.predict(), forecaster.predict(y[:80]))
    assert not np.array_equal(forecaster.predict(y[:79]), forecaster.predict(y[:80]))


def test_held_out_windows_come_last_and_do_not_overlap() -> None:
    forecaster = SequenceForecaster(6, 3, early_stopping=True, validation_fraction=0.2, **QUICK)
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    original = forecaster._split

    def split(*arguments: Any, **named: Any) -> Any:
        parts = original(*arguments, **named)
        seen.append(tuple(forecaster._training.origins[part] for part in parts))  # type: ignore[arg-type]
        return parts

    forecaster._split = split  # type: ignore[method-assign]
    forecaster.fit(wave(60))
    train, held_out = seen[0]
    assert held_out.max() == 60 - 3 - 1
    assert len(held_out) == round(0.2 * (60 - 6 - 3 + 1))
    assert train.max() + 3 <= held_out.min()  # the last training target is known at the first held-out origin
    assert train.max() + 3 == held_out.min()  # and nothing is wasted


def test_stride_keeps_the_last_window() -> None:
    panel = read_panel(wave(40))
    layout = Layout(6, 2, "none", 0, 1, 0, 0)
    every = cut_windows(panel, layout, 1, "float64").origins
    third = cut_windows(panel, layout, 3, "float64").origins
    np.testing.assert_array_equal(third, every[::-1][::3][::-1])


# ---- strategies, shapes


@pytest.mark.parametrize("season", [None, 12])
def test_recursive_is_direct_for_one_step(season: int | None) -> None:
    y, future = wave(), RNG.standard_normal((91, 2))
    direct, recursive = (
        SequenceForecaster(8, 1, strategy=s, season_length=season, **QUICK).fit(y, future=future[:90])
        for s in ("direct", "recursive")
    )
    np.testing.assert_array_equal(direct.predict(y, future=future), recursive.predict(y, future=future))


@pytest.mark.parametrize("season", [None, 3])
def test_recursion_reads_its_own_forecasts(season: int | None) -> None:
    y, future = wave(), RNG.standard_normal((95, 1))
    three = SequenceForecaster(8, 3, strategy="recursive", season_length=season, **QUICK).fit(y, future=future[:90])
    one = SequenceForecaster(8, 1, season_length=season, **QUICK).fit(y, future=future[:90])
    series, expected = y.copy(), []
    for k in range(3):
        expected.append(one.predict(series, future=future[: 91 + k])[0])
        series = np.append(series, expected[-1])
    np.testing.assert_allclose(three.predict(y, future=future[:93]), expected, rtol=1e-12)


def test_shapes_of_panels() -> None:
    y = wave()
    table = np.stack([y, 5 * y, y[::-1]])
    assert SequenceForecaster(6, 4, **QUICK).fit(y).predict().shape == (4,)
    forecaster = SequenceForecaster(6, 4, **QUICK).fit(table)
    assert forecaster.predict().shape == (3, 4)
    assert forecaster.predict(table[:2, :20]).shape == (2, 4)
    assert forecaster.predict(y).shape == (4,)
    ragged = SequenceForecaster(6, 4, **QUICK).fit([y, y[:30], y[:7]])
    assert ragged.predict().shape == (3, 4)
    two = SequenceForecaster(6, 4, loss="gaussian", **QUICK).fit(np.stack([table.T, table.T + 1])[:, :, :2])
    assert two.predict().shape == (2, 4, 2)
    assert two.predict_quantiles(quantiles=[0.2, 0.5]).shape == (2, 4, 2, 2)


@pytest.mark.parametrize("scaling", ["standard", "last"])
@pytest.mark.parametrize("season", [None, 12])
def test_forecasts_move_with_the_series(scaling: str, season: int | None) -> None:
    y = wave()
    forecaster = SequenceForecaster(12, 4, scaling=scaling, season_length=season, **QUICK).fit(y)
    np.testing.assert_allclose(forecaster.predict(100 + 7 * y), 100 + 7 * forecaster.predict(y), rtol=1e-10)


def test_targets_after_the_series_are_joined_to_it() -> None:
    y = wave()
    whole = SequenceForecaster(6, 4, **QUICK).fit(y)
    split = SequenceForecaster(6, 4, **QUICK).fit(y[:-4], y[-4:])
    np.testing.assert_array_equal(whole.predict(), split.predict())
    assert whole.score(y) == split.score(y[:-4], y[-4:])


# ---- inputs


def test_past_and_future_inputs_are_aligned() -> None:
    # What comes is the future input of the same step, and the past input of three steps before: one step off fails.
    rng = np.random.default_rng(1)
    T = 400
    known, seen = rng.standard_normal(T), rng.standard_normal(T)
    y = known + np.concatenate([np.zeros(3), seen[:-3]])
    settings = QUICK | {"max_iter": 60, "hidden_size": 16, "learning_rate_init": 1e-2, "scaling": "none"}
    forecaster = SequenceForecaster(6, 2, **settings).fit(y[:350], past=seen[:350], future=known[:350])
    errors, shifted = [], []
    for end in range(350, 398):
        kinds = {"past": seen[:end], "future": known[: end + 2]}
        errors.append(forecaster.predict(y[:end], **kinds) - y[end : end + 2])
        wrong = {"past": seen[:end], "future": np.roll(known, 1)[: end + 2]}
        shifted.append(forecaster.predict(y[:end], **wrong) - y[end : end + 2])
    assert np.std(errors) < 0.25 * np.std(y)
    assert np.std(shifted) > 0.7 * np.std(y)


def test_known_future_inputs_after_the_end() -> None:
    y, future = wave(), RNG.normal(100.0, 5.0, (96, 2))
    settings = {"window": 8, "horizon": 4, **QUICK}
    forecaster = SequenceForecaster(**settings).fit(y, future=future[:90])
    expected = forecaster.predict(y, future=future[:94])
    np.testing.assert_array_equal(forecaster.predict(future=future[90:94]), expected)
    np.testing.assert_array_equal(SequenceForecaster(**settings).fit(y, future=future).predict(), expected)
    assert not np.array_equal(forecaster.predict(future=future[91:95]), expected)


def test_inputs_are_standardised() -> None:
    y, past = wave(), RNG.standard_normal((90, 2))
    plain = SequenceForecaster(8, 2, **QUICK).fit(y, past=past).predict()
    moved = SequenceForecaster(8, 2, **QUICK).fit(y, past=1e4 + 300 * past).predict()
    np.testing.assert_allclose(moved, plain, rtol=1e-9)


# ---- likelihoods


def finite_differences(trainer: Any, model: Any, x: Any, y: np.ndarray, weights: Any, h: float = 1e-6) -> np.ndarray:
    w = model.get_weights()
    numeric = np.empty_like(w)
    for k in range(w.size):
        sides = []
        for step in (h, -h):
            moved = w.copy()
            moved[k] += step
            model.set_weights(moved)
            sides.append(trainer.gradient(x, y, weights)[0])
        numeric[k] = (sides[0] - sides[1]) / (2 * h)
    model.set_weights(w)
    return numeric


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["quantile", "gaussian"])
def test_gradients_of_likelihoods(loss: str, weighted: bool) -> None:
    rng = np.random.default_rng(2)
    recurrent = {"cell": "lstm", "input_size": 2, "hidden_size": 3, "dtype": "float64", "seed": 1}
    model = _core.Model({"recurrent": recurrent, "pooling": "last", "activation": "identity", "outputs": 6})
    model.set_preprocessing(np.zeros(2), np.ones(2), np.arange(6.0), np.linspace(0.5, 2, 6))
    x = _core.Sequences(rng.standard_normal((8, 5, 2)), dtype="float64")
    y = rng.normal(1.0, 2.0, (8, 6))
    weights = rng.uniform(0.5, 2.0, 8) if weighted else None
    levels = [0.1, 0.5, 0.8]
    trainer = _core.Trainer(model, {"loss": loss} | ({"quantiles": levels} if loss == "quantile" else {}))
    value, gradient = trainer.gradient(x, y, weights)
    flat = np.concatenate([part.ravel() for part in gradient.values()])
    numeric = finite_differences(trainer, model, x, y, weights)
    assert np.abs(flat - numeric).max() <= 1e-7 * np.abs(numeric).max()

    scale = np.linspace(0.5, 2, 6)
    scores = (model.predict(x) - np.arange(6.0)) * scale
    values = (y - np.arange(6.0)) * scale
    if loss == "quantile":
        error = values - scores
        tau = np.tile(levels, 2)
        each = np.maximum(tau * error, (tau - 1) * error).mean(axis=1)
    else:
        sigma = 1e-3 + np.log1p(np.exp(scores[:, 1::2]))
        z = (values[:, ::2] - scores[:, ::2]) / sigma
        each = (0.5 * z**2 + np.log(sigma) + 0.5 * np.log(2 * np.pi)).mean(axis=1)
    assert value == pytest.approx(np.average(each, weights=weights), rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "quantile"}, "quantiles"),
        ({"loss": "quantile", "quantiles": [0.5, 1.0]}, "quantiles"),
        ({"loss": "quantile", "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5]}, "divisor"),
        ({"loss": "squared", "quantiles": [0.5]}, "none with any loss but quantile"),
    ],
)
def test_core_refuses_quantiles(options: dict[str, Any], message: str) -> None:
    model = _core.Model(
        {"recurrent": {"cell": "lstm", "input_size": 2, "hidden_size": 3}, "pooling": "last", "outputs": 3,
         "activation": "identity"}
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        _core.Trainer(model, options)
    with pytest.raises(ValueError, match="even number of outputs"):
        _core.Trainer(model, {"loss": "gaussian"})
    with pytest.raises(TypeError, match="quantiles: expected a list"):
        _core.Trainer(model, {"loss": "quantile", "quantiles": 0.5})


def noise(T: int = 1500) -> np.ndarray:
    """Independent and skew, so that the quantiles are known and are not those of a normal distribution."""
    return np.random.default_rng(3).exponential(1.0, T)


FLAT: dict[str, Any] = QUICK | {"scaling": "none", "max_iter": 40, "hidden_size": 2, "learning_rate_init": 1e-2}


def test_quantile_loss_finds_the_quantiles() -> None:
    levels = (0.1, 0.5, 0.9)
    forecaster = SequenceForecaster(2, 2, loss="quantile", quantiles=levels, **FLAT).fit(noise())
    found = forecaster.predict_quantiles()
    np.testing.assert_allclose(found, np.tile(-np.log1p(-np.array(levels)), (2, 1)), atol=0.15)
    np.testing.assert_array_equal(forecaster.predict(), found[:, 1])
    np.testing.assert_array_equal(forecaster.predict_interval(coverage=0.8), found[:, [0, 2]])
    result = backtest(forecaster, noise(), n_origins=300, step=2, refit=False)
    np.testing.assert_allclose(result.coverage, levels, atol=0.05)
    assert result.quantile_loss < 0.4


@pytest.mark.parametrize("strategy", ["direct", "recursive"])
def test_gaussian_finds_mean_and_deviation(strategy: str) -> None:
    y = 20.0 + 5.0 * np.random.default_rng(4).standard_normal(1500)
    forecaster = SequenceForecaster(2, 3, loss="gaussian", strategy=strategy, **FLAT).fit(y)
    np.testing.assert_allclose(forecaster.predict(), 20.0, atol=1.0)
    low, high = forecaster.predict_interval(coverage=0.6827).T
    np.testing.assert_allclose((high - low) / 2, 5.0, rtol=0.15)


def test_sampled_paths_spread_as_errors_add_up() -> None:
    # A random walk: deviations grow with the root of the steps, which those of one step ahead do not show.
    y = np.random.default_rng(6).standard_normal(2000).cumsum()
    settings = QUICK | {"max_iter": 15, "season_length": 1, "scaling": "none", "hidden_size": 2}
    forecaster = SequenceForecaster(2, 9, loss="gaussian", strategy="recursive", **settings).fit(y)
    low, high = forecaster.predict_quantiles(quantiles=[0.1587, 0.8413], n_paths=4000).T
    np.testing.assert_allclose((high - low) / 2, np.sqrt(np.arange(1, 10)), rtol=0.2)


def test_means_have_no_interval() -> None:
    forecaster = SequenceForecaster(8, 2, **QUICK).fit(wave())
    with pytest.raises(ValueError, match="loss='quantile' or 'gaussian'"):
        forecaster.predict_interval()
    trained = SequenceForecaster(8, 2, loss="quantile", **QUICK).fit(wave())
    with pytest.raises(ValueError, match=r"level 0\.25 was not trained"):
        trained.predict_quantiles(quantiles=[0.25])
    with pytest.raises(ValueError, match="coverage"):
        trained.predict_interval(coverage=80)


# ---- streams, files


@pytest.mark.parametrize("inputs", [False, True])
def test_stepping_equals_predicting(inputs: bool) -> None:
    y, past, future = wave(), RNG.standard_normal((90, 1)), RNG.standard_normal((95, 2))
    kinds: dict[str, Any] = {"past": past, "future": future[:90]} if inputs else {}
    forecaster = SequenceForecaster(8, 4, season_length=5, **QUICK).fit(y, **kinds)
    state = None
    for t in range(40):
        kinds = {"past": past[t], "future": future[t : t + 5]} if inputs else {}
        forecast, state = forecaster.step(y[t], state, **kinds)
        if t < 8 + 5 - 1:
            assert forecast is None
            continue
        kinds = {"past": past[: t + 1], "future": future[: t + 5]} if inputs else {}
        np.testing.assert_allclose(forecast, forecaster.predict(y[: t + 1], **kinds), rtol=1e-12)
    assert state is not None
    assert len(state) == 1
    many, _ = SequenceForecaster(1, 2, **QUICK).fit(y).step([[1.0], [2.0]])
    assert many is not None
    assert many.shape == (2, 2)


def test_update_moves_on() -> None:
    y, past, future = wave(), RNG.standard_normal((90, 1)), RNG.standard_normal((95, 2))
    forecaster = SequenceForecaster(8, 4, season_length=12, **QUICK)
    forecaster.fit(y[:70], past=past[:70], future=future[:86])
    weights = forecaster.model_.core.get_weights()
    forecaster.update(y[70:71], past=past[70:71]).update(y[71:82], past=past[71:82])
    np.testing.assert_array_equal(forecaster.predict(), forecaster.predict(y[:82], past=past[:82], future=future[:86]))
    forecaster.update(y[82:], past=past[82:], future=future[82:94])
    np.testing.assert_array_equal(forecaster.predict(), forecaster.predict(y, past=past, future=future[:94]))
    np.testing.assert_array_equal(forecaster.model_.core.get_weights(), weights)
    with pytest.raises(ValueError, match=r"row\(s\) after the end"):
        forecaster.update(wave(8), past=past[:8])


@pytest.mark.parametrize("loss", ["huber", "quantile", "gaussian"])
def test_files_and_pickles(loss: str, tmp_path: Path) -> None:
    y, future = wave(), RNG.standard_normal((94, 1))
    forecaster = SequenceForecaster(8, 4, loss=loss, season_length=12, **QUICK).fit([y, y[:60]], future=[future] * 2)
    forecaster.save(tmp_path / "f.safetensors")
    loaded = lstmcore.load(tmp_path / "f.safetensors")
    for other in (loaded, pickle.loads(pickle.dumps(forecaster))):
        np.testing.assert_array_equal(other.predict(), forecaster.predict())
        assert other.get_params() == forecaster.get_params()
    np.testing.assert_array_equal(
        loaded.update([y[:2], y[:2]]).predict(future=[future[:4]] * 2),
        forecaster.update([y[:2], y[:2]]).predict(future=[future[:4]] * 2),
    )
    assert clone(forecaster).get_params() == forecaster.get_params()


def test_results_do_not_depend_on_threads() -> None:
    y = wave()
    one, two = (
        SequenceForecaster(12, 4, loss="gaussian", **QUICK | {"n_jobs": n}).fit(y).predict_interval() for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_warm_start_and_partial_fit() -> None:
    y = wave()
    forecaster = SequenceForecaster(12, 4, warm_start=True, **QUICK).fit(y)
    assert forecaster.fit(y).n_iter_ == 8
    with pytest.raises(ValueError, match="horizon=5, but the model to go on with has 4"):
        forecaster.set_params(horizon=5).fit(y)
    partial = SequenceForecaster(12, 4, **QUICK).partial_fit(y).partial_fit(y)
    assert partial.n_iter_ == 2


# ---- evaluation


def test_backtest_equals_forecasts_by_hand() -> None:
    y, future = wave(), RNG.standard_normal((90, 1))
    forecaster = SequenceForecaster(8, 3, **QUICK)
    result = backtest(forecaster, y, future=future, n_origins=2, step=5, season_length=12)
    np.testing.assert_array_equal(result.origins[:, 0], [81, 86])
    for b, end in enumerate((82, 87)):
        fitted = clone(forecaster).fit(y[:end], future=future[:end])
        np.testing.assert_array_equal(result.forecasts[b, 0, :, 0], fitted.predict(future=future[end : end + 3]))
        np.testing.assert_array_equal(result.actual[b, 0, :, 0], y[end : end + 3])
        np.testing.assert_array_equal(result.naive[b, 0, :, 0], y[end - 12 : end - 9])
    scale = np.abs(y[12:82] - y[:70]).mean()
    assert result.mase == pytest.approx(np.abs(result.forecasts - result.actual).mean() / scale)
    assert result.naive_mase == pytest.approx(np.abs(result.naive - result.actual).mean() / scale)
    assert result.mae_by_step.shape == (3,)
    with pytest.raises(ValueError, match="30 origins 5 step"):
        backtest(forecaster, y, n_origins=30, step=5)


def test_it_learns_a_season_and_a_trend() -> None:
    y = wave(240, noise=0.0)
    settings = QUICK | {"max_iter": 60, "hidden_size": 16}
    forecaster = SequenceForecaster(24, 12, **settings).fit(y[:228])
    assert np.abs(forecaster.predict() - y[228:]).max() < 0.15
    assert forecaster.score(y[180:]) > 0.98


def test_early_stopping_restores_the_best() -> None:
    forecaster = SequenceForecaster(12, 4, early_stopping=True, **QUICK | {"max_iter": 30}).fit(wave())
    assert forecaster.best_loss_ == min(forecaster.validation_loss_curve_)
    fitted = SequenceForecaster(12, 4, **QUICK).fit(wave(), eval_set=(wave(seed=1), None))
    assert len(fitted.validation_scores_) == 4
