"""Calibrated intervals of SequenceForecaster: what is corrected, from which windows, and that it covers better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
import lstmcore
from lstmcore import ModelFileError, SequenceForecaster
from lstmcore._windows import cut_windows, read_panel
from lstmcore.forecasting.calibration import corrections

QUICK: dict[str, Any] = {
    "hidden_size": 8, "max_iter": 15, "learning_rate_init": 0.02, "random_state": 0, "n_jobs": 1,
}  # fmt: skip
# Whose intervals are far too narrow: many units, many epochs, few windows.
OVERFITTED: dict[str, Any] = {**QUICK, "hidden_size": 32, "max_iter": 150, "n_iter_no_change": None}


def noise(steps: int = 120, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(steps) / 3.0) + rng.normal(0, 0.5, steps)


def covered(forecaster: SequenceForecaster, coverage: float) -> float:
    """On other series of the kind."""
    shares = []
    for seed in range(1, 13):
        y = noise(80, seed)
        for end in range(forecaster.layout_.history, 80 - forecaster.horizon_, 7):
            low, high = forecaster.predict_interval(y[:end], coverage).T
            came = y[end : end + forecaster.horizon_]
            shares.append(((low <= came) & (came <= high)).mean())
    return float(np.mean(shares))


@pytest.mark.parametrize(
    "options",
    [{"loss": "gaussian"}, {"loss": "quantile", "quantiles": (0.1, 0.5, 0.9)}, {"loss": "gaussian", "horizon": 1}],
    ids=["gaussian", "quantile", "one step"],
)
def test_intervals_cover_what_they_say(options: dict[str, Any]) -> None:
    settings = {"horizon": 4, "validation_fraction": 0.3, **OVERFITTED, **options}
    plain = SequenceForecaster(12, **settings).fit(noise(200))
    assert covered(plain, 0.8) < 0.3
    # Of one network the factor comes from few windows: 0.74 to 0.95 over six seeds.
    shares = []
    for seed in range(6):
        calibrated = SequenceForecaster(12, calibrate=True, **{**settings, "random_state": seed}).fit(noise(200))
        shares.append(covered(calibrated, 0.8))
    assert 0.72 < np.mean(shares) < 0.92


def test_the_network_is_that_without_calibration() -> None:
    settings = {"horizon": 3, "loss": "gaussian", **QUICK}
    plain = SequenceForecaster(12, **settings).fit(noise())
    calibrated = SequenceForecaster(12, calibrate=True, **settings).fit(noise())
    np.testing.assert_array_equal(calibrated.predict(), plain.predict())
    ratio = np.diff(calibrated.predict_interval(), axis=1) / np.diff(plain.predict_interval(), axis=1)
    np.testing.assert_allclose(ratio, calibrated._correction, rtol=1e-10)
    assert calibrated._correction.shape == (3, 1)
    assert plain._correction is None


def test_factors_are_those_of_the_held_out_windows() -> None:
    """By hand: a network on the windows before, z of those after."""
    settings = {"horizon": 2, "loss": "gaussian", "scaling": "none", "validation_fraction": 0.25, **QUICK}
    y = noise(100)
    calibrated = SequenceForecaster(12, calibrate=True, **settings).fit(y)
    # 87 windows of 14 steps, the last 22 held out: forecasts from origins 76 to 97. Before: origins up to 76 - 2.
    earlier = SequenceForecaster(12, **settings).fit(y[: 74 + 2 + 1])
    z = []
    for origin in range(76, 98):
        known, came = y[: origin + 1], y[origin + 1 : origin + 3]
        mean = earlier.predict(known)
        high = earlier.predict_quantiles(known, [0.975])[:, 0]
        z.append((came - mean) / ((high - mean) / 1.959963984540054))
    np.testing.assert_allclose(calibrated._correction[:, 0], np.sqrt(np.mean(np.square(z), axis=0)), rtol=1e-5)


def test_quantiles_are_shifted_to_their_share() -> None:
    rng = np.random.default_rng(0)
    values, truth = np.zeros((101, 2, 1, 2)), rng.normal(size=(101, 2, 1))
    shifts = corrections(values, None, truth, (0.1, 0.9))
    below = (truth <= shifts).mean(axis=0)
    np.testing.assert_allclose(below, [[11 / 101, 91 / 101]] * 2, atol=1e-12)


def test_no_error_says_nothing() -> None:
    assert corrections(np.ones((3, 2, 1, 1)), np.ones((3, 2, 1)), np.ones((3, 2, 1)), ()).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("options", [{"early_stopping": True}, {}], ids=["early stopping", "eval_set"])
def test_windows_that_are_held_out_anyway(options: dict[str, Any]) -> None:
    """No second network: the factors are those of this one."""
    forecaster = SequenceForecaster(12, horizon=2, loss="gaussian", calibrate=True, **QUICK, **options)
    y, other = noise(), noise(60, seed=9)
    forecaster.fit(y, eval_set=None if options else (other, None))
    factors, forecaster._correction = forecaster._correction, None
    windows = cut_windows(read_panel(y if options else other), forecaster.layout_, 1, "float32")
    rows = slice(-round(0.1 * len(windows.targets)), None) if options else slice(None)
    values, deviation = forecaster._decoded(forecaster._outputs_of(windows.x))
    z = (windows.targets.reshape(values.shape[:3]) - values[..., 0])[rows] / deviation[rows]
    np.testing.assert_allclose(factors[:, 0], np.sqrt(np.square(z).mean(axis=(0, 2))), rtol=1e-10)


def test_recursion_several_targets_and_weights() -> None:
    X = np.stack([np.stack([noise(80, seed), noise(80, seed + 7)], axis=1) for seed in range(3)])
    options = {"horizon": 3, "strategy": "recursive", "loss": "gaussian", "calibrate": True, **QUICK}
    forecaster = SequenceForecaster(12, **options).fit(X, sample_weight=[1.0, 1.0, 0.0])
    assert forecaster._correction.shape == (1, 1)
    assert forecaster.predict_interval().shape == (3, 3, 2, 2)


def test_files(tmp_path: Path) -> None:
    for loss in ("gaussian", "quantile"):
        saved = SequenceForecaster(12, horizon=2, loss=loss, calibrate=True, **QUICK).fit(noise())
        saved.save(tmp_path / "f.safetensors")
        loaded = lstmcore.load(tmp_path / "f.safetensors")
        np.testing.assert_array_equal(loaded.predict_interval(), saved.predict_interval())
        for wrong in (3, [[1.0]], [["x"], ["y"]], [[1.0, 1.0], [1.0, None]], {"a": 1}, [[-1.0], [-1.0]]):
            document = json.loads(loaded.model_.metadata["estimator"])
            document["fitted"]["correction"] = wrong
            saved.model_.save(tmp_path / "bad.safetensors", {"estimator": json.dumps(document)})
            with pytest.raises(ModelFileError):
                lstmcore.load(tmp_path / "bad.safetensors")


def test_refused() -> None:
    quick = {"loss": "gaussian", "calibrate": True, **QUICK}
    with pytest.raises(ValueError, match=r"calibrate=True: with loss='squared_error'.*Use loss='gaussian'"):
        SequenceForecaster(12, calibrate=True, **QUICK).fit(noise())
    with pytest.raises(ValueError, match="calibrate"):
        SequenceForecaster(12, **{**quick, "calibrate": "yes"}).fit(noise())
    with pytest.raises(ValueError, match="calibrate=True cannot hold out"):
        SequenceForecaster(12, horizon=8, **quick).fit(noise(24))
    fitted = SequenceForecaster(12, **quick).fit(noise())
    with pytest.raises(ValueError, match="calibrate=True holds out windows"):
        fitted.partial_fit(noise())
    with pytest.raises(ValueError, match="calibrate=True holds out windows"):
        fitted.set_params(warm_start=True).fit(noise())
    before = fitted._correction.copy()
    fitted.set_params(calibrate=False).partial_fit(noise())
    np.testing.assert_array_equal(fitted._correction, before)
