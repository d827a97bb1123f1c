"""A SequenceForecaster whose network is in integers: windows, scales and recursion stay Python's. Needs scikit-learn.

Shape letters: N series, T time steps, I targets, R windows, K outputs of the network.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .program import Program
from .quantized_model import QuantizedModel
from .report import QuantizationReport

if TYPE_CHECKING:
    from ..forecaster import SequenceForecaster

__all__ = ["QuantizedForecaster"]

Array = NDArray[Any]


class _Network:
    """What a forecaster asks of its ``model_`` and of that one's ``core``, answered by a quantised model."""

    classes = None
    dtype = "float32"

    def __init__(self, model: QuantizedModel) -> None:
        self._model = model
        self.n_features = model.program.inputs
        self.config = {"outputs": model.program.outputs}
        self.preprocessing = {"output_scale": 1.0 / model.program.output_scale}

    @property
    def core(self) -> _Network:
        return self

    def predict(self, windows: _core.Sequences, n_threads: int | None = None) -> Array:
        """(R, K) of windows, in the units of the network's targets."""
        return self._model._as_outputs(self._model._core.run(windows, n_threads=n_threads))


class QuantizedForecaster(QuantizedModel):
    """A trained SequenceForecaster in integers: each pass of its network is what a device makes of the window.

    `SequenceForecaster.quantize` returns one, `lstmcore.load` reads one from a file. Cutting and scaling of windows,
    differences to the season before, and recursion are computed here; a device needs a host program that does the same.
    `predict_raw`, `outputs`, `program` and `export_c` are of the network, which reads scaled windows.
    """

    kind = "forecaster"
    _more = ("forecaster",)

    def __init__(
        self,
        program: Program,
        classes: Array | None = None,
        single_target: bool = False,
        report: QuantizationReport | None = None,
        *,
        forecaster: SequenceForecaster | dict[str, Any],
    ) -> None:
        super().__init__(program, classes, single_target, report)
        if isinstance(forecaster, dict):  # of a file
            from ..persistence import restore

            if forecaster.get("class") != "SequenceForecaster":
                raise ValueError(f"forecaster: an estimator of class {forecaster.get('class')!r}")
            self._forecaster: Any = restore(forecaster, _Network(self))
        elif hasattr(forecaster, "context_"):
            self._forecaster = copy.copy(forecaster)
            self._forecaster.model_ = _Network(self)
        else:
            raise TypeError(f"forecaster: expected a fitted SequenceForecaster, got {type(forecaster).__name__}")

    def _check(self) -> None:
        if self.classes_ is not None or self.single_target or self.program.softmax or self.program.pooling == "none":
            raise ValueError("forecaster: a network that gives no numbers for a window")

    def _document(self) -> dict[str, Any]:
        from ..persistence import document_of

        return {**super()._document(), "forecaster": document_of(self._forecaster)}

    @property
    def horizon_(self) -> int:
        """Steps that are forecast."""
        found: int = self._forecaster.horizon_
        return found

    # --- forecasting -------------------------------------------------------------------------------------------------

    def predict(  # type: ignore[override]
        self, X: Any = None, *, past: Any = None, future: Any = None
    ) -> Array:
        """The next `horizon_` steps, as of `SequenceForecaster.predict`, whose arguments it takes."""
        found: Array = self._forecaster.predict(X, past=past, future=future)
        return found

    def predict_quantiles(self, X: Any = None, quantiles: Any = None, **inputs: Any) -> Array:
        """As of `SequenceForecaster.predict_quantiles`, whose arguments it takes."""
        found: Array = self._forecaster.predict_quantiles(X, quantiles, **inputs)
        return found

    def predict_interval(self, X: Any = None, coverage: float = 0.8, **inputs: Any) -> Array:
        """As of `SequenceForecaster.predict_interval`, whose arguments it takes."""
        found: Array = self._forecaster.predict_interval(X, coverage, **inputs)
        return found

    def predict_proba(self, X: Any, n_jobs: int | None = None) -> Array:
        """AttributeError: forecasts are numbers."""
        raise AttributeError("predict_proba: forecasts are numbers. Use predict or predict_quantiles.")

    def score(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, *, past: Any = None, future: Any = None
    ) -> float:
        """R² of forecasts from every window of X, as of `SequenceForecaster.score`, whose arguments it takes."""
        found: float = self._forecaster.score(X, y, sample_weight, past=past, future=future)
        return found

    def update(self, X: Any, *, past: Any = None, future: Any = None) -> QuantizedForecaster:
        """Adds the observations that came since, as of `SequenceForecaster.update`; returns self."""
        self._forecaster.update(X, past=past, future=future)
        return self

    def step(self, x: ArrayLike, state: Any = None, **inputs: Any) -> tuple[Any, Any]:
        """The next steps after each observation of a stream, as of `SequenceForecaster.step`."""
        found: tuple[Any, Any] = self._forecaster.step(x, state, **inputs)
        return found

    def plot_forecast(self, X: Any = None, ax: Any = None, **options: Any) -> Any:
        """As of `SequenceForecaster.plot_forecast`."""
        return self._forecaster.plot_forecast(X, ax, **options)


def calibration_windows(windows: Array, most: int = 1000) -> Array:
    """At most so many windows (R, T, channels), evenly spread."""
    chosen: Array = windows[np.unique(np.linspace(0, len(windows) - 1, min(len(windows), most)).astype(np.int64))]
    return chosen
