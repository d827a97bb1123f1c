"""The sktime adapter by sktime's own checks, and the comparison on real series."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from lstmcore import SequenceForecaster

BENCH = Path(__file__).resolve().parent.parent / "bench" / "forecasting.py"


def test_sktime_checks() -> None:
    pytest.importorskip("sktime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of sktime's own code
        from sktime.utils.estimator_checks import check_estimator

        from lstmcore.sktime_adapter import SktimeForecaster

        results = check_estimator(SktimeForecaster, verbose=False)
    failed = {name: str(result) for name, result in results.items() if result != "PASSED"}
    assert len(results) > 100
    assert not failed


def test_adapter_forecasts_what_the_estimator_does() -> None:
    pytest.importorskip("sktime")
    pandas = pytest.importorskip("pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lstmcore.sktime_adapter import SktimeForecaster

        index = pandas.period_range("2010-01", periods=84, freq="M")
        y = pandas.Series(np.sin(np.arange(84.0)), index)
        X = pandas.DataFrame({"a": np.cos(np.arange(84.0))}, index)
        network = SequenceForecaster(12, hidden_size=4, max_iter=3, loss="gaussian", random_state=0, n_jobs=1)
        adapter = SktimeForecaster(network).fit(y[:72], X[:72], fh=[1, 3])
        plain = SequenceForecaster(**network.get_params() | {"horizon": 3})
        plain.fit(y[:72].to_numpy(), future=X[:72].to_numpy())
        expected = plain.predict(future=X[72:75].to_numpy())
        np.testing.assert_allclose(adapter.predict(X=X[72:75]), expected[[0, 2]], rtol=1e-6)
        band = adapter.predict_interval(X=X[72:75], coverage=0.8)
        np.testing.assert_allclose(band, plain.predict_interval(future=X[72:75].to_numpy())[[0, 2]], rtol=1e-6)
        adapter.update(y[72:80], X[72:80], update_params=False)
        plain.update(y[72:80].to_numpy(), future=X[72:83].to_numpy())
        np.testing.assert_allclose(adapter.predict(X=X[80:83]), plain.predict()[[0, 2]], rtol=1e-6)
        with pytest.raises(ValueError, match="Expected 3, one for each step ahead"):
            adapter.predict(X=X[80:82])


def test_the_comparison_runs() -> None:
    pytest.importorskip("statsmodels")
    command = [sys.executable, str(BENCH), "--series", "elec_equip", "--origins", "1", "--seeds", "1"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("| elec_equip | 257 | 12 | 12 | ")
