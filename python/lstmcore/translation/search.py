"""What a decoder writes: greedy and beam search, all hypotheses of all sequences in one batch. NumPy only.

Shape letters: N sequences, B hypotheses of each, R = N·B rows, V outputs (0 is the end), K = V − 1 tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._dense_head import softmax

__all__ = ["Hypothesis", "Source", "beam_search", "greedy_search"]

Array = NDArray[Any]


class Source(NamedTuple):
    """What the decoder looks at."""

    values: Array  #: (N, S, E)
    keys: Array  #: (N, S, A)
    lengths: Array  #: (N,)


class Hypothesis(NamedTuple):
    """One prediction.

    tokens: (L,) indices; score: log probability, its end counted, divided by the length penalty; attention: (L, S)
    weights of the steps of X, or None.
    """

    tokens: NDArray[np.int64]
    score: float
    attention: Array | None


class Greedy(NamedTuple):
    tokens: NDArray[np.int64]  #: (L,)
    probabilities: Array  #: (L, K)


def _pick(state: Any, rows: Array) -> Any:
    """Rows of a decoder's state, see TranslatorNetwork.write_step."""
    if isinstance(state, tuple):
        return _pick(state[0], rows), np.ascontiguousarray(state[1][rows])
    return {name: np.ascontiguousarray(value[:, rows]) for name, value in state.items()}


def greedy_search(network: Any, x: Any, longest: int) -> list[Greedy]:
    """The most probable token at each step, until the end is, or for `longest` steps."""
    source, state = network.encode(x)
    count = len(source.lengths)
    tokens: list[list[int]] = [[] for _ in range(count)]
    probabilities: list[list[Array]] = [[] for _ in range(count)]
    rows = np.arange(count)
    reads = np.zeros(count, dtype=np.int64)
    for _ in range(longest):
        scores, state, _ = network.write_step(reads, state, source, rows)
        chances = softmax(scores)
        reads = np.argmax(scores, axis=1)
        goes_on = np.flatnonzero(reads > 0)
        for row in goes_on.tolist():
            tokens[rows[row]].append(int(reads[row]) - 1)
            probabilities[rows[row]].append(chances[row, 1:])
        if not len(goes_on):
            break
        if len(goes_on) < len(rows):
            rows, reads, state = rows[goes_on], reads[goes_on], _pick(state, goes_on)
    empty = np.zeros((0, int(network.config["outputs"]) - 1), dtype=source.values.dtype)
    return [
        Greedy(np.array(own, dtype=np.int64), np.stack(parts) if parts else empty)
        for own, parts in zip(tokens, probabilities, strict=True)
    ]


def penalty(length: Any, alpha: float) -> Any:
    """((5 + |y|) / 6)^alpha (Wu et al. 2016, equation 14); |y| counts the end."""
    return ((5.0 + length) / 6.0) ** alpha


def beam_search(
    network: Any, x: Any, longest: int, width: int, alpha: float, attention: bool = False
) -> list[list[Hypothesis]]:
    """At most `width` hypotheses of each sequence, the best first.

    Hypotheses that reach `longest` tokens end there. A sequence is done once no hypothesis that is still open can
    overtake those that are finished, however probable all that may follow.
    """
    source, state = network.encode(x)
    count, V = len(source.lengths), int(network.config["outputs"])
    attention = attention and network.config["attention"] is not None
    finished: list[list[tuple[float, int, Hypothesis]]] = [[] for _ in range(count)]
    open_ = np.arange(count)  # sequences
    totals = np.full((count, width), -np.inf)
    totals[:, 0] = 0.0
    state = _pick(state, np.repeat(open_, width))
    tokens = np.zeros((count, width, 0), dtype=np.int64)
    maps = np.zeros((count, width, 0, source.values.shape[1]), dtype=source.values.dtype)
    made = 0
    for t in range(longest + 1):
        n = len(open_)
        reads = np.zeros((n, width), dtype=np.int64) if t == 0 else tokens[:, :, -1] + 1
        scores, state, weights = network.write_step(reads.ravel(), state, source, np.repeat(open_, width))
        chances = _log_softmax(scores).reshape(n, width, V)
        if t == longest:
            chances[:, :, 1:] = -np.inf
        candidates = (totals[:, :, None] + chances).reshape(n, width * V)
        candidates = np.where(np.isnan(candidates), -np.inf, candidates)
        best = _largest(candidates, 2 * width)
        values = np.take_along_axis(candidates, best, axis=1)
        parents, outputs = best // V, best % V
        # Ended hypotheses among the candidates are finished; the best others go on.
        order = np.argsort(outputs == 0, axis=1, kind="stable")[:, :width]
        for i, k in zip(*np.nonzero((outputs == 0) & np.isfinite(values)), strict=True):
            own, parent = int(open_[i]), parents[i, k]
            kept = maps[i, parent].copy() if attention else None
            item = Hypothesis(tokens[i, parent].copy(), float(values[i, k] / penalty(t + 1, alpha)), kept)
            finished[own].append((-item.score, made, item))
            made += 1
        grows = np.take_along_axis(outputs, order, axis=1)
        # With few tokens there may be fewer candidates that go on than places.
        totals = np.where(grows > 0, np.take_along_axis(values, order, axis=1), -np.inf)
        parents = np.take_along_axis(parents, order, axis=1)
        index = np.arange(n)[:, None]
        tokens = np.concatenate([tokens[index, parents], np.maximum(grows - 1, 0)[:, :, None]], axis=2)
        if attention:
            assert weights is not None
            now = weights.reshape(n, width, -1)
            maps = np.concatenate([maps[index, parents], now[index, parents][:, :, None]], axis=2)
        for own in open_.tolist():
            finished[own] = sorted(finished[own])[:width]
        # No open one can become better than at the largest penalty.
        bound = totals.max(axis=1) / penalty(longest + 1, alpha)
        stays = [
            i
            for i, own in enumerate(open_.tolist())
            if np.isfinite(totals[i]).any() and (len(finished[own]) < width or bound[i] > -finished[own][-1][0])
        ]
        if t == longest or not stays:
            break
        rows = (np.array(stays)[:, None] * width + parents[stays]).ravel()
        state = _pick(state, rows)
        open_, totals, tokens, maps = open_[stays], totals[stays], tokens[stays], maps[stays]
    lengths = source.lengths
    result = [
        [
            item._replace(attention=None if item.attention is None else item.attention[:, : lengths[n]].copy())
            for _, _, item in found
        ]
        for n, found in enumerate(finished)
    ]
    # A network whose scores are not finite finds nothing: the empty output, as greedy search has it.
    nothing = Hypothesis(np.zeros(0, dtype=np.int64), float("nan"), maps[0, 0, :0] if attention else None)
    return [found or [nothing] for found in result]


def _log_softmax(scores: Array) -> Array:
    wide = scores.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    result: Array = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return result


def _largest(values: Array, count: int) -> Array:
    """Positions of the largest of each row, falling; equal ones in the order of the row."""
    if count < values.shape[1]:
        # Whatever equals the smallest that is taken stands behind by position, so that ties do not depend on partition.
        least = np.partition(values, values.shape[1] - count, axis=1)[:, -count][:, None]
        values = np.where(values >= least, values, -np.inf)
    return np.argsort(-values, axis=1, kind="stable")[:, :count]
