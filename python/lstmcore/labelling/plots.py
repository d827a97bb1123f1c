"""`plotting.plot_labels`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_labels"]

# With more labels than this a legend names those alone that are probable somewhere.
_NAMED = 10


def plot_labels(estimator: Any, X: Any, y: Any = None, ax: Axes | None = None, *, sequence: int = 0) -> Axes:
    """Plot the probability of each label along one sequence, and below it what is predicted.

    Of a SequenceTranscriber the grey dotted line is the probability of no label, and its labels stand in the title.

    Parameters
    ----------
    estimator : fitted SequenceTagger or SequenceTranscriber
    X : as for ``estimator.fit``
    y : as for ``estimator.fit``, optional
        What is right: marks steps of a tagger that are wrong, and stands beside a transcriber's labels.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.
    sequence : int, default 0
        Which sequence of X.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        There is no such sequence, y has another number of sequences or steps.
    TypeError
        The estimator is another one.
    """
    from ..plotting import _GRID, _INK, _VALIDATION, _axes, _quiet_frame

    if not hasattr(estimator, "plot_labels"):
        raise TypeError(f"estimator: expected a SequenceTagger or SequenceTranscriber, got {type(estimator).__name__}")
    probabilities = estimator.predict_proba(X)
    if type(sequence) is not int or not 0 <= sequence < len(probabilities):
        raise ValueError(f"sequence={sequence!r}: expected an int from 0 to {len(probabilities) - 1}")
    if y is not None and not hasattr(y, "__len__"):
        raise TypeError(f"y: expected N sequences of labels or None, got {type(y).__name__}")
    if y is not None and len(y) != len(probabilities):
        raise ValueError(f"y has {len(y)} sequences, but X has {len(probabilities)}")
    rows = np.asarray(probabilities[sequence], dtype=np.float64)
    found = list(estimator.predict(X)[sequence])
    truth = None if y is None else list(y[sequence])
    each_step = len(found) == len(rows) and hasattr(estimator, "crf")
    if each_step and truth is not None and len(truth) < len(rows):
        raise ValueError(f"y[{sequence}] has {len(truth)} labels, but X[{sequence}] has {len(rows)} steps")
    axes = _axes(ax, 7.2, 3.0)
    steps, labels = np.arange(len(rows)), estimator.classes_.tolist()
    named = range(len(labels)) if len(labels) <= _NAMED else np.argsort(-rows.max(axis=0), kind="stable")[:_NAMED]
    for k, label in enumerate(labels):
        name = str(label) if k in named else None
        axes.plot(steps, rows[:, k], marker="o" if len(rows) == 1 else None, color=f"C{k % 10}", lw=1.6, label=name)
    if each_step:
        places = {label: k for k, label in enumerate(labels)}
        axes.scatter(steps, np.full(len(steps), -0.06), marker="s", s=14, c=[f"C{places[x] % 10}" for x in found])
        if truth is not None:
            wrong = np.array([a != b for a, b in zip(found, truth, strict=False)])
            marked: dict[str, Any] = {
                "marker": "x",
                "s": 28,
                "color": _VALIDATION,
                "label": f"wrong: {int(wrong.sum())} of {len(wrong)}",
            }
            axes.scatter(steps[wrong], np.full(int(wrong.sum()), -0.13), **marked)
    else:
        axes.plot(steps, 1.0 - rows.sum(axis=1), color="0.6", lw=1.2, linestyle=":", label="none")
        title = "read: " + " ".join(map(str, found))
        axes.set_title(title + ("" if truth is None else "      right: " + " ".join(map(str, truth))), fontsize=10)
    axes.set(xlabel="step", ylabel="probability", ylim=(-0.18 if each_step else -0.03, 1.03))
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), labelcolor=_INK)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _quiet_frame(axes)
    return axes
