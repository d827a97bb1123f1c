"""The network of SequenceAnomalyDetector: at each step a forecast of the next ones, and how wrong it was. NumPy only.

Shape letters: P sequences or pieces of them, T time steps, I input features, F steps ahead, E = F·I forecasts a step.

The layers read the step before the one that is forecast, x(t−1), and zero (the mean) before a sequence's first, so that
every step is forecast, the first as well; pieces begin like sequences, or one long series would not teach how one
begins. The first forecasts are worse than later ones, so errors are divided by how much worse they were on average.
At t the head gives x(t), …, x(t+F−1), so that x(t) is forecast F times.
The errors of these, standardised, are taken for a Gaussian of mean m and covariance C = L Lᵀ, fitted to normal steps
(Malhotra et al. 2015). A step's score is −‖L⁻¹(e − m)‖² / E, the logarithm of that density but for constants: −1 on
average for normal steps, lower for abnormal ones. The first steps have been forecast less often; with errors ordered by
steps ahead, those that exist are a leading block of C, and its factor is the leading block of L.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._step_network import Shapes, StepNetwork, engine_model
from .._steps import object_array, read_steps
from .detector_model import DetectorModel
from .pieces import Pieces, whole

__all__ = ["AGGREGATIONS", "LEAST_DEVIATION", "LOSSES", "ForecastNetwork"]

Array = NDArray[Any]

LOSSES = ("squared_error", "gaussian")
AGGREGATIONS = ("max", "mean")
# Steps at a sequence's start whose forecasts are known to be worse, and the pieces that count for no such knowledge.
START, _PRIOR = 32, 2.0
# Smallest deviation of the Gaussian likelihood: as in cpp/src/train/losses.hpp.
LEAST_DEVIATION = 1e-3


class ForecastNetwork(StepNetwork):
    """config: that of `StepNetwork`, horizon (F), loss and aggregation ("max" or "mean" of a sequence's steps).

    Further constants, set by `fit_start`, `fit_errors` and the estimator: "start_scale" (START,), by which errors of
    forecasts made at the first steps are divided, "error_mean" (E,), m, "error_factor" (E, E), L⁻¹, "step_offset" and
    "offset" (1,), the scores below which a step and a sequence are abnormal.
    """

    # What model files of this network become.
    model_class = DetectorModel

    _extra = ("horizon", "loss", "aggregation")

    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        super().__init__(config, seed)
        E = config["horizon"] * config["inputs"]
        sizes = {"error_mean": E, "error_factor": (E, E), "step_offset": 1, "offset": 1, "start_scale": START}
        self._constants |= {name: np.zeros(size) for name, size in sizes.items()}
        self.forget_errors()

    # --- training ----------------------------------------------------------------------------------------------------

    def _inputs(self, x: Any, random: np.random.RandomState | None) -> tuple[Array, Array | None]:
        before = self.standard(x.values[x.grid() - 1])
        before[:, 0] = 0.0
        return before, None

    def standard(self, values: Array) -> Array:
        """Values (…, I) in standard deviations from the mean, in the network's dtype."""
        shifted = (values - self._constants["mean"]) * self._constants["scale"]
        result: Array = shifted.astype(self._config["dtype"])
        return result

    def _forecasts(self, scores: Array) -> tuple[Array, Array | None]:
        """Scores (…, K) → standardised means (…, F, I), and the raw deviations for the loss "gaussian"; float64."""
        shape = (*scores.shape[:-1], self._config["horizon"], self._config["inputs"])
        if self._config["loss"] == "gaussian":
            pairs = scores.reshape(*shape, 2).astype(np.float64)
            return pairs[..., 0], pairs[..., 1]
        return scores.reshape(shape).astype(np.float64), None

    def _targets(self, x: Pieces) -> tuple[Array, NDArray[np.bool_]]:
        """Standardised (P, T, F, I) steps that are forecast, and (P, T, F) whether there are such steps."""
        steps = np.arange(x.lengths.max())
        ahead = x.starts[:, None, None] + steps[:, None] + np.arange(self._config["horizon"])
        real = (steps < x.lengths[:, None])[:, :, None] & (ahead < x.ends[:, None, None])
        return self.standard(x.values[np.where(real, ahead, x.starts[:, None, None])]).astype(np.float64), real

    def loss_and_gradients(
        self, x: Pieces, y: Any, weights: NDArray[np.float64] | None, seed: int, training: bool = True
    ) -> tuple[float, float, dict[str, Array]]:
        """Σ w is over steps and steps ahead, each with its sequence's weight; features are averaged."""
        found = self._forward(x, seed, training)  # type: ignore[arg-type]
        targets, real = self._targets(x)
        factor = real.astype(np.float64)
        if weights is not None:
            factor *= weights[:, None, None]
        share = float(factor.sum())
        mean, raw = self._forecasts(found.scores)
        error = mean - targets
        slope = factor[..., None] / (max(share, 1e-300) * self._config["inputs"])
        if raw is None:
            losses = np.square(error)
            d_scores = 2.0 * error * slope
        else:
            deviation = LEAST_DEVIATION + np.logaddexp(0.0, raw)
            relative = error / deviation
            losses = 0.5 * np.log(2.0 * np.pi) + np.log(deviation) + 0.5 * np.square(relative)
            sigmoid = 0.5 * (1.0 + np.tanh(0.5 * raw))
            d_mean = relative / deviation * slope
            d_scores = np.stack([d_mean, (1.0 - np.square(relative)) / deviation * sigmoid * slope], axis=-1)
        total = float((factor * losses.mean(axis=-1)).sum())
        if not training:
            return total, share, {}
        return total, share, self._backward(found, d_scores.reshape(found.scores.shape).astype(found.scores.dtype))

    # --- errors ------------------------------------------------------------------------------------------------------

    def outputs(self, x: Any) -> Array:
        """(P,) objects: the scores of each one's steps, (T,)."""
        return object_array(self.step_scores(errors) for errors in self.errors(x))

    def errors(self, x: Pieces) -> list[Array]:
        """For each piece (T, F, I) errors of the forecasts that its steps had, standardised.

        [t, k] is the error of the forecast of step t that was made k steps before the one for t alone; NaN where there
        was none.
        """
        scores = self._forward(x, 0, training=False).scores  # type: ignore[arg-type]
        truth = x.split(self.standard(x.values[x.grid()]).astype(np.float64))
        return [self._errors(part, values) for part, values in zip(x.split(scores), truth, strict=True)]

    def _errors(self, scores: Array, truth: Array) -> Array:
        mean, raw = self._forecasts(scores)
        T = len(truth)
        unit = self._unit(np.arange(T))[:, None, None] * np.ones_like(mean)
        if raw is not None:
            unit *= LEAST_DEVIATION + np.logaddexp(0.0, raw)
        errors = np.full(mean.shape, np.nan)
        for k in range(min(mean.shape[1], T)):
            errors[k:, k] = (truth[k:] - mean[: T - k, k]) / unit[: T - k, k]
        return errors

    def _unit(self, t: NDArray[np.int64]) -> Array:
        """What errors of forecasts made at steps t are divided by."""
        result: Array = np.where(t < START, self._constants["start_scale"][np.minimum(t, START - 1)], 1.0)
        return result

    def forget_errors(self) -> None:
        """Scores become minus the mean square of the errors."""
        self._constants["error_mean"][:] = 0.0
        self._constants["error_factor"][:] = np.eye(len(self._constants["error_mean"]))
        self._constants["start_scale"][:] = 1.0

    def fit_start(self, errors: list[Array], weights: Array, usual: float) -> None:
        """How much larger errors are at the start; errors: (T, F, I) of beginnings, weights: of each.

        usual: mean square of all errors one step ahead.
        """
        if usual <= 0.0:
            return
        squares = [np.square(item[:, 0]).mean(axis=1) for item in errors]
        lengths = np.array([len(item) for item in squares])
        found = np.zeros(START)
        for t in range(min(START, int(lengths.max()))):
            there = lengths > t
            known = float(weights[there] @ np.array([item[t] for item in squares if len(item) > t]))
            found[t] = (known + _PRIOR * usual) / ((float(weights[there].sum()) + _PRIOR) * usual)
        # What is forecast later is never harder, and no step easier than usual: few beginnings leave much to chance.
        self._constants["start_scale"][:] = np.sqrt(np.maximum(1.0, np.maximum.accumulate(found[::-1])[::-1]))

    def fit_errors(self, errors: Array, weights: Array) -> None:
        """Mean and covariance of errors (steps, F, I) of normal steps; weights: (steps,) of each."""
        rows = errors.reshape(len(errors), -1)
        complete = ~np.isnan(rows).any(axis=1) & (weights > 0)
        if not complete.any():
            # No sequence is as long as the horizon: what was not forecast counts as no error.
            rows, complete = np.nan_to_num(rows), weights > 0
        rows, weights = rows[complete], weights[complete] / weights[complete].sum()
        mean = np.einsum("t,te->e", weights, rows)
        centred = rows - mean
        # einsum and not a BLAS product, whose bits may depend on the number of threads.
        covariance = np.einsum("te,tf->ef", centred * weights[:, None], centred)
        # Bounded below: errors of a forecast that is exact, or always the same, would have no inverse.
        floor = max(1e-6 * float(np.trace(covariance)) / len(covariance), LEAST_DEVIATION**2)
        factor = np.linalg.cholesky(covariance + floor * np.eye(len(covariance)))
        self._constants["error_mean"][:] = mean
        self._constants["error_factor"][:] = np.tril(np.linalg.inv(factor))

    def step_scores(self, errors: Array) -> Array:
        """(T,) scores of steps with errors (T, F, I), of which the leading F are there."""
        rows = errors.reshape(len(errors), -1)
        there = ~np.isnan(rows)
        centred = np.where(there, rows - self._constants["error_mean"], 0.0)
        whitened = np.einsum("te,fe->tf", centred, self._constants["error_factor"])
        result: Array = -np.sum(np.square(whitened), axis=1, where=there) / there.sum(axis=1)
        return result

    def aggregate(self, scores: Array) -> float:
        """The score of a sequence with these scores of its steps (T,)."""
        return float(scores.min() if self._config["aggregation"] == "max" else scores.mean())

    def stream(self, x: Array, state: Any) -> tuple[Array, Any]:
        """Next step (N, I) of N streams → its scores (N,), and the state after it; None starts."""
        t, h, forecasts = self._begin(len(x)) if state is None else state
        truth = self.standard(x).astype(np.float64)
        horizon = self._config["horizon"]
        errors = np.full((len(x), horizon, x.shape[1]), np.nan)
        for k, scores in enumerate(forecasts):  # the latest first
            mean, raw = self._forecasts(scores)
            unit = self._unit(np.array([t - k]))
            errors[:, k] = (truth - mean[:, k]) / (
                unit if raw is None else unit * (LEAST_DEVIATION + np.logaddexp(0.0, raw[:, k]))
            )
        latest, h = self._advance(self.standard(x), h)
        return self.step_scores(errors), (t + 1, h, (latest, *forecasts)[:horizon])

    def _begin(self, count: int) -> tuple[int, Any, tuple[Array, ...]]:
        zero = np.zeros((count, self._config["inputs"]), dtype=self._config["dtype"])
        latest, h = self._advance(zero, None)
        return 0, h, (latest,)

    def _advance(self, inputs: Array, h: Any) -> tuple[Array, Any]:
        y, h = self._layer.step(inputs, h)
        return _core.dense_forward(y, self._head["head_W"], self._head["head_b"], self.n_threads), h

    def core_model(self) -> _core.Model:
        """The same layers and head as a model of the engine: reads x(t), gives forecasts from t + 1 on in units of x.

        (K,) at every step, in the order [F, I]; for the loss "gaussian" [F, I, 2], each mean with its raw deviation.
        """
        c = self._config
        core = engine_model(c, "none", c["outputs"])
        core.set_parameters(self.parameters)
        mean, scale = (np.tile(self._constants[name], c["horizon"]) for name in ("mean", "scale"))
        if c["loss"] == "gaussian":
            mean, scale = (np.stack([part, np.full_like(part, k)], 1).ravel() for k, part in enumerate((mean, scale)))
        core.set_preprocessing(self._constants["mean"], self._constants["scale"], mean, scale)
        return core

    # --- data and files ----------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, X: Any, name: str, dtype: str) -> Any:
        x = read_steps(X, name, dtype)
        if x.table is not None:
            raise ValueError(f"{name} holds text, {str(x.table[0])!r}. Expected numbers: features at every step.")
        return whole(x)

    def test_input(self) -> Any:
        return whole(super().test_input())

    @classmethod
    def shapes(cls, config: dict[str, Any]) -> tuple[Shapes, Shapes, str]:
        shapes, constants, dtype = super().shapes(config)
        F, I, K = config["horizon"], config["inputs"], config["outputs"]
        if type(F) is not int or not 1 <= F <= 2**31:
            raise ValueError(f"config: horizon: expected an integer of at least 1, got {F!r}")
        for name, known in (("loss", LOSSES), ("aggregation", AGGREGATIONS)):
            if not isinstance(config[name], str) or config[name] not in known:
                raise ValueError(f"config: {name}: expected one of {', '.join(known)}, got {config[name]!r}")
        if config["vocabulary"] is not None or config["bidirectional"]:
            raise ValueError("config: vocabulary, bidirectional: expected neither in a network that forecasts")
        expected = F * I * (2 if config["loss"] == "gaussian" else 1)
        if expected != K:
            raise ValueError(f"config: outputs: expected {expected} for {F} steps of {I} features, got {K}")
        constants |= {"error_mean": (F * I,), "error_factor": (F * I, F * I), "start_scale": (START,)}
        constants |= {"step_offset": (1,), "offset": (1,)}
        return shapes, constants, dtype
