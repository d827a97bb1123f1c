"""SequenceForecaster with the interface of sktime's forecasters (optional: pip install sktime)."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import pandas as pd
    from sktime.forecasting.base import BaseForecaster
except ImportError as error:
    raise ImportError("lstmcore.sktime_adapter needs sktime and pandas: pip install sktime") from error

from sklearn.base import clone

from .forecaster import SequenceForecaster

__all__ = ["SktimeForecaster"]

Array = NDArray[Any]


class SktimeForecaster(BaseForecaster):
    """A `SequenceForecaster` for sktime's pipelines, tuning and evaluation.

    Its horizon is the largest step of sktime's forecasting horizon, which `fit` therefore needs. Exogenous data X are
    inputs that are known ahead: `predict` needs a row for every step up to the largest.

    Parameters
    ----------
    forecaster : SequenceForecaster or None, default None
        What is cloned and fitted; its `horizon` is not used. None: ``SequenceForecaster()``. Quantiles and intervals
        need ``loss="gaussian"``.

    Attributes
    ----------
    forecaster_ : SequenceForecaster
        The fitted clone.

    Examples
    --------
    >>> from lstmcore import SequenceForecaster
    >>> from lstmcore.sktime_adapter import SktimeForecaster
    >>> from sktime.datasets import load_airline
    >>> y = load_airline()
    >>> network = SequenceForecaster(window=24, season_length=12, max_iter=5, random_state=0)
    >>> SktimeForecaster(network).fit(y, fh=[1, 2, 12]).predict().shape
    (3,)
    """

    _tags = {  # noqa: RUF012 (as sktime has it)
        "authors": ["the lstmcore developers"],
        "maintainers": ["the lstmcore developers"],
        "y_inner_mtype": "pd.DataFrame",
        "X_inner_mtype": "pd.DataFrame",
        "capability:multivariate": True,
        "capability:exogenous": True,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:missing_values": False,
        "capability:non_contiguous_X": False,
        "capability:categorical_in_X": False,
        "capability:random_state": False,
        "capability:update": True,
        "requires-fh-in-fit": True,
        "property:randomness": "stochastic",
    }

    # This class keeps the data itself. Not by set_config: sktime's constructor already warns of its default.
    _config = {"remember_data": False}  # noqa: RUF012

    def __init__(self, forecaster: SequenceForecaster | None = None) -> None:
        self.forecaster = forecaster
        super().__init__()
        self._X = self._y = None  # as the constructor leaves them otherwise: set_config may still turn remembering on
        if (forecaster.loss if forecaster is not None else "squared_error") != "gaussian":
            self.set_tags(**{"capability:pred_int": False})

    def _fit(self, y: Any, X: Any, fh: Any) -> SktimeForecaster:
        network = SequenceForecaster() if self.forecaster is None else clone(self.forecaster)
        self.forecaster_ = network.set_params(horizon=int(max(self._steps(fh))))
        self._seen = y, X
        self.forecaster_.fit(y.to_numpy()[None], future=_rows(X))
        return self

    def _update(self, y: Any, X: Any = None, update_params: bool = True) -> SktimeForecaster:
        before, inputs = self._seen
        fresh = y.loc[~y.index.isin(before.index)]
        self._seen = (
            pd.concat([before, fresh]),
            None if inputs is None else pd.concat([inputs, X.loc[fresh.index]]),
        )
        # Forecasts start from all that was seen, so without training there is nothing to do.
        if update_params and len(fresh):
            # Early stopping has no meaning in a single pass.
            self.forecaster_.set_params(early_stopping=False)
            self.forecaster_.partial_fit(self._seen[0].to_numpy()[None], future=_rows(self._seen[1]))
        return self

    def _predict(self, fh: Any, X: Any) -> Any:
        steps = self._steps(fh)
        values = self.forecaster_.predict(self._seen[0].to_numpy()[None], future=self._all_inputs(X))
        chosen = values[0].reshape(self.forecaster_.horizon_, -1)[steps - 1]
        return pd.DataFrame(chosen, index=fh.to_absolute_index(self.cutoff), columns=self._seen[0].columns)

    def _predict_quantiles(self, fh: Any, X: Any, alpha: Sequence[float]) -> Any:
        steps = self._steps(fh)
        values = self.forecaster_.predict_quantiles(
            self._seen[0].to_numpy()[None], list(alpha), future=self._all_inputs(X)
        )
        names = self._get_varnames()
        chosen = values[0].reshape(self.forecaster_.horizon_, len(names), -1)[steps - 1]
        return pd.DataFrame(
            chosen.reshape(len(steps), -1),
            index=fh.to_absolute_index(self.cutoff),
            columns=pd.MultiIndex.from_product([names, alpha]),
        )

    def _steps(self, fh: Any) -> Array:
        steps = np.asarray(fh.to_relative(self.cutoff).to_numpy(), dtype=np.int64)
        longest = self.forecaster_.horizon_ if hasattr(self, "forecaster_") and self.is_fitted else None
        if steps.min() < 1 or (longest is not None and steps.max() > longest):
            raise ValueError(
                f"fh: steps {steps.min()} to {steps.max()} ahead. Expected 1 to {longest or 'any'}: fit again "
                "with a longer fh, steps within the sample are not forecast."
            )
        return steps

    def _all_inputs(self, X: Any) -> list[Array] | None:
        """Inputs of the series and of the steps after it."""
        (y, known), horizon = self._seen, self.forecaster_.horizon_
        if known is None:
            return None
        ahead: Any = X.loc[X.index > y.index[-1]] if X is not None else ()
        if len(ahead) < horizon:
            raise ValueError(f"X: {len(ahead)} rows after the last of y. Expected {horizon}, one for each step ahead.")
        return [np.concatenate([known.to_numpy(), ahead.to_numpy()[:horizon]])]

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Settings with which sktime's checks run."""
        quick: dict[str, Any] = {"window": 3, "hidden_size": 3, "max_iter": 2, "random_state": 0, "n_jobs": 1}
        return [
            {"forecaster": SequenceForecaster(**quick, loss="gaussian")},
            {"forecaster": SequenceForecaster(**quick, strategy="recursive", season_length=2)},
        ]


def _rows(X: Any) -> list[Array] | None:
    return None if X is None else [X.to_numpy()]
