"""What SequenceForecaster does beneath its public methods: windows, training, decoding of outputs, recursion, files."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._base import SequenceEstimator
from ._parameters import RULES, Rule, choice, thread_count, weight_dtype
from ._validation import SequenceArrays, read_weights
from ._windows import Layout, Panel, Windows, cut_windows, read_ahead, read_panel
from .forecasting.calibration import correct, corrections, fit_apart, subset
from .model import Model

__all__ = ["FORECAST_RULES", "Context", "WindowForecaster", "normal_quantile", "pooled_r2"]

Array = NDArray[Any]

# Smallest deviation of the Gaussian likelihood: as in cpp/src/train/losses.hpp.
_LEAST_DEVIATION = 1e-3

# Names of the losses here → in the engine.
LOSSES = {
    "squared_error": "squared",
    "absolute_error": "absolute",
    "huber": "huber",
    "quantile": "quantile",
    "gaussian": "gaussian",
}


class Context(NamedTuple):
    """The end of a series, from which forecasts start: y (S, I), past (S, P), future (S or more, F)."""

    y: Array
    past: Array
    future: Array


class WindowForecaster(SequenceEstimator):
    """Internals of SequenceForecaster; not for use on its own."""

    window: int
    horizon: int
    strategy: str
    scaling: str
    season_length: int | None
    stride: int
    loss: str
    huber_delta: float
    quantiles: Sequence[float]
    class_weight: Any
    calibrate: bool

    layout_: Layout
    horizon_: int
    context_: list[Context]
    # Mean and standard deviation of the past and known-future inputs of the training series, (P + F,) each.
    _input_mean: Array
    _input_deviation: Array
    _single: bool
    # Of predicted distributions; None where they were not calibrated.
    _correction: Array | None = None
    # Windows being trained on, while fit runs.
    _training: Windows

    # --- reading -----------------------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.class_weight is not None:
            raise ValueError(
                f"class_weight={self.class_weight!r}: {type(self).__name__} has no classes. Use sample_weight of fit."
            )
        if self.calibrate and self.loss not in ("quantile", "gaussian"):
            raise ValueError(
                f"calibrate=True: with loss={self.loss!r} there are no intervals to calibrate. Use loss='gaussian' or "
                "'quantile', or calibrate=False."
            )
        if self.strategy == "recursive" and self.loss == "quantile" and self.horizon > 1:
            raise ValueError(
                "strategy='recursive' with loss='quantile': quantiles of later steps do not follow from those of the "
                "next one. Use strategy='direct', or loss='gaussian'."
            )

    def _make_layout(self, panel: Panel) -> Layout:
        layout = Layout(
            window=int(self.window),
            horizon=1 if self.strategy == "recursive" else int(self.horizon),
            scaling=self.scaling,
            season=int(self.season_length or 0),
            targets=panel.y[0].shape[1],
            past=panel.past[0].shape[1],
            future=panel.future[0].shape[1],
        )
        if layout.past and self.strategy == "recursive" and self.horizon > 1:
            raise ValueError(
                "past: strategy='recursive' feeds forecasts back, and past inputs are not known then. Use "
                "strategy='direct', or pass them as future if they are known ahead."
            )
        return layout

    def _read_panel(
        self, X: Any, y: Any, past: Any, future: Any, ahead: int | None = None, prefix: str = "", fitted: bool = True
    ) -> Panel:
        """Series with y joined to their ends; fitted: checked against the series of fit, inputs standardised."""
        if y is None:
            panel = read_panel(X, past, future, ahead, prefix)
        else:
            panel = read_panel(X, None, None, None, prefix)
            joined = [
                np.concatenate(pair)
                for pair in zip(panel.y, read_ahead(y, panel, prefix + "y", int(self.horizon)), strict=True)
            ]
            # Inputs cover y too.
            panel = read_panel(joined, past, future, ahead, prefix)._replace(single=panel.single)
        if fitted:
            layout = self.layout_
            for what, items, expected in (
                ("X", panel.y, layout.targets),
                ("past", panel.past, layout.past),
                ("future", panel.future, layout.future),
            ):
                if items[0].shape[1] != expected:
                    self._refuse_columns(prefix + what, items[0].shape[1], expected)
            panel = self._standardised(panel)
        return panel

    def _refuse_columns(self, name: str, count: int, expected: int) -> None:
        noun = "features" if name.endswith("X") else "columns"
        raise ValueError(
            f"{name} has {count} {noun}, but {type(self).__name__} is expecting {expected} {noun} as input, as in fit."
        )

    def _learn_inputs(self, panel: Panel) -> None:
        moments = []
        for items, lengths in ((panel.past, None), (panel.future, [len(y) for y in panel.y])):
            rows = np.concatenate([x[: None if lengths is None else lengths[n]] for n, x in enumerate(items)])
            deviation = rows.std(axis=0)
            deviation[deviation <= 10 * np.finfo(np.float64).eps * np.abs(rows.mean(axis=0))] = 1.0
            moments.append((rows.mean(axis=0), deviation))
        self._input_mean, self._input_deviation = (
            np.concatenate([part[k] for part in moments]) if self.standardize else np.full(panel_width(panel), float(k))
            for k in (0, 1)
        )

    def _standardised(self, panel: Panel) -> Panel:
        past, future = self._scale_inputs(panel.past, panel.future)
        return panel._replace(past=past, future=future)

    def _scale_inputs(self, past: list[Array], future: list[Array]) -> tuple[list[Array], list[Array]]:
        P = self.layout_.past
        mean, deviation = self._input_mean, self._input_deviation
        return (
            [(x - mean[:P]) / deviation[:P] for x in past],
            [(x - mean[P:]) / deviation[P:] for x in future],
        )

    # --- what SequenceEstimator asks for -----------------------------------------------------------------------------

    def _fit_windows(
        self, X: Any, y: Any, sample_weight: Any, eval_set: Any, callbacks: Any, past: Any, future: Any, partial: bool
    ) -> Any:
        resume = hasattr(self, "model_") and (partial or self.warm_start)
        panel = self._read_panel(X, y, past, future, fitted=False)
        layout = self._make_layout(panel)
        if resume:
            self._check_layout(layout)
        elif hasattr(self, "model_"):
            del self.model_
        if not resume:
            self.layout_ = layout
            self.horizon_ = int(self.horizon)
            self._learn_inputs(panel)
            self.n_features_in_ = layout.targets
        self._single = panel.single
        panel = self._standardised(panel)
        windows = cut_windows(panel, layout, int(self.stride), weight_dtype(self.precision))
        sample_weight = read_weights(sample_weight, len(panel.y), "sample_weight")
        weights = None if sample_weight is None else sample_weight[windows.series]
        if weights is not None and not weights.any():
            raise ValueError("sample_weight is zero for every series that is long enough for a window.")
        if self.calibrate and resume:
            raise ValueError(
                "calibrate=True holds out windows that the present weights have been trained on. Use calibrate=False, "
                "which keeps the calibration there is, or fit anew with warm_start=False."
            )
        self._training = windows
        try:
            if partial:
                self._partial_fit(windows, None, None, weights)
            else:
                checked = self._eval_windows(eval_set)
                if not resume:
                    self._correction = None
                self._train(windows, None, weights, checked, callbacks, resume)
                if self.calibrate:
                    self._calibrate(windows, weights, None if checked is None else checked[0])
        finally:
            del self._training
        self.context_ = [self._context(*series) for series in zip(panel.y, panel.past, panel.future, strict=True)]
        return self

    def _calibrate(self, windows: Windows, weights: Array | None, checked: Windows | None) -> None:
        """Corrects distributions by windows that were not trained on: those of eval_set, or the last of each series."""
        fitted: Any = self
        if checked is None and self.early_stopping:
            _, rows = self._split(windows.targets, weights, 0, split=True)
            assert rows is not None
            checked = subset(windows, rows)
        elif checked is None:
            fitted, checked = fit_apart(self, windows, weights)
        values, deviation = fitted._decoded(fitted._outputs_of(checked.x))
        truth = checked.targets.reshape(values.shape[:3])
        self._correction = corrections(values, deviation, truth, self._fitted_decoding[1])

    def _outputs_of(self, x: SequenceArrays) -> Array:
        """(R, horizon, I, outputs a number) of the network, on the scale of the windows."""
        layout = self.layout_
        outputs = self.model_.core.predict(x.to_core(self.model_.dtype), n_threads=thread_count(self.n_jobs))
        shaped: Array = outputs.astype(np.float64).reshape(len(x.lengths), layout.horizon, layout.targets, -1)
        return shaped

    def _decoded(self, outputs: Array) -> tuple[Array, Array | None]:
        """Outputs as (R, horizon, I, 1) means with their deviation, or (R, horizon, I, Q) sorted quantiles."""
        if self._fitted_decoding[0] != "gaussian":
            # Quantiles of a network can cross; in order they are nearer to the truth (Chernozhukov et al., 2010).
            values, deviation = np.sort(outputs, axis=-1), None
        else:
            unit = 1.0 / self.model_.core.preprocessing["output_scale"].reshape(self.layout_.horizon, -1, 2)[:, :, 0]
            values, deviation = outputs[..., :1], (_LEAST_DEVIATION + np.logaddexp(0.0, outputs[..., 1])) * unit
        values, deviation = correct(values, deviation, self._correction)
        return (np.sort(values, axis=-1) if deviation is None else values), deviation

    def _eval_windows(self, eval_set: Any) -> Any:
        if eval_set is None:
            return None
        if isinstance(eval_set, list) and len(eval_set) == 1 and isinstance(eval_set[0], (tuple, dict)):
            eval_set = eval_set[0]
        if isinstance(eval_set, tuple) and len(eval_set) == 2:
            eval_set = {"X": eval_set[0], "y": eval_set[1]}
        if not isinstance(eval_set, dict) or "X" not in eval_set or set(eval_set) - {"X", "y", "past", "future"}:
            raise ValueError(
                "eval_set must be (X, y), y None or the steps that follow, or a dict with 'X' and some of 'y', 'past', "
                f"'future'. Got {type(eval_set).__name__} instead."
            )
        given = [eval_set.get(name) for name in ("X", "y", "past", "future")]
        panel = self._read_panel(given[0], given[1], given[2], given[3], prefix="eval_set ")
        return cut_windows(panel, self.layout_, int(self.stride), weight_dtype(self.precision), "eval_set X"), None

    def _context(self, y: Array, past: Array, future: Array) -> Context:
        start = max(len(y) - self.layout_.history, 0)
        return Context(y[start:].copy(), past[start:].copy(), future[start:].copy())

    def _check_layout(self, layout: Layout) -> None:
        for name in ("window", "horizon", "scaling", "season", "targets", "past", "future"):
            now, before = getattr(layout, name), getattr(self.layout_, name)
            if now != before:
                label = {"season": "season_length", "targets": "targets of X"}.get(name, name)
                raise ValueError(
                    f"{label}={now!r}, but the model to go on with has {before!r}. Set it back, or fit anew with "
                    "warm_start=False."
                )

    def _read(self, X: Any, y: Any, reset: bool, prefix: str = "", classes: Any = None) -> tuple[SequenceArrays, Array]:
        windows: Windows = X
        targets = windows.targets
        if self.loss in ("quantile", "gaussian"):
            targets = np.repeat(targets, 2 if self.loss == "gaussian" else len(self.quantiles), axis=1)
        return windows.x, np.ascontiguousarray(targets)

    def _split(
        self, targets: Array, weights: Array | None, seed: int, split: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """The last windows of each series are held out, and what overlaps with their future is not trained on."""
        windows, everything = self._training, np.arange(len(targets))
        if not split:
            return everything, None
        train, held_out = [], []
        for n in np.unique(windows.series):
            own = everything[windows.series == n]
            count = max(1, round(self.validation_fraction * len(own)))
            first = windows.origins[own[-count]] if count < len(own) else -1
            before = own[windows.origins[own] <= first - self.layout_.horizon]
            if len(before):
                train.append(before)
                held_out.append(own[-count:])
            else:
                train.append(own)
        if not held_out:
            asked = "early_stopping" if self.early_stopping else "calibrate"
            raise ValueError(
                f"{asked}=True cannot hold out the last windows: every series has fewer than "
                f"{self.layout_.horizon + 1} windows before them. Pass eval_set, longer series, or a smaller window or "
                "horizon."
            )
        parts = np.concatenate(train), np.concatenate(held_out)
        for part, name in zip(parts, ("training", "validation"), strict=True):
            if weights is not None and not np.any(weights[part] > 0):
                raise ValueError(f"The sample weights of the {name} part are all zero. Pass eval_set.")
        return parts

    def _head(self) -> tuple[str, int, str]:
        each = {"quantile": len(self.quantiles), "gaussian": 2}.get(self.loss, 1)
        return "identity", self.layout_.horizon * self.layout_.targets * each, LOSSES[self.loss]

    def _trainer_options(self) -> dict[str, Any]:
        options = {**super()._trainer_options(), "huber_delta": float(self.huber_delta)}
        if self.loss == "quantile":
            options["quantiles"] = [float(level) for level in self.quantiles]
        return options

    def _check_resumed(self) -> None:
        super()._check_resumed()
        if self._head()[1] != self.model_.config["outputs"] or self._decoding() != self._fitted_decoding:
            raise ValueError(
                f"loss={self.loss!r}: the model to go on with was trained for other outputs. Set loss and quantiles "
                "back, or fit anew with warm_start=False."
            )

    def _start(self, samples: SequenceArrays, targets: Array, weights: Array | None, seed: int) -> None:
        super()._start(samples, targets, weights, seed)
        self._fitted_decoding = self._decoding()

    def _decoding(self) -> tuple[str, tuple[float, ...]]:
        """How outputs are to be read: "gaussian", "quantile" with its levels, or "point"."""
        kind = self.loss if self.loss in ("quantile", "gaussian") else "point"
        return kind, tuple(float(level) for level in self.quantiles) if kind == "quantile" else ()

    def _target_scaling(self, y: Array, weights: Array | None) -> tuple[Array, Array]:
        mean = np.average(y, axis=0, weights=weights)
        deviation = np.sqrt(np.average(np.square(y - mean), axis=0, weights=weights))
        deviation[deviation <= 1e-9] = 0.0  # targets are on the scale of their window
        if self.loss == "gaussian":
            mean[1::2], deviation[1::2] = 0.0, 1.0
        return mean, deviation

    def _wrap(self, core: _core.Model) -> Model:
        return Model(core)

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        """R² of the forecasts on the scale of their windows, over all steps ahead together."""
        each = y.shape[1] // (self.layout_.horizon * self.layout_.targets)
        centre = self._centre() if each > 1 else 0
        truth, guess = y[:, ::each], outputs[:, centre::each].astype(np.float64)
        return pooled_r2(truth, guess, sample_weight)

    def _centre(self) -> int:
        """Which of a number's outputs is the forecast."""
        kind, levels = self._fitted_decoding
        return int(np.argmin(np.abs(np.array(levels) - 0.5))) if kind == "quantile" else 0

    # --- files -------------------------------------------------------------------------------------------------------

    def _fitted_document(self) -> dict[str, Any]:
        layout = self.layout_
        return {
            "n_features_in_": int(self.n_features_in_),
            "horizon": self.horizon_,
            "layout": [layout.window, layout.horizon, layout.scaling, layout.season, *self._sizes(layout)],
            "decoding": [self._fitted_decoding[0], list(self._fitted_decoding[1])],
            "inputs": [self._input_mean.tolist(), self._input_deviation.tolist()],
            "single": bool(self._single),
            "correction": None if self._correction is None else self._correction.tolist(),
            "context": [[part.tolist() for part in context] for context in self.context_],
        }

    @staticmethod
    def _sizes(layout: Layout) -> tuple[int, int, int]:
        return layout.targets, layout.past, layout.future

    def _restore_fitted(self, model: Model, fitted: dict[str, Any]) -> None:
        wrong = ValueError("the windows of a SequenceForecaster are damaged, or not those of its network")
        try:
            layout = Layout(*fitted["layout"])
            kind, levels = fitted["decoding"]
            mean, deviation = (np.array(part, dtype=np.float64) for part in fitted["inputs"])
            sizes = (layout.window, layout.horizon, layout.season, *self._sizes(layout))
            if not all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**31 for size in sizes):
                raise wrong
            P, F = layout.past, layout.future
            if mean.shape != (P + F,) or deviation.shape != (P + F,) or not (deviation > 0).all():
                raise wrong
            contexts = [
                Context(*(np.array(part, dtype=np.float64).reshape(len(part), width) for part, width in pairs))
                for pairs in (list(zip(item, self._sizes(layout), strict=True)) for item in fitted["context"])
            ]
            finite = all(np.isfinite(part).all() for context in contexts for part in context)
            even = all(len(c.past) == len(c.y) <= len(c.future) for c in contexts)
            self.layout_, self.context_, self._single = layout, contexts, fitted["single"]
            self._fitted_decoding = (str(kind), tuple(float(level) for level in levels))
        except (KeyError, TypeError, OverflowError) as error:
            raise wrong from error
        self._input_mean, self._input_deviation = mean, deviation
        self._correction = self._read_correction(fitted.get("correction"), wrong)
        self.n_features_in_ = layout.targets
        per_number = {"point": 1, "gaussian": 2, "quantile": len(levels)}.get(kind, 0)
        expected = layout.horizon * layout.targets * per_number
        steps = 1 if self.strategy == "recursive" else self.horizon
        self.horizon_ = self.horizon
        if (
            not (finite and even and contexts and np.isfinite(mean).all() and np.isfinite(deviation).all())
            or not isinstance(self._single, bool)
            or model.n_features != layout.features()
            or model.config["outputs"] != expected
            or layout.horizon != steps
            or fitted.get("horizon") != self.horizon
            or layout.window < 1
            or layout.scaling not in ("standard", "mean", "last", "none")
            or self._fitted_decoding != self._decoding()
            or (self._single and len(contexts) != 1)
        ):
            raise wrong

    def _read_correction(self, given: Any, wrong: ValueError) -> Array | None:
        if given is None:
            return None
        kind, levels = self._fitted_decoding
        try:
            found = np.array(given, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise wrong from error
        expected = (self.layout_.horizon, len(levels) if kind == "quantile" else 1)
        if kind == "point" or found.shape != expected or not np.isfinite(found).all():
            raise wrong
        if kind == "gaussian" and not (found > 0).all():
            raise wrong
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags


def panel_width(panel: Panel) -> int:
    """P + F."""
    return int(panel.past[0].shape[1] + panel.future[0].shape[1])


def pooled_r2(truth: Array, guess: Array, weights: Array | None) -> float:
    """R² over all numbers together; NaN where they do not vary."""
    mean = np.average(truth.mean(axis=1), weights=weights)
    residual = np.average(np.square(truth - guess).mean(axis=1), weights=weights)
    total = np.average(np.square(truth - mean).mean(axis=1), weights=weights)
    return float(1.0 - residual / total) if total > 0 else float("nan")


def normal_quantile(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(level)


def _is_levels(value: Any) -> bool:
    if not isinstance(value, (tuple, list, np.ndarray)) or len(value) == 0:
        return False
    if not all(isinstance(level, (float, np.floating)) and 0 < level < 1 for level in value):
        return False
    return bool(np.all(np.diff(np.array(value, dtype=float)) > 0))


FORECAST_RULES: dict[str, Rule] = {
    "window": Rule("an int >= 1", RULES["hidden_size"].accepts),
    "horizon": Rule("an int >= 1 (how many steps ahead to forecast)", RULES["hidden_size"].accepts),
    "strategy": choice("direct", "recursive"),
    "scaling": choice("standard", "mean", "last", "none"),
    "season_length": Rule("an int >= 1 or None", lambda value: value is None or RULES["hidden_size"].accepts(value)),
    "stride": Rule("an int >= 1", RULES["hidden_size"].accepts),
    "loss": choice(*LOSSES),
    "calibrate": Rule("True or False", lambda value: isinstance(value, (bool, np.bool_))),
    "quantiles": Rule("a tuple of floats in (0, 1), rising", _is_levels),
}
