"""SequenceForecaster: how a series goes on."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from ._forecast_steps import ForecastStream, SteppingForecaster
from ._forecasting import FORECAST_RULES, normal_quantile, pooled_r2
from ._parameters import is_real, store
from ._windows import cut_windows

__all__ = ["ForecastStream", "SequenceForecaster"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SequenceForecaster")


class SequenceForecaster(SteppingForecaster):
    """Recurrent network that forecasts how series go on, with one network for all of them.

    The network reads the last `window` steps of a series, each window on its own scale, and gives the next `horizon`
    steps on that scale. Training takes every window of every series. Inputs from other series come in two kinds: past
    inputs, known up to the last step, and known-future inputs (calendar, price, plan), known for the steps ahead too.

    Parameters
    ----------
    window : int, default 24
        Steps that the network reads (W). Two seasons are a good start where there is one.
    horizon : int, default 1
        Steps that are forecast.
    strategy : {"direct", "recursive"}, default "direct"
        "direct": one network gives all steps ahead at once. "recursive": it gives the next one, which is read as if it
        had been observed to give the one after. With ``horizon=1`` they are the same.
    scaling : {"standard", "mean", "last", "none"}, default "standard"
        Scale of a window, of each target on its own: its mean and standard deviation; no shift and the mean of its
        absolute values (Salinas et al., 2020); its last value and its standard deviation; none.
    season_length : int or None, default None
        Steps of a season. The network then gives differences to the same step of the last season (to the seasonal naive
        forecast), and reads those of the past beside the values; a window needs one season more. 1: differences to the
        last value. None: differences to the window's mean or last value (`scaling`).
    stride : int, default 1
        Training takes every so many-th window of a series, counted from its last.
    cell, cell_options, hidden_size, num_layers, bidirectional, pooling, pooling_options, head_sizes, head_activation, \
head_dropout, dropout, recurrent_dropout, variational_dropout, zoneout_hidden, zoneout_cell, learn_initial_state
        The network, as of `SequenceRegressor`.
    loss : {"squared_error", "absolute_error", "huber", "quantile", "gaussian"}, default "squared_error"
        The first three as of `SequenceRegressor`, of errors on the scale of the window. "quantile": quantiles, by the
        pinball loss (Koenker & Bassett, 1978), not with ``strategy="recursive"``. "gaussian": mean and standard
        deviation of a normal distribution, by its likelihood (Nix & Weigend, 1994).
    huber_delta : float, default 1.0
        Of the loss "huber".
    quantiles : tuple of float in (0, 1), rising, default (0.1, 0.5, 0.9)
        Levels, for the loss "quantile"; `predict` gives the one nearest to 0.5.
    calibrate : bool, default False
        Whether predicted quantiles and deviations are corrected, for each step ahead, by what came in windows that were
        not trained on: those of `eval_set`, or those that `early_stopping` holds out, or else the last
        `validation_fraction` of each series, for which a second network is trained on the windows before them.
    solver, learning_rate_init, learning_rate, schedule_factor, schedule_every, momentum, nesterov, beta_1, beta_2, \
rho, epsilon, alpha, batch_size, max_iter, tol, n_iter_no_change, clip_norm, clip_value, max_norm, gradient_noise, \
bptt_steps, checkpoint_steps, warm_start, shuffle, random_state, verbose, n_jobs, device, precision
        Training, as of `SequenceRegressor`; a sequence there is a window here.
    early_stopping : bool, default False
        Whether the loss on held out windows decides when to stop, and the weights of its best epoch are restored. They
        are `eval_set` of `fit`, or else the last windows of each series, and windows whose horizon overlaps with theirs
        are not trained on.
    validation_fraction : float in (0, 1), default 0.1
        Part of each series' windows that is held out, for early stopping or `calibrate`.
    standardize : bool, default True
        Whether past and known-future inputs, what the network reads, and what it gives are shifted and scaled to mean 0
        and standard deviation 1 over the training windows.
    class_weight : None
        There are no classes.

    Attributes
    ----------
    model_ : lstmcore.model.Model
        The network of windows.
    layout_ : object
        What its windows are made of: window, horizon, season, targets, past, future.
    horizon_ : int
        Steps that are forecast.
    context_ : list of N
        The end of each series, from which `predict` goes on; `update` moves it.
    n_features_in_ : int
        Targets at each step (I).
    n_iter_, loss_, loss_curve_, validation_loss_curve_, validation_scores_, best_loss_, best_validation_score_
        As of `SequenceRegressor`; losses and R² are of errors on the scale of windows.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmcore import SequenceForecaster
    >>> t = np.arange(200)
    >>> series = 0.05 * t + np.sin(2 * np.pi * t / 12)
    >>> forecaster = SequenceForecaster(window=24, horizon=6, max_iter=20, random_state=0).fit(series)
    >>> forecaster.predict().shape
    (6,)
    """

    _rules = FORECAST_RULES

    def __init__(
        self,
        window: int = 24,
        horizon: int = 1,
        *,
        strategy: str = "direct",
        scaling: str = "standard",
        season_length: int | None = None,
        stride: int = 1,
        cell: str = "lstm",
        cell_options: dict[str, Any] | None = None,
        hidden_size: int = 32,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        pooling_options: dict[str, float] | None = None,
        head_sizes: Sequence[int] = (),
        head_activation: str = "selu",
        head_dropout: float = 0.0,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        variational_dropout: float = 0.0,
        zoneout_hidden: float = 0.0,
        zoneout_cell: float = 0.0,
        learn_initial_state: bool = False,
        loss: str = "squared_error",
        huber_delta: float = 1.0,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        calibrate: bool = False,
        solver: str = "adam",
        learning_rate_init: float = 5e-3,
        learning_rate: str = "constant",
        schedule_factor: float = 0.5,
        schedule_every: int = 10,
        momentum: float = 0.9,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        rho: float = 0.99,
        epsilon: float = 1e-8,
        alpha: float = 0.0,
        batch_size: int = 32,
        max_iter: int = 100,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = 10,
        clip_norm: float | None = 5.0,
        clip_value: float | None = None,
        max_norm: float | None = None,
        gradient_noise: float = 0.0,
        bptt_steps: int | None = None,
        checkpoint_steps: int | None = None,
        standardize: bool = True,
        class_weight: dict[Any, float] | str | None = None,
        warm_start: bool = False,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        n_jobs: int | None = None,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        store(self, locals())

    # --- fitting -----------------------------------------------------------------------------------------------------

    def fit(
        self: Self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        eval_set: Any = None,
        callbacks: Any = None,
        *,
        past: Any = None,
        future: Any = None,
    ) -> Self:
        """Trains on one or N series.

        Parameters
        ----------
        X : array or pandas Series (T,); array (N, T) or (N, T, I); or list of N arrays (T_i,) or (T_i, I)
            The series: one; N of them with one target; or with I targets, all of which are forecast. At least
            `window` (+ `season_length`) + `horizon` steps. A NaN tail of one of N series means that it is shorter; NaN
            elsewhere is an error. Frames in long format go through `lstmcore.converters.from_pandas`.
        y : array (horizon,), (N, horizon) or (N, horizon, I), or None
            Steps that follow each series; they are joined to its end. None: X is all there is.
        sample_weight : array-like (N,), default None
            Weight of each series in the loss, ≥ 0. None: all 1.
        eval_set : (X, y), or dict with "X" and some of "y", "past", "future"; default None
            Series on whose windows loss and R² are computed after every epoch.
        callbacks : callable or iterable of callables, default None
            As of `SequenceRegressor.fit`.
        past : array (T,) or (T, P) for one series; (N, T, P), or list of N arrays (T_i, P); default None
            Inputs that are known up to the last step of X (and y): one row a step.
        future : as past, with F columns; default None
            Inputs that are known ahead: at least as many rows as steps. Rows beyond the last step serve `predict`.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Data or parameters that cannot be used, or training that diverged; the message names the argument.
        """
        self._check_parameters()
        self._fit_windows(X, y, sample_weight, eval_set, callbacks, past, future, partial=False)
        return self

    def partial_fit(
        self: Self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        past: Any = None,
        future: Any = None,
    ) -> Self:
        """One pass over the windows of X, going on from the present weights; `predict` then goes on from these series.

        Arguments as for `fit`. ValueError with ``early_stopping=True``, or other sizes than in the first call.
        """
        self._check_parameters()
        self._fit_windows(X, y, sample_weight, None, None, past, future, partial=True)
        return self

    # --- forecasting -------------------------------------------------------------------------------------------------

    def predict(self, X: Any = None, *, past: Any = None, future: Any = None) -> Array:
        """The next `horizon` steps: means; for the loss "quantile" the level nearest to 0.5.

        Parameters
        ----------
        X : as for `fit`, or None
            Series to go on from. None: those of `fit` and `update`.
        past : as for `fit`
            Past inputs of X, one row a step.
        future : as for `fit`
            Known-future inputs: of X and the `horizon` steps after it; without X, of those steps alone, or None where
            `fit` or `update` got them.

        Returns
        -------
        ndarray, float64
            (N, horizon), with I > 1 targets (N, horizon, I); without the first axis where X is one series.
        """
        y, known, ahead, single = self._contexts(X, past, future)
        values, _ = self._forecast(y, known, ahead)
        return self._shaped(values[..., self._centre()], single)

    def predict_quantiles(
        self,
        X: Any = None,
        quantiles: Sequence[float] | None = None,
        *,
        past: Any = None,
        future: Any = None,
        n_paths: int = 400,
    ) -> Array:
        """Quantiles of the next `horizon` steps.

        Parameters
        ----------
        X, past, future
            As for `predict`.
        quantiles : sequence of float in (0, 1), or None
            Levels. For the loss "quantile" some of those that were trained; None: all of them. For "gaussian" any;
            None: the parameter `quantiles`.
        n_paths : int, default 400
            For "gaussian" with ``strategy="recursive"``: sampled futures whose quantiles are given; `random_state`
            decides on them.

        Returns
        -------
        ndarray
            As `predict`, with a last axis for the levels.

        Raises
        ------
        ValueError
            The loss gives no distribution, or not these levels.
        """
        check_is_fitted(self, "model_")
        kind, trained = self._fitted_decoding
        if kind == "point":
            raise ValueError("predict_quantiles: this network forecasts means. Fit with loss='quantile' or 'gaussian'.")
        levels = (trained or tuple(self.quantiles)) if quantiles is None else quantiles
        if not isinstance(levels, (tuple, list, np.ndarray)) or not len(levels) or not all(map(is_real, levels)):
            raise ValueError(f"quantiles: expected levels in (0, 1), such as (0.1, 0.9), or None. Got {levels!r}.")
        for level in levels:
            if kind == "quantile" and not any(abs(level - known) < 1e-9 for known in trained):
                raise ValueError(f"quantiles: level {level!r} was not trained, those are {trained}. Fit with it.")
            if not 0 < level < 1:
                raise ValueError(f"quantiles: level {level!r}. Expected levels in (0, 1).")
        if not (isinstance(n_paths, int) and n_paths >= 1):
            raise ValueError(f"n_paths must be an int >= 1. Got {n_paths!r} instead.")
        y, known, ahead, single = self._contexts(X, past, future)
        if kind == "quantile":
            values, _ = self._forecast(y, known, ahead)
            chosen = [int(np.argmin(np.abs(np.array(trained) - level))) for level in levels]
            return self._shaped(values[..., chosen], single)
        if self.layout_.horizon < self.horizon_:
            paths = self._paths(y, known, ahead, n_paths)
            return self._shaped(np.moveaxis(np.quantile(paths, levels, axis=0), 0, -1), single)
        mean, deviation = self._forecast(y, known, ahead)
        assert deviation is not None
        return self._shaped(mean + deviation[..., None] * [normal_quantile(level) for level in levels], single)

    def predict_interval(self, X: Any = None, coverage: float = 0.8, *, past: Any = None, future: Any = None) -> Array:
        """Central interval that holds the truth with this probability: `predict`'s shape and a last axis (low, high).

        coverage: in (0, 1); for the loss "quantile" its two levels, (1 ± coverage)/2, must have been trained. X, past
        and future as for `predict`.
        """
        if not (is_real(coverage) and 0 < coverage < 1):
            raise ValueError(f"coverage must be a float in (0, 1). Got {coverage!r} instead.")
        levels = (round(0.5 - coverage / 2, 9), round(0.5 + coverage / 2, 9))
        return self.predict_quantiles(X, levels, past=past, future=future)

    def score(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, *, past: Any = None, future: Any = None
    ) -> float:
        """R² of forecasts from every window of X (with y joined to it, as in `fit`), all series and steps together.

        sample_weight: (N,), of each series; the rest as for `fit`.
        """
        from ._validation import read_weights

        check_is_fitted(self, "model_")
        panel = self._read_panel(X, y, past, future)
        weights = read_weights(sample_weight, len(panel.y), "sample_weight")
        from dataclasses import replace

        windows = cut_windows(panel, replace(self.layout_, horizon=self.horizon_), 1, self.model_.dtype)
        history = self.layout_.history
        truth, guess = [], []
        for n in np.unique(windows.series):
            steps = windows.origins[windows.series == n][:, None] + np.arange(1 - history, 1)
            ahead = windows.origins[windows.series == n][:, None] + np.arange(1 - history, 1 + self.horizon_)
            values, _ = self._forecast(panel.y[n][steps], panel.past[n][steps], panel.future[n][ahead])
            truth.append(panel.y[n][ahead[:, history:]].reshape(len(steps), -1))
            guess.append(values[..., self._centre()].reshape(len(steps), -1))
        each = None if weights is None else weights[windows.series]
        return pooled_r2(np.concatenate(truth), np.concatenate(guess), each)

    # --- integers ----------------------------------------------------------------------------------------------------

    def quantize(  # type: ignore[override]
        self,
        X_calibration: Any = None,
        scheme: str = "int8",
        *,
        weights: str = "int8",
        ranges: str = "mse",
        past: Any = None,
        future: Any = None,
    ) -> Any:
        """The fitted network in integers, as a microcontroller runs it; the forecaster itself stays as it is.

        Windows are cut and scaled, and forecasts fed back, outside of the network: here in Python, on a device by the
        program around it.

        Parameters
        ----------
        X_calibration : as X of `fit`, default None
            Typical series: what up to a thousand of their windows reach decides on the ranges of integers. May be None
            for "float32" only.
        scheme, weights, ranges
            As of `SequenceClassifier.quantize`, and so are the networks that cannot be quantised.
        past, future : as for `fit`
            Inputs of X_calibration.

        Returns
        -------
        lstmcore.QuantizedModel
            With the same predict, predict_quantiles, predict_interval, score, update and step, and `export_c` of its
            network; ``report_`` says what quantising changed, its agreement being R² of the network's outputs.

        Raises
        ------
        ValueError
            Arguments, data or a network that cannot be quantised; the message says what to do instead.
        """
        check_is_fitted(self, "model_")
        from .edge.api import quantize
        from .edge.quantized_forecaster import QuantizedForecaster, calibration_windows

        x = None
        if X_calibration is not None:
            panel = self._read_panel(X_calibration, None, past, future)
            windows = cut_windows(panel, self.layout_, 1, self.model_.dtype, "X_calibration")
            x = calibration_windows(np.asarray(windows.x.data))
        elif past is not None or future is not None:
            raise ValueError("quantize: past and future are inputs of X_calibration, which is missing.")
        elif scheme not in ("float32", "dynamic_int8"):
            raise ValueError(f"quantize: scheme={scheme!r} needs X_calibration, series as for fit, to find its ranges.")
        made = quantize(self.model_, x, scheme, weights=weights, ranges=ranges)
        return QuantizedForecaster(made.program, report=made.report_, forecaster=self)

    # --- evaluation --------------------------------------------------------------------------------------------------

    def backtest(self, X: Any, **options: Any) -> Any:
        """Forecasts from many origins of the past, beside what came: see `lstmcore.backtest`."""
        from ._backtest import backtest

        return backtest(self, X, **options)

    def plot_forecast(self, X: Any = None, ax: Any = None, **options: Any) -> Any:
        """Plots the end of one series and its forecast, with its interval if any: `plotting.plot_forecast`."""
        from .plotting import plot_forecast

        return plot_forecast(self, X, ax=ax, **options)
