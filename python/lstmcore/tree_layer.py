"""The tree layer: `_core.TreeRecurrent`.

Shape letters: M nodes of a forest, I input features, H hidden units, A arity.
"""

from __future__ import annotations

from . import _core

__all__ = ["TreeRecurrent"]


class TreeRecurrent(_core.TreeRecurrent):
    """A tree-LSTM (Tai, Socher & Manning, 2015) over a forest, with forward and backward.

    Parameters
    ----------
    kind : {"child_sum", "nary"}, default "child_sum"
        "child_sum" adds up the h of any number of children, whose order does not matter; "nary" has weights of its own
        for each child's position.
    input_size, hidden_size : int
        I and H.
    arity : int, optional
        A, the most children that a node may have: required for "nary", not allowed for "child_sum".
    dtype : {"float32", "float64"}, default "float32"
        Of weights, inputs and states.
    seed : int, default 0
        Of the initial weights.
    n_threads : int or None
        Upper bound; None follows OMP_NUM_THREADS, else all cores. Results do not depend on it.

    Attributes
    ----------
    parameters : dict of str to ndarray
        Views of the live weights: "W" (4·H, I) and "b" (4·H,) with row blocks i, f, u, o, and "U": (4·H, H) for
        "child_sum", ((3 + A)·H, A·H) for "nary", with row blocks i, f_1 … f_A, u, o and a column block for each child.
    gates : tuple of str
        Order of the row blocks of W and b.

    Examples
    --------
    >>> import numpy as np, lstmcore
    >>> layer = lstmcore.TreeRecurrent("child_sum", input_size=3, hidden_size=8)
    >>> x, parents = np.ones((5, 3), dtype="float32"), [2, 2, -1, 4, -1]  # two trees: 2 over 0 and 1, 4 over 3
    >>> h, state = layer.forward(x, parents)
    >>> h.shape, state["c"].shape
    ((5, 8), (5, 8))
    """
