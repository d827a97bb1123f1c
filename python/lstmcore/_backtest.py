"""How well a forecaster would have forecast the past: rolling origins, errors, baselines."""

# mypy: allow-untyped-calls
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._windows import Panel, read_panel

__all__ = ["Backtest", "backtest", "seasonal_naive"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Backtest:
    """What `backtest` found; shape letters: B origins, N series, I targets, Q quantiles."""

    origins: Array  #: (B, N) last step that each forecast knew, earliest first
    forecasts: Array  #: (B, N, horizon, I)
    actual: Array  #: (B, N, horizon, I) what came
    naive: Array  #: (B, N, horizon, I) the seasonal naive forecast
    scale: Array  #: (N, I) mean absolute error of that forecast one step ahead, on steps before the first forecast
    levels: tuple[float, ...]  #: of the quantiles, empty where there are none
    quantiles: Array | None  #: (B, N, horizon, I, Q)

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.abs(self.forecasts - self.actual).mean())

    @property
    def rmse(self) -> float:
        """Root of the mean squared error."""
        return float(np.sqrt(np.square(self.forecasts - self.actual).mean()))

    @property
    def mase(self) -> float:
        """Mean absolute scaled error (Hyndman & Koehler, 2006): comparable between series; NaN for constant ones."""
        return self._scaled(self.forecasts)

    @property
    def naive_mase(self) -> float:
        """The same of the seasonal naive forecast on the same steps: what is to be beaten."""
        return self._scaled(self.naive)

    @property
    def mae_by_step(self) -> Array:
        """(horizon,) mean absolute error of each step ahead."""
        result: Array = np.abs(self.forecasts - self.actual).mean(axis=(0, 1, 3))
        return result

    @property
    def coverage(self) -> Array:
        """(Q,) share of what came that lay at or below each quantile; near its level where they are right."""
        result: Array = (self.actual[..., None] <= self._known()).mean(axis=(0, 1, 2, 3))
        return result

    @property
    def quantile_loss(self) -> float:
        """Mean pinball loss over the quantiles (Koenker & Bassett, 1978)."""
        error = self.actual[..., None] - self._known()
        levels = np.array(self.levels)
        return float(np.maximum(levels * error, (levels - 1) * error).mean())

    def _known(self) -> Array:
        if self.quantiles is None:
            raise ValueError("this forecaster gives no quantiles. Use loss='quantile' or 'gaussian'.")
        return self.quantiles

    def _scaled(self, forecasts: Array) -> float:
        if not (self.scale > 0).all():
            return float("nan")
        return float((np.abs(forecasts - self.actual) / self.scale[:, None]).mean())


def seasonal_naive(y: Array, horizon: int, season_length: int = 1) -> Array:
    """The last season once more: (T, …) → (horizon, …). season_length=1 repeats the last value."""
    if season_length < 1 or len(y) < season_length:
        raise ValueError(f"season_length={season_length}: expected 1 to the series' {len(y)} steps.")
    result: Array = np.asarray(y)[len(y) - season_length + np.arange(horizon) % season_length]
    return result


def backtest(
    forecaster: Any,
    X: Any,
    *,
    past: Any = None,
    future: Any = None,
    n_origins: int = 10,
    step: int | None = None,
    refit: bool = True,
    season_length: int | None = None,
) -> Backtest:
    """Forecasts from rolling origins, each from the steps before it alone.

    Parameters
    ----------
    forecaster : SequenceForecaster
        With ``refit=True`` clones of it are fitted, else it must be fitted, on steps before the first origin if the
        errors are to be those of new data.
    X, past, future : as for `SequenceForecaster.fit`
        Whole series; the last forecast ends with their last step. Origins count from the end of each series.
    n_origins : int, default 10
        Forecasts of each series (B).
    step : int or None, default None
        Steps between origins. None: the horizon, so that every step is forecast once.
    refit : bool, default True
        Whether a fresh clone is fitted on the steps up to each origin.
    season_length : int or None
        Of the seasonal naive forecast. None: the forecaster's, or 1.

    Returns
    -------
    Backtest

    Raises
    ------
    ValueError
        Series too short for so many origins; the message says how many steps are needed.
    """
    from sklearn.base import clone

    if not isinstance(refit, (bool, np.bool_)):
        raise ValueError(f"refit must be True or False. Got {refit!r} instead.")
    horizon = int(forecaster.horizon if refit else forecaster.horizon_)
    step = horizon if step is None else step
    season = (forecaster.season_length or 1) if season_length is None else season_length
    for name, value in (("n_origins", n_origins), ("step", step), ("season_length", season)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be an int >= 1. Got {value!r} instead.")
    panel = read_panel(X, past, future)
    back = [horizon + step * k for k in range(n_origins - 1, -1, -1)]
    needed = back[0] + max(int(forecaster.window) + int(forecaster.season_length or 0), season + 1)
    needed += horizon if refit else 0
    for n, y in enumerate(panel.y):
        if len(y) < needed:
            raise ValueError(
                f"X: series {n} has {len(y)} steps, but {n_origins} origins {step} step(s) apart need {needed}. Use "
                "fewer, or a smaller step."
            )
    forecasts, quantiles = [], []
    levels: tuple[float, ...] = ()
    for steps in back:
        known, inputs = _until(panel, steps, horizon, past is not None, future is not None)
        model = clone(forecaster).fit(known, **_shortened(inputs, known)) if refit else forecaster
        forecasts.append(model.predict(known, **inputs))
        if model.loss in ("quantile", "gaussian"):
            levels = tuple(float(level) for level in model.quantiles)
            quantiles.append(model.predict_quantiles(known, levels, **inputs))
    N, I = len(panel.y), panel.y[0].shape[1]
    shape = (n_origins, N, horizon, I)
    ends = [[len(y) - steps for y in panel.y] for steps in back]
    actual = [[y[end : end + horizon] for y, end in zip(panel.y, row, strict=True)] for row in ends]
    naive = [[seasonal_naive(y[:end], horizon, season) for y, end in zip(panel.y, row, strict=True)] for row in ends]
    scale = [np.abs(y[season:end] - y[: end - season]).mean(axis=0) for y, end in zip(panel.y, ends[0], strict=True)]
    return Backtest(
        np.array(ends) - 1,
        np.array(forecasts).reshape(shape),
        np.array(actual),
        np.array(naive),
        np.array(scale),
        levels,
        np.array(quantiles).reshape(*shape, -1) if quantiles else None,
    )


def _until(panel: Panel, steps: int, horizon: int, past: bool, future: bool) -> tuple[list[Array], dict[str, Any]]:
    """Series without their last steps, and the inputs that `predict` takes with them."""
    ends = [len(y) - steps for y in panel.y]
    inputs: dict[str, Any] = {}
    if past:
        inputs["past"] = [x[:end] for x, end in zip(panel.past, ends, strict=True)]
    if future:
        inputs["future"] = [x[: end + horizon] for x, end in zip(panel.future, ends, strict=True)]
    return [y[:end] for y, end in zip(panel.y, ends, strict=True)], inputs


def _shortened(inputs: dict[str, Any], known: list[Array]) -> dict[str, Any]:
    """What `fit` may see: inputs of the known steps."""
    return {name: [x[: len(y)] for x, y in zip(items, known, strict=True)] for name, items in inputs.items()}
