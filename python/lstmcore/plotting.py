"""Plots of what a fit did and of what a network does over time, with matplotlib (optional).

Nothing here touches ``matplotlib.pyplot``: no backend is chosen, no global figure is left behind, so the functions work
in scripts without a display, in notebooks and inside graphical programs alike. Without ``ax`` a new
``matplotlib.figure.Figure`` is made; it is the ``figure`` attribute of the axes returned::

    ax = lstmcore.plotting.plot_learning_curve(model)
    ax.figure.savefig("learning-curve.png", dpi=150)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .labelling.plots import plot_labels
from .translation.plots import plot_attention

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .diagnostics import GateStatistics, GradientFlow

__all__ = [
    "confusion_matrix_text",
    "plot_anomalies",
    "plot_attention",
    "plot_confusion_matrix",
    "plot_forecast",
    "plot_gate_saturation",
    "plot_gradient_flow",
    "plot_labels",
    "plot_learning_curve",
]

# Two hues that stay apart for colour-blind readers and in grey print (Okabe & Ito 2008).
_TRAINING, _VALIDATION = "#0072b2", "#d55e00"
_INK, _GRID = "#333333", "#e3e3e3"
_HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_LINES = ("-", "--", ":", "-.", (0, (1, 3)))


def plot_learning_curve(estimator: Any, ax: Axes | None = None, *, quantity: Literal["loss", "score"] = "loss") -> Axes:
    """Plot what a fitted estimator recorded after each epoch.

    Parameters
    ----------
    estimator : fitted estimator
        Its ``loss_curve_`` and, where it was fitted with validation data, ``validation_loss_curve_`` and
        ``validation_scores_`` are read.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.
    quantity : "loss" or "score", default "loss"
        "loss": training loss and, if there is one, validation loss. "score": validation score.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        The estimator recorded no such quantity.
    """
    if quantity not in ("loss", "score"):
        raise ValueError(f'quantity must be "loss" or "score", got {quantity!r}')
    training = _curve(estimator, "loss_curve_")
    if training is None:
        raise ValueError(
            f"estimator must be fitted: {type(estimator).__name__} has no loss_curve_ yet. Call fit() first"
        )
    if quantity == "score":
        scores = _curve(estimator, "validation_scores_")
        if scores is None:
            raise ValueError(
                "there are no validation_scores_ to plot: fit with eval_set=(X, y) or early_stopping=True, "
                'or plot quantity="loss"'
            )
        curves = [("validation", scores, _VALIDATION)]
    else:
        curves = [("training", training, _TRAINING)]
        validation = _curve(estimator, "validation_loss_curve_")
        if validation is not None:
            curves.append(("validation", validation, _VALIDATION))

    axes = _axes(ax, 6.4, 4.0)
    from matplotlib.ticker import MaxNLocator  # after _axes, which explains a missing matplotlib

    for label, values, colour in curves:
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, color=colour, linewidth=2, label=label, marker="o" if len(values) < 3 else None)
    label, values, colour = curves[-1]
    if label == "validation" and np.isfinite(values).any():
        best = int(np.nanargmax(values) if quantity == "score" else np.nanargmin(values))
        text = f"best: {values[best]:.4g} (epoch {best + 1})"
        axes.plot(
            best + 1, values[best], "o", color=colour, markersize=7, markeredgecolor="white", label=text, clip_on=False
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("score" if quantity == "score" else "loss")
    axes.set_xlim(0.5 if len(training) < 3 else 1, len(training) + (0.5 if len(training) < 3 else 0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if quantity == "loss" and all((values[np.isfinite(values)] >= 0).all() for _, values, _ in curves):
        axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _quiet_frame(axes)
    axes.legend(frameon=False)
    return axes


def plot_confusion_matrix(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    ax: Axes | None = None,
    *,
    labels: Sequence[Any] | None = None,
    normalize: bool = False,
) -> Axes:
    """Plot how often each class was taken for each other.

    The colour of a cell is its share of its row, so that rare classes show as clearly as frequent ones.

    Parameters
    ----------
    y_true, y_pred : arrays (N,)
        Labels and predictions.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.
    labels : sequence, optional
        The classes in the order of rows and columns. Default: all that occur, sorted.
    normalize : bool, default False
        Write the share of the row into each cell instead of the count.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        The arrays differ in length, are empty, or hold a class that is not in labels.
    """
    counts, names = _confusion(y_true, y_pred, labels)
    K = len(names)
    side = min(max(0.42 * K, 2.6), 14.0)
    axes = _axes(ax, side + 1.0, side + 1.1)
    totals = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(totals, 1)
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    if K <= 40:  # beyond that the figures could not be read
        for row, column in zip(*np.nonzero(counts), strict=True):
            text = f"{share[row, column]:.2f}" if normalize else str(counts[row, column])
            ink = "white" if share[row, column] > 0.55 else _INK
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=7 if normalize else 9)
    rotation = 45.0 if max(len(name) for name in names) > 4 else 0.0
    axes.set_xticks(np.arange(K), names, rotation=rotation, ha="right" if rotation else "center")
    axes.set_yticks(np.arange(K), names)
    axes.set_xticks(np.arange(K + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(K + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#f0f0f0", linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    accuracy = np.trace(counts) / counts.sum()
    axes.set_title(f"accuracy {accuracy:.3f} ({np.trace(counts)} of {counts.sum()})", fontsize=11, color=_INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def confusion_matrix_text(y_true: ArrayLike, y_pred: ArrayLike, *, labels: Sequence[Any] | None = None) -> str:
    """The confusion matrix as lines of text: a row for each true class, a column for each prediction, dots for zeros.

    Parameters and errors as for :func:`plot_confusion_matrix`; needs no matplotlib.
    """
    counts, names = _confusion(y_true, y_pred, labels)
    recall = np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
    width = max(max(len(name) for name in names), len(str(counts.max())), 2) + 1
    left = max(len("true"), max(len(name) for name in names))
    lines = [
        " " * left + "  predicted",
        "true".rjust(left) + " " + "".join(name.rjust(width) for name in names) + "   recall",
    ]
    for name, row, value in zip(names, counts, recall, strict=True):
        cells = "".join((str(count) if count else "·").rjust(width) for count in row)
        lines.append(name.rjust(left) + " " + cells + (f"{value:9.3f}" if row.sum() else "        -"))
    return "\n".join(lines)


def plot_gradient_flow(
    flow: GradientFlow, ax: Axes | None = None, *, quantity: Literal["jacobian", "loss"] = "jacobian"
) -> Axes:
    """Plot norms of gradients by lag on a logarithmic scale: a colour a layer, a dash a part of the state.

    Norms of zero cannot be shown there, and leave a gap.

    Parameters
    ----------
    flow : GradientFlow
        From `lstmcore.gradient_flow`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.
    quantity : "jacobian" or "loss", default "jacobian"
        "jacobian": ‖∂state_T/∂state_{T−lag}‖ of each part of the state with respect to itself. "loss":
        ‖∂loss/∂state_{T−lag}‖.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        An unknown quantity.
    """
    if quantity not in ("jacobian", "loss"):
        raise ValueError(f'quantity must be "jacobian" or "loss", got {quantity!r}')
    axes = _axes(ax, 6.4, 4.0)
    for place, layer in enumerate(flow.layers):
        for part, state in enumerate(layer.loss):
            norms = layer.jacobian[state][state] if quantity == "jacobian" else layer.loss[state]
            text = f"∂{state}$_T$ / ∂{state}$_t$" if quantity == "jacobian" else f"∂loss / ∂{state}$_t$"
            axes.plot(
                flow.lags,
                np.where(norms > 0.0, norms, np.nan),
                color=_HUES[place % len(_HUES)],
                linestyle=_LINES[part % len(_LINES)],
                linewidth=1.8,
                marker="o" if len(flow.lags) < 3 else None,
                label=text if len(flow.layers) == 1 else f"{layer.name}: {text}",
            )
    axes.set_yscale("log")
    axes.set_xlabel("lag T − t")
    axes.set_ylabel("norm of the Jacobian" if quantity == "jacobian" else "norm of the gradient")
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _quiet_frame(axes)
    axes.legend(frameon=False, fontsize=9)
    return axes


def plot_gate_saturation(statistics: GateStatistics, ax: Any = None) -> NDArray[Any]:
    """Plot, for each gate, how often each unit is wide open against how often it is shut.

    As figure 2 of Karpathy, Johnson & Fei-Fei (2015): a point for each unit, a colour for each layer and direction. At
    the origin a unit is never saturated; on the dashed line it always is.

    Parameters
    ----------
    statistics : GateStatistics
        From `lstmcore.gate_statistics`.
    ax : sequence of matplotlib.axes.Axes, optional
        One for each of ``statistics.gates``; by default in a new figure, side by side.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, one for each gate

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        Another number of axes than gates.
    """
    count = len(statistics.gates)
    if ax is None:
        first = _axes(None, 2.9 * count + 0.5, 3.3)
        figure = first.figure
        first.remove()
        panels = np.atleast_1d(np.asarray(figure.subplots(1, count, sharex=True, sharey=True), dtype=object))
    else:
        panels = np.atleast_1d(np.asarray(ax, dtype=object))
        if panels.shape != (count,):
            raise ValueError(f"ax: expected {count} axes, one for each of {statistics.gates}, got {panels.shape}")
    for gate, axes in zip(statistics.gates, panels, strict=True):
        axes.plot([0, 1], [1, 0], color="#bbbbbb", linewidth=0.8, linestyle="--")
        for place, layer in enumerate(statistics.layers):
            axes.scatter(
                layer.left[gate],
                layer.right[gate],
                s=26,
                color=_HUES[place % len(_HUES)],
                alpha=0.6,
                linewidths=0,
                label=layer.name,
                clip_on=False,
            )
        axes.set_title(f"gate {gate}", fontsize=11, color=_INK)
        axes.set_xlabel(f"fraction below {statistics.low:g}")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
        axes.set_aspect("equal")
        _quiet_frame(axes)
    panels[0].set_ylabel(f"fraction above {statistics.high:g}")
    if len(statistics.layers) > 1:
        panels[-1].legend(frameon=False, fontsize=9, handletextpad=0.1)
    return panels


def plot_forecast(
    forecaster: Any,
    X: Any = None,
    ax: Axes | None = None,
    *,
    actual: ArrayLike | None = None,
    coverage: float | None = None,
    series: int = 0,
    target: int = 0,
    past: Any = None,
    future: Any = None,
) -> Axes:
    """Plot the end of a series, its forecast and, where the network gives one, a prediction interval.

    Parameters
    ----------
    forecaster : fitted SequenceForecaster
    X, past, future : as for ``forecaster.predict``
        None: the series that it was fitted on or updated with, of which it keeps the last window.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.
    actual : array (n,), optional
        What came, from the step after the series' end on.
    coverage : float in (0, 1), optional
        Of the interval. Default: between the lowest and the highest level trained, or 0.8 for "gaussian".
    series, target : int, default 0
        Which of several to draw.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        There is no such series or target, or a coverage for which there are no quantiles.
    """
    from ._windows import read_panel

    axes = _axes(ax, 6.4, 3.6)
    mean = np.asarray(forecaster.predict(X, past=past, future=future))
    histories = [context.y for context in forecaster.context_] if X is None else read_panel(X).y
    N, I, H = len(histories), histories[0].shape[1], forecaster.horizon_
    for name, index, count in (("series", series, N), ("target", target, I)):
        if type(index) is not int or not 0 <= index < count:
            raise ValueError(f"{name}={index!r}: expected 0 to {count - 1}")
    history = histories[series][:, target]
    last = len(history) - 1
    # Joined to the last observation, or a forecast of one step would be no line.
    steps = np.arange(last, last + H + 1)

    def joined(values: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([[history[last]], values.reshape(N, H, I)[series, :, target]])

    if forecaster.loss in ("quantile", "gaussian"):
        levels = (0.1, 0.9) if forecaster.loss == "gaussian" else (forecaster.quantiles[0], forecaster.quantiles[-1])
        if coverage is not None:
            levels = (round(0.5 - coverage / 2, 9), round(0.5 + coverage / 2, 9))
        band = np.asarray(forecaster.predict_quantiles(X, levels, past=past, future=future))
        label = f"{levels[0]:.3g} to {levels[1]:.3g} quantile"
        axes.fill_between(
            steps, joined(band[..., 0]), joined(band[..., 1]), color=_VALIDATION, alpha=0.2, linewidth=0, label=label
        )
    elif coverage is not None:
        raise ValueError(f"coverage={coverage}: this network forecasts means. Fit with loss='quantile' or 'gaussian'")
    axes.plot(np.arange(len(history)), history, color=_TRAINING, linewidth=1.8, label="observed")
    axes.plot(steps, joined(mean), color=_VALIDATION, linewidth=1.8, label="forecast")
    if actual is not None:
        came = np.asarray(actual, dtype=np.float64).ravel()
        axes.plot(
            last + 1 + np.arange(len(came)), came, color=_TRAINING, linewidth=1.2, linestyle=":", label="what came"
        )
    axes.set_xlabel("step")
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _quiet_frame(axes)
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0.0, 1.0), fontsize=9)
    return axes


def plot_anomalies(detector: Any, X: Any, ax: Any = None, *, sequence: int = 0, feature: int = 0) -> NDArray[Any]:
    """Plot a sequence with its abnormal steps marked, and below it how abnormal each step is, with the threshold.

    Parameters
    ----------
    detector : fitted SequenceAnomalyDetector
    X : as for ``detector.fit``
    ax : sequence of two matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure, one above the other.
    sequence, feature : int, default 0
        Which of several to draw.

    Returns
    -------
    ndarray of two matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        There is no such sequence or feature, or another number of axes than two.
    """
    from ._validation import read_sequences

    sequences = read_sequences(X)
    for name, index, count in (
        ("sequence", sequence, len(sequences.lengths)),
        ("feature", feature, sequences.features),
    ):
        if type(index) is not int or not 0 <= index < count:
            raise ValueError(f"{name}={index!r}: expected 0 to {count - 1}")
    values = sequences.data[sequence][: int(sequences.lengths[sequence])]
    scores = -np.asarray(detector.score_steps([values])[0])
    if ax is None:
        first = _axes(None, 7.6, 4.4)
        figure = first.figure
        first.remove()
        panels = np.asarray(figure.subplots(2, 1, sharex=True, height_ratios=(3, 2)), dtype=object)
    else:
        panels = np.atleast_1d(np.asarray(ax, dtype=object))
        if panels.shape != (2,):
            raise ValueError(f"ax: expected two axes, for series and scores, got {panels.shape}")
    steps, marked = np.arange(len(values)), scores > -detector.step_offset_
    series, score = panels
    series.plot(steps, values[:, feature], color=_TRAINING, linewidth=1.2)
    label = f"abnormal: {int(marked.sum())} of {len(steps)} steps"
    series.plot(steps[marked], values[marked, feature], "o", color=_VALIDATION, markersize=4, label=label)
    series.set_ylabel("value" if sequences.features == 1 else f"feature {feature}")
    series.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    score.plot(steps, np.maximum(scores, 1e-3), color=_INK, linewidth=0.9)
    score.axhline(-detector.step_offset_, color=_VALIDATION, linewidth=1.2, linestyle="--", label="threshold")
    score.set_yscale("log")
    score.set_ylabel("− score")
    score.set_xlabel("step")
    score.legend(frameon=False, loc="upper left", fontsize=9)
    for axes in panels:
        axes.grid(axis="y", color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        _quiet_frame(axes)
    return panels


def _confusion(
    y_true: ArrayLike, y_pred: ArrayLike, labels: Sequence[Any] | None
) -> tuple[NDArray[np.int64], list[str]]:
    """Counts [K, K], rows true and columns predicted, and the names of the K classes."""
    truth, guess = np.asarray(y_true), np.asarray(y_pred)
    if truth.ndim != 1 or truth.shape != guess.shape or truth.size == 0:
        raise ValueError(
            "y_true and y_pred must be one-dimensional, of one length and not empty, "
            f"got shapes {truth.shape} and {guess.shape}"
        )
    classes = np.unique(np.concatenate([truth, guess])) if labels is None else np.asarray(labels)
    order = {label: k for k, label in enumerate(classes.tolist())}
    if len(order) != len(classes):
        raise ValueError(f"labels must not repeat, got {classes.tolist()}")
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for name, values in (("y_true", truth), ("y_pred", guess)):
        unknown = sorted(set(values.tolist()) - order.keys(), key=str)
        if unknown:
            raise ValueError(f"{name} holds classes that are not in labels: {unknown[:5]}. Add them to labels")
    np.add.at(counts, ([order[v] for v in truth.tolist()], [order[v] for v in guess.tolist()]), 1)
    return counts, [str(label) for label in classes.tolist()]


def _curve(estimator: Any, name: str) -> NDArray[np.float64] | None:
    values = getattr(estimator, name, None)
    if values is None or len(values) == 0:
        return None
    return np.asarray(values, dtype=np.float64)


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    """ax, or those of a new figure; sizes in inches."""
    if ax is not None:
        if not hasattr(ax, "plot"):
            raise TypeError(f"ax: expected matplotlib.axes.Axes or None, got {type(ax).__name__}")
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'plots need matplotlib: pip install matplotlib   (or pip install "lstmcore[demo]")'
        ) from error
    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def _quiet_frame(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#888888")
    axes.tick_params(color="#888888", labelcolor=_INK)
