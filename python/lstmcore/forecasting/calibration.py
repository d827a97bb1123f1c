"""Predicted distributions held against windows that training has not seen, and corrected by what came.

What a network says of its errors it has learnt from data that it was trained on. Trained for long on a short series it
knows that too well, and its intervals are too narrow for what comes; trained for less they can be too wide.

Shape letters: R windows, I targets, Q quantiles; `horizon` is of one pass of the network.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from .._validation import SequenceArrays
from .._windows import Windows

__all__ = ["correct", "corrections", "fit_apart", "subset"]

Array = NDArray[Any]


def corrections(values: Array, deviation: Array | None, truth: Array, levels: tuple[float, ...]) -> Array:
    """What `correct` needs, from forecasts of windows that were not trained on, all on the scale of the windows.

    Parameters
    ----------
    values : (R, horizon, I, 1) means, or (R, horizon, I, Q) quantiles
    deviation : (R, horizon, I) of means, None for quantiles
    truth : (R, horizon, I)
    levels : Q of quantiles

    Returns
    -------
    ndarray (horizon, 1) or (horizon, Q)
        Of means: the factor √mean z² on the deviations of each step ahead, which makes the normal likelihood largest.
        Of quantiles: what to add, so that of these windows the right share lies below each (as in conformal quantile
        regression; Romano, Patterson & Candès, 2019).
    """
    errors = truth[..., None] - values
    if deviation is not None:
        factors: Array = np.sqrt(np.square(errors[..., 0] / deviation).mean(axis=(0, 2)))
        # Errors of zero say nothing about the next ones.
        return np.where(factors > 0.0, factors, 1.0)[:, None]
    columns = [np.quantile(errors[..., k], level, axis=(0, 2)) for k, level in enumerate(levels)]
    return np.stack(columns, axis=1)


def correct(values: Array, deviation: Array | None, correction: Array | None) -> tuple[Array, Array | None]:
    """values and deviation, shapes as above, with what `corrections` found; None: as they are."""
    if correction is None:
        return values, deviation
    if deviation is not None:
        return values, deviation * correction
    return values + correction[:, None], None


def fit_apart(forecaster: Any, windows: Windows, weights: Array | None) -> tuple[Any, Windows]:
    """A clone of the forecaster, fitted on all but the last windows of each series, and these windows."""
    apart = clone(forecaster).set_params(calibrate=False, verbose=0, warm_start=False)
    for name in ("layout_", "horizon_", "n_features_in_"):
        setattr(apart, name, getattr(forecaster, name))
    train, held_out = forecaster._split(windows.targets, weights, 0, split=True)
    apart._training = subset(windows, train)
    apart._train(apart._training, None, None if weights is None else weights[train], None, None, resume=False)
    del apart._training
    return apart, subset(windows, held_out)


def subset(windows: Windows, rows: NDArray[np.int64]) -> Windows:
    """The named windows alone."""
    x = windows.x
    data = SequenceArrays(np.asarray(x.data)[rows], x.lengths[rows], x.features, x.name)
    return Windows(data, *(getattr(windows, name)[rows] for name in Windows._fields[1:]))
