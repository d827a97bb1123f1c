"""`plotting.plot_attention`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_attention"]


def plot_attention(
    source: str | Sequence[Any], output: str | Sequence[Any], attention: ArrayLike, ax: Axes | None = None
) -> Axes:
    """Plot which steps of X a `SequenceTranslator` looked at when it wrote each token.

    Parameters
    ----------
    source : str or sequence of S tokens
        What was translated: labels of the columns. For features, whatever shall stand there, ``range(S)`` for example.
    output : str or sequence of L tokens
        The translation: labels of the rows.
    attention : array-like (L, S)
        Weights, as `SequenceTranslator.decode` with ``return_attention=True`` gives them.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        attention is not (L, S), or holds what is no number from 0 to 1.

    Examples
    --------
    >>> from lstmcore.plotting import plot_attention
    >>> plot_attention("ab", "BA", [[0.1, 0.9], [1.0, 0.0]]).figure.savefig("attention.png")
    """
    from ..plotting import _INK, _axes

    weights = np.asarray(attention, dtype=np.float64)
    columns, rows = [str(token) for token in source], [str(token) for token in output]
    if weights.shape != (len(rows), len(columns)) or not weights.size:
        raise ValueError(
            f"attention: expected ({len(rows)}, {len(columns)}), a row for each token of output and a column for each "
            f"of source, got {weights.shape}. decode(…, return_attention=True) gives it"
        )
    if not ((weights >= 0.0) & (weights <= 1.0 + 1e-6)).all():
        raise ValueError("attention: expected weights from 0 to 1")
    axes = _axes(ax, max(3.0, 1.4 + 0.24 * len(columns)), max(2.0, 0.6 + 0.24 * len(rows)))
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="equal", interpolation="nearest")
    # A space would leave a column without a name.
    axes.set_xticks(range(len(columns)), [name if name.strip() else "␣" for name in columns], fontsize=9)
    axes.set_yticks(range(len(rows)), [name if name.strip() else "␣" for name in rows], fontsize=9)
    if max(map(len, columns)) > 2:
        axes.tick_params(axis="x", labelrotation=90)
    axes.tick_params(length=0, labelcolor=_INK)
    axes.xaxis.tick_top()
    for side in axes.spines.values():
        side.set_color("#cccccc")
    # As high as the map, whatever its shape, and a third of a cell wide.
    beside = axes.inset_axes((1.0 + 0.3 / len(columns), 0.0, 0.33 / len(columns), 1.0))
    bar = axes.figure.colorbar(image, cax=beside, ticks=(0.0, 0.5, 1.0), format="%.1f")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=_INK)
    return axes
