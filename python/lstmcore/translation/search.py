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


def greedy_search(network: Any, x: Any, longest: int, want_probabilities: bool = True) -> list[Greedy]:
    """The most probable token at each step, until the end is, or for `longest` steps.

    Without want_probabilities all of them are empty.
    """
    source, state = network.encode(x)
    count, V = len(source.lengths), int(network.config["outputs"])
    tokens = np.zeros((count, longest), dtype=np.int64)
    lengths = np.zeros(count, dtype=np.int64)
    kept: list[tuple[Array, Array]] = []  # rows, and their probabilities at a step
    rows = np.arange(count)
    reads = np.zeros(count, dtype=np.int64)
    for t in range(longest):
        scores, state, _ = network.write_step(reads, state, source, rows)
        reads = np.argmax(scores, axis=1)
        goes_on = np.flatnonzero(reads > 0)
        if not len(goes_on):
            break
        if want_probabilities:
            kept.append((rows[goes_on], softmax(scores)[goes_on, 1:]))
        if len(goes_on) < len(rows):
            rows, reads, state = rows[goes_on], reads[goes_on], _pick(state, goes_on)
        tokens[rows, t] = reads - 1
        lengths[rows] = t + 1
    steps = len(kept) if want_probabilities else 0
    chances = np.zeros((count, steps, V - 1), dtype=source.values.dtype)
    for t, (present, values) in enumerate(kept):
        chances[present, t] = values
    return [
        Greedy(own[:length].copy(), parts[:length].copy())
        for own, parts, length in zip(tokens, chances, lengths.tolist(), strict=True)
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
    worst = np.full(count, -np.inf)  # score below which nothing more is kept of a sequence
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
        scores, state, weights = network.write_step(reads.ravel(), state, source, np.repeat(open_, width), attention)
        chances = _log_softmax(scores).reshape(n, width, V)
        if t == longest:
            chances[:, :, 1:] = -np.inf
        candidates = (totals[:, :, None] + chances).reshape(n, width * V)
        candidates = np.where(np.isnan(candidates), -np.inf, candidates)
        best = _largest(candidates, 2 * width)
        index = np.arange(n)[:, None]
        values, parents, outputs = candidates[index, best], best // V, best % V
        # Ended hypotheses among the candidates are finished; the best others go on.
        order = np.argsort(outputs == 0, axis=1, kind="stable")[:, :width]
        ended = values / penalty(t + 1, alpha)
        for i, k in np.argwhere((outputs == 0) & (ended > worst[open_][:, None])).tolist():
            own, parent, score = int(open_[i]), parents[i, k], float(ended[i, k])
            if score <= worst[own]:
                continue
            item = Hypothesis(tokens[i, parent].copy(), score, maps[i, parent].copy() if attention else None)
            finished[own] = sorted([*finished[own], (-score, made, item)])[:width]
            made += 1
            if len(finished[own]) == width:
                worst[own] = -finished[own][-1][0]
        grows = outputs[index, order]
        # With few tokens there may be fewer candidates that go on than places.
        totals = np.where(grows > 0, values[index, order], -np.inf)
        parents = parents[index, order]
        tokens = np.concatenate([tokens[index, parents], np.maximum(grows - 1, 0)[:, :, None]], axis=2)
        if attention:
            assert weights is not None
            now = weights.reshape(n, width, -1)
            maps = np.concatenate([maps[index, parents], now[index, parents][:, :, None]], axis=2)
        # No open one can become better than at the largest penalty.
        highest = totals.max(axis=1)
        stays = np.flatnonzero(np.isfinite(highest) & (highest / penalty(longest + 1, alpha) > worst[open_]))
        if t == longest or not len(stays):
            break
        rows = (stays[:, None] * width + parents[stays]).ravel()
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
    if count >= values.shape[1]:
        return np.argsort(-values, axis=1, kind="stable")[:, :count]
    least = np.partition(values, values.shape[1] - count, axis=1)[:, -count][:, None]
    # What equals the smallest that is taken is taken by position, so that ties do not depend on partition.
    above, equal = values > least, values == least
    taken = above | (equal & (np.cumsum(equal, axis=1) <= count - above.sum(axis=1, keepdims=True)))
    places: Array = np.nonzero(taken)[1].reshape(len(values), count)
    falling = np.argsort(-np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    result: Array = np.take_along_axis(places, falling, axis=1)
    return result
