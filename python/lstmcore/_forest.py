"""Trees as users hold them → one checked forest. NumPy only.

Shape letters: N trees, M nodes, I input features, A arity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Trees", "read_trees"]

Array = NDArray[Any]
Integers = NDArray[np.int64]


class Trees(NamedTuple):
    """N checked trees, their nodes one after another: a `_layer_network.Samples`."""

    x: Array  #: (ΣM, I), float32 or float64, finite
    parents: Integers  #: (ΣM,) within each tree; −1 for its root
    positions: Integers | None  #: (ΣM,) among siblings, −1 for roots; None where no tree came with any
    sizes: Integers  #: (N,) nodes of each tree, ≥ 1

    @property
    def lengths(self) -> Integers:
        return self.sizes

    @property
    def features(self) -> int:
        return int(self.x.shape[1])

    @property
    def starts(self) -> Integers:
        """(N,) first node of each tree."""
        return np.cumsum(self.sizes) - self.sizes

    @property
    def roots(self) -> Integers:
        """(N,) nodes."""
        return np.flatnonzero(self.parents < 0)

    def forest_parents(self) -> Integers:
        """(ΣM,) as TreeRecurrent takes them."""
        return np.where(self.parents < 0, -1, self.parents + np.repeat(self.starts, self.sizes))

    def subset(self, indices: Integers) -> Trees:
        """The named trees, in this order."""
        sizes = self.sizes[indices]
        nodes = np.arange(sizes.sum()) + np.repeat(self.starts[indices] - (np.cumsum(sizes) - sizes), sizes)
        positions = None if self.positions is None else self.positions[nodes]
        return Trees(self.x[nodes], self.parents[nodes], positions, sizes)

    def place(self, node: int) -> str:
        """ "[3]: node 5" """
        tree = int(np.searchsorted(self.starts, node, side="right")) - 1
        return f"[{tree}]: node {node - int(self.starts[tree])}"

    def check_arity(self, arity: int, name: str) -> None:
        """ValueError naming tree and node where a node has too many children, or positions are out of range."""
        if self.positions is not None:
            wrong = np.flatnonzero(self.positions >= arity)
            if len(wrong):
                raise ValueError(
                    f"{name}{self.place(wrong[0])} has position {self.positions[wrong[0]]}; expected 0 to {arity - 1}, "
                    f"since arity is {arity}."
                )
        children = self.children()
        wrong = np.flatnonzero(children > arity)
        if len(wrong):
            raise ValueError(f"{name}{self.place(wrong[0])} has {children[wrong[0]]} children; arity allows {arity}.")

    def children(self) -> Integers:
        """(ΣM,) number of children of each node."""
        above = self.forest_parents()
        return np.bincount(above[above >= 0], minlength=len(above))


def read_trees(X: Any, name: str, dtype: str) -> Trees:
    """Trees from a list of (features (M, I), parents (M,)) or (features, parents, positions (M,)).

    parents: index of each node's parent in its tree, −1 for the root; positions: 0 … A−1 among siblings, −1 for the
    root. Where some trees have positions, siblings of the others stand in the order of their indices.
    ValueError or TypeError naming the tree, the node and what is wrong.
    """
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        X = list(X)
    if not isinstance(X, (list, tuple)):
        raise TypeError(f"{name}: expected a list of trees, (features, parents) each, got {type(X).__name__}")
    if not X:
        raise ValueError(f"{name}: empty list; expected at least one tree")
    trees = [_read_tree(tree, f"{name}[{n}]") for n, tree in enumerate(X)]
    for n, (x, _, _) in enumerate(trees):
        if x.shape[1] != trees[0][0].shape[1]:
            raise ValueError(f"{name}[{n}]: {x.shape[1]} features, but {name}[0] has {trees[0][0].shape[1]}")
    sizes = np.array([len(x) for x, _, _ in trees], dtype=np.int64)
    with np.errstate(over="ignore"):
        x = np.concatenate([x for x, _, _ in trees]).astype(dtype, order="C")
    parents = np.concatenate([parents for _, parents, _ in trees])
    positions = None
    if any(positions is not None for _, _, positions in trees):
        positions = np.concatenate([_ranks(p) if given is None else given for _, p, given in trees])
    forest = Trees(x, parents, positions, sizes)
    _check(forest, name)
    return forest


def _read_tree(tree: Any, name: str) -> tuple[Array, Integers, Integers | None]:
    if not isinstance(tree, (tuple, list)) or len(tree) not in (2, 3):
        found = f"{len(tree)} parts" if isinstance(tree, (tuple, list)) else type(tree).__name__
        raise TypeError(f"{name}: expected (features, parents) or (features, parents, positions), got {found}")
    x = np.asarray(tree[0])
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name}: features: expected real numbers, got dtype {x.dtype}")
    if x.ndim != 2 or not x.size:
        raise ValueError(f"{name}: features: expected (M, I), M nodes of I numbers, none of them 0; got {x.shape}")
    parents = _integers(tree[1], len(x), f"{name}: parents")
    positions = None
    if len(tree) == 3 and tree[2] is not None:
        positions = _integers(tree[2], len(x), f"{name}: positions")
    return x, parents, positions


def _integers(value: Any, count: int, name: str) -> Integers:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got dtype {array.dtype}")
    if array.shape != (count,):
        raise ValueError(f"{name}: expected shape ({count},), one for each node, got {array.shape}")
    return array.astype(np.int64)


def _ranks(parents: Integers) -> Integers:
    """Position of each node among its siblings by index; −1 for the root."""
    order = np.argsort(parents, kind="stable")
    above = parents[order]
    ranks = np.empty(len(parents), dtype=np.int64)
    ranks[order] = np.arange(len(parents)) - np.searchsorted(above, above)
    return np.where(parents < 0, -1, ranks)


def _check(forest: Trees, name: str) -> None:
    parents, sizes = forest.parents, forest.sizes
    limit = np.repeat(sizes, sizes)
    wrong = np.flatnonzero((parents < -1) | (parents >= limit))
    if len(wrong):
        raise ValueError(
            f"{name}{forest.place(wrong[0])} has parent {parents[wrong[0]]}; expected -1 for the root, or a node from "
            f"0 to {limit[wrong[0]] - 1}."
        )
    tree = np.repeat(np.arange(len(sizes)), sizes)
    roots = np.bincount(tree[parents < 0], minlength=len(sizes))
    wrong = np.flatnonzero(roots != 1)
    if len(wrong):
        raise ValueError(f"{name}[{wrong[0]}]: {roots[wrong[0]]} nodes have parent -1; a tree has exactly one root.")
    _check_cycles(forest, name)
    if not np.isfinite(forest.x).all():
        node, feature = np.argwhere(~np.isfinite(forest.x))[0]
        raise ValueError(
            f"Input {name}{forest.place(int(node))}, feature {feature}: NaN, infinity or a value too large for "
            f"{forest.x.dtype}."
        )
    if forest.positions is not None:
        _check_positions(forest, forest.positions, name)


def _check_cycles(forest: Trees, name: str) -> None:
    above = forest.forest_parents()
    roots = above < 0
    reached = np.where(roots, np.arange(len(above)), above)
    for _ in range(int(forest.sizes.max()).bit_length()):  # 1, 2, 4, … steps up
        reached = reached[reached]
    wrong = np.flatnonzero(~roots[reached])
    if len(wrong):
        node = int(reached[wrong].min())  # on the cycle itself
        raise ValueError(f"{name}{forest.place(node)} is its own ancestor: the parents form a cycle.")


def _check_positions(forest: Trees, positions: Integers, name: str) -> None:
    roots = forest.parents < 0
    wrong = np.flatnonzero(np.where(roots, positions != -1, positions < 0))
    if len(wrong):
        expected = "-1, as a root has no place among siblings" if roots[wrong[0]] else "0 or more"
        raise ValueError(f"{name}{forest.place(wrong[0])} has position {positions[wrong[0]]}; expected {expected}.")
    inner = np.flatnonzero(~roots)
    above = forest.forest_parents()
    order = inner[np.lexsort((positions[inner], above[inner]))]
    same = (above[order[1:]] == above[order[:-1]]) & (positions[order[1:]] == positions[order[:-1]])
    if same.any():
        node = int(order[1:][same].min())
        raise ValueError(
            f"{name}{forest.place(node)} has position {positions[node]}, as a sibling of it has; expected each once."
        )
