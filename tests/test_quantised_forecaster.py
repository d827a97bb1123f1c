"""Forecasters in integers: forecasts against those of the float network, recursion, streams, files, refusals."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
import lstmcore
from lstmcore import ModelFileError, QuantizedModel, SequenceForecaster, _core

QUICK: dict[str, Any] = {
    "hidden_size": 8, "max_iter": 10, "learning_rate_init": 0.02, "random_state": 0, "n_jobs": 1,
}  # fmt: skip


def wave(steps: int = 150, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 50.0 + 10.0 * np.sin(np.arange(steps) / 2.0) + rng.normal(0, 1.0, steps)


SETTINGS: dict[str, dict[str, Any]] = {
    "direct": {"horizon": 4},
    "recursive": {"horizon": 4, "strategy": "recursive"},
    "season": {"horizon": 4, "season_length": 6, "bidirectional": True, "pooling": "mean"},
    "quantile": {"horizon": 3, "loss": "quantile", "head_sizes": (6,)},
    "gaussian": {"horizon": 3, "loss": "gaussian", "strategy": "recursive", "cell": "gru"},
}


@pytest.mark.parametrize(("scheme", "worst"), [("float32", 1e-5), ("int8x16", 0.015), ("int8", 0.04)])
@pytest.mark.parametrize("name", SETTINGS)
def test_forecasts_stay(name: str, scheme: str, worst: float, tmp_path: Path) -> None:
    """In standard deviations of the series."""
    forecaster = SequenceForecaster(12, **{**QUICK, **SETTINGS[name]}).fit(wave())
    quantised = forecaster.quantize(wave(), scheme)
    assert isinstance(quantised, QuantizedModel)
    found, expected = quantised.predict(), forecaster.predict()
    assert found.shape == expected.shape
    assert 0.0 < np.abs(found - expected).max() / wave().std() < worst
    assert abs(quantised.score(wave(seed=1)) - forecaster.score(wave(seed=1))) < worst
    if forecaster.loss in ("quantile", "gaussian"):
        a, b = (model.predict_interval(coverage=0.8) for model in (quantised, forecaster))
        assert np.abs(a - b).max() / wave().std() < 2.5 * worst
    quantised.save(tmp_path / "q.safetensors")
    loaded = lstmcore.load(tmp_path / "q.safetensors")
    assert (repr(loaded), str(loaded.report_)) == (repr(quantised), str(quantised.report_))
    for one in (loaded, pickle.loads(pickle.dumps(quantised))):
        np.testing.assert_array_equal(one.predict(), found)
        np.testing.assert_array_equal(one.predict(wave(seed=3)), quantised.predict(wave(seed=3)))


def test_update_and_streams_leave_the_estimator_alone() -> None:
    forecaster = SequenceForecaster(12, horizon=4, **QUICK).fit(wave())
    quantised, before = forecaster.quantize(wave()), forecaster.predict()
    assert quantised.update([50.0, 55.0]) is quantised
    np.testing.assert_array_equal(forecaster.predict(), before)
    np.testing.assert_array_equal(quantised.predict(), quantised.predict(np.append(wave(), [50.0, 55.0])))
    state = None
    for value in wave(20, seed=4):
        forecast, state = quantised.step(value, state)
    np.testing.assert_array_equal(forecast, quantised.predict(wave(20, seed=4)))
    assert quantised.horizon_ == 4


def test_inputs() -> None:
    rng = np.random.default_rng(0)
    past, future = rng.normal(size=(150, 2)), rng.normal(size=(154, 1))
    forecaster = SequenceForecaster(12, horizon=4, **QUICK).fit(wave(), past=past, future=future)
    quantised = forecaster.quantize(wave(), past=past, future=future)
    np.testing.assert_allclose(quantised.predict(), forecaster.predict(), atol=0.04 * wave().std())
    with pytest.raises(ValueError, match="future has 0 columns"):
        forecaster.quantize(wave(), past=past)


def test_c(tmp_path: Path) -> None:
    """The files are those of the network; tests/test_edge_export.py runs such programs."""
    forecaster = SequenceForecaster(12, horizon=4, **QUICK).fit(wave())
    files = forecaster.quantize(wave()).export_c(tmp_path, "demand")
    assert {"demand.c", "demand.h"} <= {path.name for path in files}
    assert "#define DEMAND_OUTPUTS 4" in (tmp_path / "demand.h").read_text()


def test_refused() -> None:
    forecaster = SequenceForecaster(12, horizon=4, **QUICK).fit(wave())
    for call, message in (
        (lambda: forecaster.quantize(), "needs X_calibration, series as for fit"),
        (lambda: forecaster.quantize(wave(10)), "X_calibration: the series has 10 steps"),
        (lambda: forecaster.quantize(scheme="float32", past=wave()), "X_calibration, which is missing"),
        (lambda: forecaster.quantize(wave(), "int7"), "scheme='int7'"),
        (lambda: forecaster.quantize(np.zeros((4, 30, 2))), "2 features"),
        (lambda: SequenceForecaster(12, pooling="attention", **QUICK).fit(wave()).quantize(wave()), "pooling 'last'"),
        (lambda: SequenceForecaster().quantize(wave()), "not fitted"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(AttributeError, match="numbers"):
        forecaster.quantize(wave()).predict_proba(wave())


HOSTILE: dict[str, Any] = {
    "class": lambda d: d.update({"class": "SequenceRegressor"}),
    "class unknown": lambda d: d.update({"class": "os"}),
    "format": lambda d: d.update({"format": 7}),
    "parameters": lambda d: d.update({"parameters": []}),
    "horizon": lambda d: d["fitted"].update({"horizon": 9}),
    "layout": lambda d: d["fitted"].update({"layout": [12, 9, "standard", 0, 1, 0, 0]}),
    "context": lambda d: d["fitted"].update({"context": [[["x"], [], []]]}),
    "window": lambda d: d["parameters"].update({"window": -1}),
}


@pytest.mark.parametrize("what", [*HOSTILE, "no object", "missing"])
def test_hostile_files(what: str, tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    SequenceForecaster(12, horizon=4, **{**QUICK, "max_iter": 1}).fit(wave()).quantize(scheme="float32").save(path)
    tensors, texts = _core.read_tensors(path)
    document = json.loads(texts["quantized"])
    if what == "missing":
        del document["forecaster"]
    elif what == "no object":
        document["forecaster"] = 3
    else:
        HOSTILE[what](document["forecaster"])
    _core.write_tensors(path, tensors, {**texts, "quantized": json.dumps(document)})
    with pytest.raises(ModelFileError):
        lstmcore.load(path)
