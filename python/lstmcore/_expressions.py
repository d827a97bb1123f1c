"""Nested expressions with known values, as trees: a task whose answer depends on the structure."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["expression_tokens", "expression_values", "make_expression_trees"]

Tree = tuple[NDArray[np.float64], NDArray[np.int64]]
RandomState = int | np.random.Generator | None

# Tokens in the order of the features; the first ones are values, then operators with their number of operands.
_BOOLEAN = ({"0": 0, "1": 0, "not": 1, "and": 2, "or": 2, "xor": 2}, 2)


def _language(kind: str, modulus: int) -> tuple[dict[str, int], int]:
    """Tokens → number of operands, and how many values there are."""
    if kind == "boolean":
        return _BOOLEAN
    return {**{str(value): 0 for value in range(modulus)}, "+": 2, "-": 2, "*": 2}, modulus


def make_expression_trees(
    n_trees: int = 1000,
    *,
    depth: int | tuple[int, int] = 4,
    kind: Literal["boolean", "modular"] = "boolean",
    modulus: int = 5,
    branching: float = 0.7,
    targets: Literal["trees", "nodes"] = "trees",
    random_state: RandomState = None,
) -> tuple[list[Tree], Any]:
    """Random expressions such as ``(1 xor (not (0 and 1)))`` and their values.

    A leaf is a value, an inner node an operator over one (not) or two operands, and every node's features are its token
    as one of I indicators. Operands stand in the order of their indices, so that both kinds of `TreeRecurrent` read
    the trees as they are ("nary" with arity 2); the values of − differ when operands are exchanged.

    Parameters
    ----------
    n_trees : int, default 1000
    depth : int or (low, high), default 4
        Depth of each tree: steps from the root to its deepest leaf, ≥ 0. With a pair, each depth is equally likely.
    kind : {"boolean", "modular"}, default "boolean"
        Tokens 0, 1, not, and, or, xor (I = 6); or 0 … modulus − 1, +, −, * modulo `modulus` (I = modulus + 3).
    modulus : int, default 5
        Of "modular", ≥ 2.
    branching : float in [0, 1], default 0.7
        Probability that an operand is an expression itself where depth is left; one of them always is where the tree
        would not reach its depth otherwise.
    targets : {"trees", "nodes"}, default "trees"
        Values of whole trees, or of every node.
    random_state : int, numpy.random.Generator or None
        An int gives the same trees every time.

    Returns
    -------
    X : list of (features (M, I) float64, parents (M,) int64)
        The root is node 0, parents come before their children.
    y : ndarray (N,) of int64, or list of such arrays (M,)

    Raises
    ------
    ValueError
        For arguments out of range.

    Examples
    --------
    >>> X, y = make_expression_trees(3, depth=2, random_state=0)
    >>> features, parents = X[0]
    >>> features.shape[1], int(parents[0]), y.shape
    (6, -1, (3,))
    """
    low, high = depth if isinstance(depth, (tuple, list)) and len(depth) == 2 else (depth, depth)
    for name, value, least in (
        ("n_trees", n_trees, 1),
        ("depth", low, 0),
        ("depth", high, low),
        ("modulus", modulus, 2),
    ):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}. Got {value!r} instead.")
    if kind not in ("boolean", "modular"):
        raise ValueError(f"kind must be 'boolean' or 'modular'. Got {kind!r} instead.")
    if targets not in ("trees", "nodes"):
        raise ValueError(f"targets must be 'trees' or 'nodes'. Got {targets!r} instead.")
    if not 0.0 <= branching <= 1.0:
        raise ValueError(f"branching must lie in [0, 1]. Got {branching!r} instead.")
    rng = np.random.default_rng(random_state)
    X = [_grow(int(rng.integers(low, high + 1)), kind, modulus, branching, rng) for _ in range(n_trees)]
    values = [expression_values(tree, kind, modulus) for tree in X]
    return X, values if targets == "nodes" else np.array([value[0] for value in values])


def _grow(depth: int, kind: str, modulus: int, branching: float, rng: np.random.Generator) -> Tree:
    tokens, count = _language(kind, modulus)
    operands = list(tokens.values())
    chosen: list[int] = []
    parents: list[int] = []
    # (parent, depth that the subtree may have, whether it must have it)
    waiting = [(-1, depth, True)]
    while waiting:
        parent, left, deep = waiting.pop()
        node = len(chosen)
        parents.append(parent)
        inner = left > 0 and (deep or rng.random() < branching)
        token = int(rng.integers(count, len(operands)) if inner else rng.integers(count))
        chosen.append(token)
        deepest = int(rng.integers(operands[token])) if inner and deep else -1
        # Last in, first out: the first operand on top, so that it gets the lower index.
        waiting += [(node, left - 1, k == deepest) for k in reversed(range(operands[token]))]
    return np.eye(len(operands))[chosen], np.array(parents, dtype=np.int64)


def expression_values(
    tree: Tree, kind: Literal["boolean", "modular"] = "boolean", modulus: int = 5
) -> NDArray[np.int64]:
    """Value of every node of a tree of `make_expression_trees`: (M,)."""
    tokens, _ = _language(kind, modulus)
    names = list(tokens)
    features, parents = tree
    chosen = features.argmax(axis=1)
    operands: list[list[int]] = [[] for _ in parents]
    values = np.zeros(len(parents), dtype=np.int64)
    for node in range(len(parents) - 1, -1, -1):  # children come after their parents
        below = operands[node][::-1]
        name = names[chosen[node]]
        if name == "not":
            value = 1 - below[0]
        elif name in ("and", "*"):
            value = below[0] * below[1]
        elif name == "or":
            value = max(below)
        elif name == "+":
            value = below[0] + below[1]
        elif name in ("xor", "-"):
            value = below[0] - below[1]
        else:
            value = int(name)
        values[node] = value % (2 if kind == "boolean" else modulus)
        if parents[node] >= 0:
            operands[parents[node]].append(int(values[node]))
    return values


def expression_tokens(
    tree: Tree, kind: Literal["boolean", "modular"] = "boolean", modulus: int = 5
) -> NDArray[np.float64]:
    """The expression written out with brackets: what a sequence model reads in place of the tree, (T, I + 2).

    Each step is one token as an indicator; features are those of the tree, "(" and ")". An operator of two operands
    stands between them, "not" before its own.
    """
    features, parents = tree
    operators = len(_language(kind, modulus)[0])
    children: list[list[int]] = [[] for _ in parents]
    for node in range(1, len(parents)):
        children[parents[node]].append(node)
    chosen = features.argmax(axis=1)
    text: list[int] = []
    # Nodes as they are, tokens as −1 − token.
    waiting = [0]
    while waiting:
        item = waiting.pop()
        if item < 0:
            text.append(-1 - item)
            continue
        token, below = -1 - int(chosen[item]), children[item]
        opening, closing = -1 - operators, -2 - operators
        if not below:
            written = [token]
        elif len(below) == 1:
            written = [opening, token, below[0], closing]
        else:
            written = [opening, below[0], token, below[1], closing]
        waiting += written[::-1]
    return np.eye(operators + 2)[text]
