"""What a fitted SequenceForecaster does: contexts, passes of the network, recursion, streams."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, check_random_state

from ._forecasting import Context, WindowForecaster
from ._validation import SequenceArrays
from ._windows import read_panel

__all__ = ["ForecastStream", "SteppingForecaster"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SteppingForecaster")


class ForecastStream:
    """The last observations of N streams between calls of `SequenceForecaster.step`."""

    def __init__(self, y: Array, past: Array, future: Array) -> None:
        self.y, self.past, self.future = y, past, future

    def __len__(self) -> int:
        """N."""
        return len(self.y)

    def copy(self) -> ForecastStream:
        """An independent stream at the same point."""
        return ForecastStream(self.y.copy(), self.past.copy(), self.future.copy())


def _numbers(given: Any, name: str) -> Array:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"step: {name} is not numeric: {error}. Expected numbers, one row a stream.") from error


class SteppingForecaster(WindowForecaster):
    """`update` and `step` of SequenceForecaster, and what its `predict` needs; not for use on its own."""

    def update(self: Self, X: Any, *, past: Any = None, future: Any = None) -> Self:
        """Adds the observations that came since, without training: `predict` goes on from after them.

        Parameters
        ----------
        X : as for `fit`
            The new steps of each of the series.
        past : as for `fit`
            Past inputs of the new steps.
        future : as for `fit`, default None
            Known-future inputs of the new steps, and of those after them if known. None: those that are known already.

        Returns
        -------
        self
        """
        check_is_fitted(self, "model_")
        layout, contexts = self.layout_, self.context_
        lengths = [len(context.y) for context in contexts]
        if future is not None:
            contexts = self._with_future(contexts, future, self._single, None, "future")
        panel = read_panel(X, past)
        for name, items, expected in (("X", panel.y, layout.targets), ("past", panel.past, layout.past)):
            if items[0].shape[1] != expected:
                self._refuse_columns(name, items[0].shape[1], expected)
        if len(panel.y) != len(contexts):
            raise ValueError(f"X has {len(panel.y)} series, but {len(contexts)} were fitted. Pass new steps of each.")
        scaled, _ = self._scale_inputs(panel.past, [])
        moved = []
        for n, (context, y, rows) in enumerate(zip(contexts, panel.y, scaled, strict=True)):
            known = len(context.future) - lengths[n]
            if layout.future and known < len(y):
                raise ValueError(
                    f"future: {known} row(s) after the end of series {n} are known, but X has {len(y)} new steps. Pass "
                    "at least one row for each."
                )
            ahead = context.future if layout.future else np.zeros((lengths[n] + len(y), 0))
            moved.append(self._context(np.concatenate([context.y, y]), np.concatenate([context.past, rows]), ahead))
        self.context_ = moved
        return self

    def step(  # type: ignore[override]
        self, x: ArrayLike, state: ForecastStream | None = None, *, past: Any = None, future: Any = None
    ) -> tuple[Array | None, ForecastStream]:
        """Takes in one observation of a stream, and forecasts from after it.

        Parameters
        ----------
        x : number, array-like (I,), or (N, I) for N streams at once
            The next step.
        state : ForecastStream or None
            What the last call returned; None starts. ``state.copy()`` keeps a branch.
        past : array-like (P,) or (N, P)
            Past inputs of this step.
        future : array-like (1 + horizon, F) or (N, 1 + horizon, F)
            Known-future inputs of this step and of those after it.

        Returns
        -------
        forecast : ndarray (horizon,), (horizon, I), (N, horizon) or (N, horizon, I), or None
            What `predict` gives for the steps so far; None until they fill a window.
        state : ForecastStream
        """
        check_is_fitted(self, "model_")
        layout = self.layout_
        rows = _numbers(x, "x")
        single = rows.ndim < 2
        rows = rows.reshape(1, -1) if single else rows
        N = len(rows)
        known = _numbers(np.zeros((N, 0)) if past is None else past, "past")
        ahead = _numbers(np.zeros((N, 1 + self.horizon_, 0)) if future is None else future, "future")
        if single:
            known, ahead = (given[None] if given.ndim == axes else given for given, axes in ((known, 1), (ahead, 2)))
        for name, array, expected in (
            ("x", rows, (layout.targets,)),
            ("past", known, (layout.past,)),
            ("future", ahead, (1 + self.horizon_, layout.future)),
        ):
            if not N or array.shape != (N, *expected):
                raise ValueError(
                    f"step: {name} has shape {array.shape} for {N} stream(s). Expected (N, "
                    f"{', '.join(map(str, expected))}), as many columns a stream as in fit."
                )
            if not np.isfinite(array).all():
                raise ValueError(f"step: {name} contains NaN or infinity. Drop the step or fill the gap.")
        known, ahead = (np.array(part) for part in self._scale_inputs(list(known), list(ahead)))
        if state is None:
            empty = [np.zeros((N, 0, width)) for width in self._sizes(layout)]
            state = ForecastStream(*empty)
        elif not isinstance(state, ForecastStream):
            raise TypeError(
                f"step: state is of type {type(state).__name__}. Expected what the last step returned, or None."
            )
        elif [part.shape[2] for part in (state.y, state.past, state.future)] != list(self._sizes(layout)):
            raise ValueError("step: state is of a forecaster with other inputs. Pass what this one's step returned.")
        elif len(state) != N:
            raise ValueError(f"step: state is of {len(state)} stream(s), x has {N} row(s). Expected one row a stream.")
        state.y = np.concatenate([state.y, rows[:, None]], axis=1)[:, -layout.history :]
        state.past = np.concatenate([state.past, known[:, None]], axis=1)[:, -layout.history :]
        state.future = np.concatenate([state.future, ahead[:, :1]], axis=1)[:, -layout.history :]
        if state.y.shape[1] < layout.history:
            return None, state
        values, _ = self._forecast(state.y, state.past, np.concatenate([state.future, ahead[:, 1:]], axis=1))
        return self._shaped(values[..., self._centre()], single), state

    # --- forecasting -------------------------------------------------------------------------------------------------

    def _contexts(self, X: Any, past: Any, future: Any) -> tuple[Array, Array, Array, bool]:
        """Ends of all series as arrays (N, history, I), (N, history, P), (N, history + horizon, F)."""
        check_is_fitted(self, "model_")
        layout, horizon = self.layout_, int(self.horizon)
        if X is None:
            if past is not None:
                raise ValueError("past: without X, forecasts go on from the last observations. Pass them to update.")
            contexts, single = self.context_, self._single
            if future is not None:
                contexts = self._with_future(contexts, future, single, horizon, "future")
            for n, context in enumerate(contexts):
                ahead = len(context.future) - len(context.y)
                if layout.future and ahead < horizon:
                    raise ValueError(
                        f"future: {ahead} step(s) after the end of series {n} are known, but horizon={horizon} are "
                        f"forecast. Pass future with {horizon} rows, one for each step ahead."
                    )
        else:
            panel = self._read_panel(X, None, past, future, ahead=horizon)
            contexts = [self._context(*series) for series in zip(panel.y, panel.past, panel.future, strict=True)]
            single = panel.single
        for n, context in enumerate(contexts):
            if len(context.y) < layout.history:
                season = f" + season_length={layout.season}" if layout.season else ""
                raise ValueError(
                    f"X: series {n} has {len(context.y)} steps, but a forecast needs the last "
                    f"window={layout.window}{season} = {layout.history}. Pass a longer series, or fit with a smaller "
                    "window."
                )
        return (
            np.stack([context.y for context in contexts]),
            np.stack([context.past for context in contexts]),
            np.stack([context.future[: layout.history + horizon] for context in contexts]),
            single,
        )

    def _with_future(
        self, contexts: list[Context], future: Any, single: bool, steps: int | None, name: str
    ) -> list[Context]:
        """Contexts whose inputs after the end are these rows: a list of (n_i, F); steps: how many each must have."""
        items = [np.asarray(future)] if single else list(future)
        items = [
            item[:, None] if np.ndim(item) == 1 and self.layout_.future == 1 else np.asarray(item) for item in items
        ]
        panel = read_panel(items, prefix=f"{name}: ")
        if len(panel.y) != len(contexts):
            raise ValueError(f"{name} has {len(panel.y)} entries, but there are {len(contexts)} series.")
        if panel.y[0].shape[1] != self.layout_.future:
            self._refuse_columns(name, panel.y[0].shape[1], self.layout_.future)
        _, scaled = self._scale_inputs([], panel.y)
        for n, rows in enumerate(scaled):
            if steps is not None and len(rows) != steps:
                raise ValueError(
                    f"{name}: {len(rows)} rows for series {n}. Without X, expected {steps}, one for each step after "
                    "the series' end."
                )
        return [
            context._replace(future=np.concatenate([context.future[: len(context.y)], rows]))
            for context, rows in zip(contexts, scaled, strict=True)
        ]

    def _run(self, y: Array, past: Array, future: Array) -> tuple[Array, Array, Array]:
        """Outputs of one pass, (R, horizon, I, outputs a number), with location and scale (R, horizon or 1, I)."""
        layout = self.layout_
        x, location, scale = layout.inputs(y, past, future[:, : layout.history + layout.horizon])
        x = x.astype(self.model_.dtype)
        if not np.isfinite(x).all():
            raise ValueError(f"X: scaled values are too large for {self.model_.dtype}. Rescale X.")
        sequences = SequenceArrays(x, np.full(len(x), x.shape[1], dtype=np.int64), x.shape[2], "X")
        return self._outputs_of(sequences), location, scale

    def _distribution(self, y: Array, past: Array, future: Array) -> tuple[Array, Array | None]:
        """One pass: (R, horizon, I, Q) sorted quantiles or (R, horizon, I, 1) means; deviations for "gaussian"."""
        outputs, location, scale = self._run(y, past, future)
        values, deviation = self._decoded(outputs)
        return values * scale[..., None] + location[..., None], None if deviation is None else deviation * scale

    def _forecast(self, y: Array, past: Array, future: Array) -> tuple[Array, Array | None]:
        """All steps ahead as `_distribution`; by recursion each step is read as if it had been observed."""
        horizon = int(self.horizon)
        if self.layout_.horizon == horizon:
            return self._distribution(y, past, future)
        means, deviations = [], []
        for k in range(horizon):
            mean, deviation = self._distribution(y, past, future[:, k:])
            means.append(mean)
            deviations.append(deviation)
            y = np.concatenate([y[:, 1:], mean[..., 0]], axis=1)
        spread = None if deviations[0] is None else np.concatenate([d for d in deviations if d is not None], axis=1)
        return np.concatenate(means, axis=1), spread

    def _paths(self, y: Array, past: Array, future: Array, count: int) -> Array:
        """(count, N, horizon, I) sampled futures, each step drawn given those before (Salinas et al., 2020)."""
        random = check_random_state(self.random_state if self.random_state is not None else 0)
        N = len(y)
        y, past, future = (np.concatenate([array] * count) for array in (y, past, future))
        steps = []
        for k in range(int(self.horizon)):
            mean, deviation = self._distribution(y, past, future[:, k:])
            assert deviation is not None
            drawn = mean[..., 0] + deviation * random.standard_normal(deviation.shape)
            steps.append(drawn)
            y = np.concatenate([y[:, 1:], drawn], axis=1)
        return np.concatenate(steps, axis=1).reshape(count, N, int(self.horizon), -1)

    def _shaped(self, values: Array, single: bool) -> Array:
        """(N, horizon, I, …) without the axes that X did not have."""
        if self.layout_.targets == 1:
            values = values[:, :, 0]
        return values[0] if single else values
