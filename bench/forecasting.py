"""SequenceForecaster beside seasonal naive forecasts and statsmodels' exponential smoothing, on real series.

The series are those that statsmodels carries: yearly sunspots, CO2 at Mauna Loa (monthly means), manufacture of
electrical equipment in the euro area (monthly), and quarterly US macroeconomic series. Every method forecasts from the
same rolling origins and is fitted anew at each on the steps before it. The error is the mean absolute scaled error
(Hyndman & Koehler, 2006); the scale is that of the seasonal naive forecast one step ahead before the first origin.

Exponential smoothing is chosen among all combinations of trend (none, additive, damped) and season (none, additive,
multiplicative) by AICc at each origin, as is usual (Hyndman et al., 2002). The network has one setting for all series.

    pip install "lstmcore[sklearn]" statsmodels
    python bench/forecasting.py                 # all series, a table in Markdown
    python bench/forecasting.py --validation    # the same on origins before those, on which the setting was chosen
    python bench/forecasting.py --intervals     # how often what came lay in intervals of 80 and 95 %, calibrated or not
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import lstmcore
from lstmcore import SequenceForecaster
from lstmcore._backtest import seasonal_naive

Array = NDArray[Any]
MACRO = ("realgdp", "realcons", "realinv", "realgovt", "realdpi", "cpi", "tbilrate", "unemp")


class Task(NamedTuple):
    name: str
    y: Array
    season: int
    horizon: int


def tasks() -> list[Task]:
    from statsmodels import datasets
    from statsmodels.datasets.elec_equip import data as elec_equip

    sunspots = datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()
    co2 = datasets.co2.load_pandas().data["co2"].resample("MS").mean().interpolate().to_numpy()
    equipment = elec_equip.load_pandas().data.iloc[:, -1].to_numpy(dtype=float)
    macro = datasets.macrodata.load_pandas().data
    # The macroeconomic series are seasonally adjusted: nothing repeats, and the naive forecast is the last value.
    return [
        Task("sunspots", sunspots, 11, 11),
        Task("co2", co2, 12, 12),
        Task("elec_equip", equipment, 12, 12),
        *(Task(name, macro[name].to_numpy(), 1, 8) for name in MACRO),
    ]


def settings(task: Task, seed: int) -> dict[str, Any]:
    return {
        "window": max(2 * task.season, 12),
        "horizon": task.horizon,
        "season_length": task.season,
        "scaling": "last",
        "cell": "gru",
        "hidden_size": 8,
        "loss": "absolute_error",
        "max_iter": 30,
        "learning_rate_init": 3e-3,
        "learning_rate": "cosine",
        "n_iter_no_change": None,
        "alpha": 1e-3,
        "n_jobs": 1,
        "random_state": seed,
    }


def network(task: Task, y: Array, seeds: int, **changes: Any) -> Array:
    """Mean of the forecasts of networks that differ in their seeds."""
    members = [SequenceForecaster(**(settings(task, seed) | changes)).fit(y).predict() for seed in range(seeds)]
    result: Array = np.mean(members, axis=0)
    return result


def smoothing(task: Task, y: Array) -> Array:
    """The exponential smoothing of lowest AICc."""
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    best, forecast = np.inf, None
    seasons = [None] if task.season == 1 else [None, "add", "mul"]
    for seasonal in seasons:
        if seasonal == "mul" and (y <= 0).any():
            continue
        for trend, damped in ((None, False), ("add", False), ("add", True)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit = ExponentialSmoothing(
                    y,
                    trend=trend,
                    damped_trend=damped,
                    seasonal=seasonal,
                    seasonal_periods=task.season if seasonal else None,
                    initialization_method="estimated",
                ).fit()
            ahead = np.asarray(fit.forecast(task.horizon))
            if np.isfinite(ahead).all() and fit.aicc < best:
                best, forecast = float(fit.aicc), ahead
    assert forecast is not None
    return forecast


def errors(task: Task, origins: int, skip: int, seeds: int, **changes: Any) -> dict[str, Any]:
    """MASE of each method over `origins` origins half a horizon apart, the last `skip` steps of the series unused."""
    y = task.y[: len(task.y) - skip]
    step = max(task.horizon // 2, 1)
    ends = [len(y) - task.horizon - step * k for k in range(origins - 1, -1, -1)]
    past = y[: ends[0]]
    scale = float(np.abs(past[task.season :] - past[: -task.season]).mean())
    methods = {
        "seasonal naive": lambda known: seasonal_naive(known, task.horizon, task.season),
        "exponential smoothing": lambda known: smoothing(task, known),
        "SequenceForecaster": lambda known: network(task, known, seeds, **changes),
    }
    result: dict[str, Any] = {}
    for name, method in methods.items():
        start = time.perf_counter()
        each = [np.abs(method(y[:end]) - y[end : end + task.horizon]).mean() / scale for end in ends]
        result[name] = float(np.mean(each))
        result[name + " seconds"] = time.perf_counter() - start
    return result


def coverages(task: Task, origins: int, **changes: Any) -> list[float]:
    """Share of what came that lay within intervals of 80 and of 95 %, over the origins of `errors`."""
    step = max(task.horizon // 2, 1)
    inside: list[Array] = []
    for end in (len(task.y) - task.horizon - step * k for k in range(origins)):
        forecaster = SequenceForecaster(**(settings(task, 0) | {"loss": "gaussian"} | changes)).fit(task.y[:end])
        bounds = [forecaster.predict_interval(coverage=coverage) for coverage in (0.8, 0.95)]
        came = task.y[end : end + task.horizon]
        inside.append(np.array([((low <= came) & (came <= high)).mean() for low, high in (b.T for b in bounds)]))
    return [float(value) for value in np.mean(inside, axis=0)]


def print_coverages(chosen: list[Task], origins: int) -> None:
    """Networks of `settings` with the Gaussian loss, trained for long and for less."""
    variants = [(30, False), (30, True), (200, False), (200, True)]
    titles = [f"{epochs} epochs{', calibrated' if calibrate else ''}" for epochs, calibrate in variants]
    print("| series | " + " | ".join(titles) + " |")
    print("|---" * (1 + len(variants)) + "|")
    rows = []
    for task in chosen:
        more = {"validation_fraction": 0.2}
        rows.append([coverages(task, origins, max_iter=e, calibrate=c, **more) for e, c in variants])
        print(f"| {task.name} | " + " | ".join(f"{a:.2f}, {b:.2f}" for a, b in rows[-1]) + " |", flush=True)
    print("| mean | " + " | ".join(f"{a:.2f}, {b:.2f}" for a, b in np.mean(rows, axis=0)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--origins", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5, help="networks whose forecasts are averaged")
    parser.add_argument("--series", nargs="*", default=None)
    parser.add_argument("--validation", action="store_true", help="on origins before those of the table")
    parser.add_argument("--intervals", action="store_true", help="coverage of intervals in place of errors")
    arguments = parser.parse_args()
    if arguments.intervals:
        chosen = [task for task in tasks() if not arguments.series or task.name in arguments.series]
        print_coverages(chosen, arguments.origins)
        return
    print(f"lstmcore {lstmcore.__version__}, {arguments.origins} origins, {arguments.seeds} networks averaged\n")
    print("| series | steps | season | ahead | seasonal naive | exponential smoothing | SequenceForecaster | s a fit |")
    print("|---|---|---|---|---|---|---|---|")
    for task in tasks():
        if arguments.series and task.name not in arguments.series:
            continue
        skip = (arguments.origins + 1) * max(task.horizon // 2, 1) if arguments.validation else 0
        found = errors(task, arguments.origins, skip, arguments.seeds)
        seconds = found["SequenceForecaster seconds"] / arguments.origins / arguments.seeds
        print(
            f"| {task.name} | {len(task.y)} | {task.season} | {task.horizon} | {found['seasonal naive']:.3f} | "
            f"{found['exponential smoothing']:.3f} | {found['SequenceForecaster']:.3f} | {seconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
