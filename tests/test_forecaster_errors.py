"""What SequenceForecaster says to input that it cannot use, scikit-learn's checks, and the plot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import lstmcore
from lstmcore import ModelFileError, SequenceForecaster, backtest

QUICK: dict[str, Any] = {"hidden_size": 4, "max_iter": 2, "random_state": 0, "n_jobs": 1}
Y = np.sin(np.arange(60.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 0}, r"'horizon' parameter .* must be an int >= 1 \(how many steps ahead"),
        ({"horizon": 2.0}, "'horizon'"),
        ({"window": 0}, "'window'"),
        ({"season_length": 0}, "'season_length'"),
        ({"stride": 0}, "'stride'"),
        ({"strategy": "both"}, "'strategy'"),
        ({"scaling": "minmax"}, "'scaling'"),
        ({"loss": "mse"}, "'loss' .*'gaussian'"),
        ({"quantiles": (0.5, 0.1)}, "'quantiles'"),
        ({"quantiles": (10, 50)}, "'quantiles'"),
        ({"quantiles": ()}, "'quantiles'"),
        ({"class_weight": "balanced"}, "class_weight"),
        ({"strategy": "recursive", "loss": "quantile", "horizon": 2}, "Use strategy='direct', or loss='gaussian'"),
    ],
)
def test_parameters(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceForecaster(**QUICK | {"window": 8} | settings).fit(Y)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "X is empty.*Pass one series"),
        (np.zeros(0), "X is empty"),
        (3.0, "single number"),
        (Y[:9], r"the series has 9 steps, but training needs at least window=8 \+ 2 .* = 10\. Use a smaller window"),
        ([Y[:9], Y[:5]], "longest series has 9"),
        (np.where(np.arange(60) == 7, np.nan, Y), "sequence 0, step 7.*NaN"),
        (np.where(np.arange(60) > 50, np.nan, Y), "step 51 and all after it are NaN"),
        (np.where(np.arange(60) == 7, np.inf, Y), "infinity"),
        (["a"] * 60, "X holds text. Expected numbers"),
        ([Y, np.zeros((20, 2))], "feature"),
        (Y.astype(complex), "Complex"),
        (np.zeros((2, 3, 4, 5)), "4 dimensions"),
        ([Y, []], "no real step"),
    ],
)
def test_series(X: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        SequenceForecaster(8, 2, **QUICK).fit(X)


def test_frames_are_not_guessed_at() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": [0] * 30 + [1] * 30, "time": np.arange(60), "y": Y})
    with pytest.raises(ValueError, match=r"converters\.from_pandas"):
        SequenceForecaster(8, 2, **QUICK).fit(frame)
    series = lstmcore.converters.from_pandas(frame, id="id", time="time")
    assert SequenceForecaster(8, 2, **QUICK).fit(series).predict().shape == (2, 2)
    plain = SequenceForecaster(8, 2, **QUICK).fit(frame["y"])
    np.testing.assert_array_equal(plain.predict(), SequenceForecaster(8, 2, **QUICK).fit(Y).predict())
    assert SequenceForecaster(8, 2, **QUICK).fit(frame["y"], past=frame[["time"]]).predict().shape == (2,)


ONE = Y[:, None]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"past": ONE[:59]}, "past: series 0 has 59 steps. Expected 60"),
        ({"past": ONE[1:].repeat(2, 0)[:61]}, "past: series 0 has 61 steps"),
        ({"future": ONE[:59]}, "future: series 0 has 59 steps. Expected at least 60"),
        ({"future": np.where(ONE[5] == ONE, np.nan, ONE)}, "future.*step 5.*NaN"),
        ({"past": [ONE, ONE]}, "past has shape"),
        ({"past": "abc"}, "past"),
    ],
)
def test_inputs_of_fit(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceForecaster(8, 2, **QUICK).fit(Y, **inputs)


def test_inputs_of_predict() -> None:
    rows = np.random.default_rng(0).standard_normal((62, 3))
    forecaster = SequenceForecaster(8, 2, **QUICK).fit(Y, past=rows[:60, :2], future=rows[:60])
    for kinds, message in (
        ({"past": rows[:60, :2], "future": rows[:61]}, r"future: series 0 has 61 steps\. Expected 62"),
        ({"past": rows[:60, :2], "future": np.vstack([rows, rows[:1]])}, "future: series 0 has 63 steps"),
        ({"past": rows[:60, :1], "future": rows}, "past has 1 columns, but SequenceForecaster is expecting 2"),
        ({"past": rows[:60, :2], "future": rows[:, :2]}, "future has 2 columns, .* expecting 3"),
        ({"past": rows[:60, :2]}, "future has 0 columns"),
    ):
        with pytest.raises(ValueError, match=message):
            forecaster.predict(Y, **kinds)
    for kinds, message in (
        ({}, r"future: 0 step\(s\) after the end of series 0 are known, but horizon=2"),
        ({"future": rows[:3]}, "future: 3 rows for series 0. Without X, expected 2"),
        ({"future": rows[:2, :1]}, "future has 1 columns"),
        ({"past": rows[:60, :2]}, "without X"),
    ):
        with pytest.raises(ValueError, match=message):
            forecaster.predict(None, **kinds)
    with pytest.raises(ValueError, match="past inputs are not known"):
        SequenceForecaster(8, 2, strategy="recursive", **QUICK).fit(Y, past=rows[:60])


def test_series_of_predict() -> None:
    forecaster = SequenceForecaster(8, 2, season_length=3, **QUICK)
    with pytest.raises(ValueError, match="not fitted"):
        forecaster.predict()
    forecaster.fit(Y)
    with pytest.raises(ValueError, match=r"series 0 has 10 steps, .* window=8 \+ season_length=3 = 11"):
        forecaster.predict(Y[:10])
    with pytest.raises(ValueError, match="X has 2 features, but SequenceForecaster is expecting 1"):
        forecaster.predict(np.zeros((1, 20, 2)))
    with pytest.raises(ValueError, match="X has 2 series, but 1 were fitted"):
        forecaster.update([Y, Y])
    with pytest.raises(ValueError, match="horizon=2"):
        forecaster.fit(Y, Y[:3])
    with pytest.raises(ValueError, match=r"x has shape \(1, 2\)"):
        forecaster.step([1.0, 2.0])
    with pytest.raises(ValueError, match="NaN"):
        forecaster.step(np.nan)
    with pytest.raises(ValueError, match="eval_set must be"):
        forecaster.fit(Y, eval_set=Y)
    with pytest.raises(ValueError, match="sample_weight"):
        forecaster.fit(Y, sample_weight=np.ones(60))
    with pytest.raises(ValueError, match="cannot hold out the last windows"):
        forecaster.set_params(early_stopping=True).fit(Y[:14])
    with pytest.raises(ValueError, match="n_origins"):
        backtest(forecaster, Y, n_origins=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layout", [8, 2, "standard", 0, 2, 0, 0]),
        ("layout", [-8, 2, "standard", 0, 1, 0, 0]),
        ("layout", [8, 2, "other", 0, 1, 0, 0]),
        ("layout", "standard"),
        ("horizon", 3),
        ("decoding", ["gaussian", []]),
        ("decoding", None),
        ("context", []),
        ("context", [[[[1.0]], [], []]]),
        ("context", [[[["a"]], [[]], [[]]]]),
        ("inputs", [[1.0], [1.0]]),
        ("single", 1),
    ],
)
def test_damaged_files(key: str, value: Any, tmp_path: Path) -> None:
    forecaster = SequenceForecaster(8, 2, **QUICK).fit(Y)
    path = tmp_path / "f.safetensors"
    forecaster.save(path)
    document = json.loads(lstmcore.load_model(path).metadata["estimator"])
    document["fitted"][key] = value
    forecaster.model_.save(path, {"estimator": json.dumps(document)})
    with pytest.raises(ModelFileError, match=r"windows of a SequenceForecaster|number|inhomogeneous|reshape|convert"):
        lstmcore.load(path)


def test_plot() -> None:
    pytest.importorskip("matplotlib")
    forecaster = SequenceForecaster(8, 3, loss="gaussian", **QUICK).fit(Y)
    axes = forecaster.plot_forecast(actual=Y[:3])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["0.1 to 0.9 quantile", "observed", "forecast", "what came"]
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["observed"][:, 1], Y[-8:])
    np.testing.assert_array_equal(lines["forecast"][1:, 1], forecaster.predict())
    np.testing.assert_array_equal(lines["forecast"][0], lines["observed"][-1])
    np.testing.assert_array_equal(lines["what came"][:, 0], lines["forecast"][1:, 0])
    assert len(axes.collections) == 1
    panel = SequenceForecaster(8, 3, **QUICK).fit(np.stack([Y, 2 * Y]))
    shown = lstmcore.plotting.plot_forecast(panel, np.stack([Y, 2 * Y]), series=1)
    np.testing.assert_array_equal(shown.get_lines()[0].get_ydata(), 2 * Y)
    assert not shown.collections
    with pytest.raises(ValueError, match="series=2"):
        lstmcore.plotting.plot_forecast(panel, series=2)
    with pytest.raises(ValueError, match="coverage"):
        lstmcore.plotting.plot_forecast(panel, coverage=0.5)


SERIES = "a row of X is a series, which may grow: its number of steps is not fixed by fit"
SKLEARN = SequenceForecaster(
    1, 1, hidden_size=4, max_iter=20, n_jobs=1, precision="float64", batch_size=1000, scaling="none"
)


def expected_failures(estimator: Any) -> dict[str, str]:
    """Check → why it cannot pass."""
    return {
        "check_n_features_in": SERIES,
        "check_n_features_in_after_fitting": SERIES,
        "check_fit2d_predict1d": "a 1-D X is one series",
        "check_sample_weights_pandas_series": "a frame does not say whether its rows or its columns are series",
    }


@parametrize_with_checks([SKLEARN], expected_failed_checks=expected_failures)
def test_sklearn_check(estimator: Any, check: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)
