"""Forests that the tests of trees share."""

from __future__ import annotations

import numpy as np


def random_tree(M: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Parents of a tree in which no node has more than `most` children; node 0 is the root."""
    parents = np.full(M, -1)
    free = [0] * most
    for node in range(1, M):
        parents[node] = free.pop(rng.integers(len(free)))
        free += [node] * most
    return parents


def shuffled(parents: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Parents when node order[k] becomes node k."""
    place = np.argsort(order)
    above = parents[order]
    return np.where(above < 0, -1, place[above])


def joined(*trees: np.ndarray) -> np.ndarray:
    """Parents of several trees as one forest."""
    starts = np.cumsum([0, *(len(tree) for tree in trees[:-1])])
    return np.concatenate([np.where(tree < 0, -1, tree + start) for tree, start in zip(trees, starts, strict=True)])


def random_positions(parents: np.ndarray, arity: int, rng: np.random.Generator) -> np.ndarray:
    """A place of its own for each child, gaps allowed; −1 for roots."""
    positions = np.full(len(parents), -1)
    for parent in set(parents[parents >= 0].tolist()):
        children = np.flatnonzero(parents == parent)
        positions[children] = rng.permutation(arity)[: len(children)]
    return positions


def chain(M: int) -> np.ndarray:
    """Node 0 at the bottom."""
    return np.append(np.arange(1, M), -1)


def star(leaves: int) -> np.ndarray:
    return np.append(-1, np.zeros(leaves, dtype=int))


def forests(most: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Of every kind; no node has more than `most` children."""
    rng = np.random.default_rng(seed)
    mixed = joined(random_tree(40, most, rng), chain(9), star(most), np.array([-1]), random_tree(23, most, rng))
    return {
        "one node": np.array([-1]),
        "nodes alone": np.full(5, -1),
        "chain": chain(17),
        "star": star(most),
        "tree": random_tree(31, most, rng),
        "forest in any order": shuffled(mixed, rng.permutation(len(mixed))),
    }
