"""Sequences cut into pieces for training: what a network reads of each, and what it is to forecast. NumPy only.

Shape letters: N sequences, P pieces, T time steps, I input features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._steps import Steps, step_grid

__all__ = ["Pieces", "beginnings", "cut_pieces", "cut_steps", "whole"]

Array = NDArray[Any]


class Pieces(NamedTuple):
    """P stretches of N sequences, whose steps stand one after the other in values."""

    values: Array  #: (steps, I)
    starts: NDArray[np.int64]  #: (P,) first step that is forecast
    lengths: NDArray[np.int64]  #: (P,) steps of each, at least 1
    ends: NDArray[np.int64]  #: (P,) one past the last step of the piece's sequence
    table: None = None

    @property
    def features(self) -> int:
        """I."""
        return int(self.values.shape[1])

    def subset(self, indices: NDArray[np.int64]) -> Pieces:
        """The named pieces; their steps stay where they are."""
        return self._replace(
            starts=self.starts[indices],
            lengths=self.lengths[indices],
            ends=self.ends[indices],
        )

    def grid(self) -> NDArray[np.int64]:
        """(P, T) positions in values; past a piece's length that of its last step."""
        return step_grid(self.starts, self.lengths)

    def split(self, rows: Array) -> list[Array]:
        """Rows (P, T, …) cut to each piece's steps."""
        return [row[:length] for row, length in zip(rows, self.lengths.tolist(), strict=True)]


def whole(x: Steps) -> Pieces:
    """Every sequence of features as one piece."""
    return Pieces(x.values, x.starts, x.lengths, x.starts + x.lengths)


def cut_pieces(x: Pieces, steps: int | None) -> tuple[Pieces, NDArray[np.int64]]:
    """Pieces of at most so many steps, of a sequence nearly of one length, and the sequence of each. None: x itself."""
    first, lengths, sequence = _cuts(x.lengths, steps)
    return Pieces(x.values, x.starts[sequence] + first, lengths, x.ends[sequence]), sequence


def cut_steps(x: Steps, steps: int | None) -> tuple[Steps, NDArray[np.int64]]:
    """The same for sequences that need not be of features."""
    first, lengths, sequence = _cuts(x.lengths, steps)
    return x._replace(starts=x.starts[sequence] + first, lengths=lengths, extents=lengths), sequence


def _cuts(lengths: Array, steps: int | None) -> tuple[Array, Array, Array]:
    """First step within its sequence, length, and sequence of each piece."""
    counts = np.ones(len(lengths), dtype=np.int64) if steps is None else -(-lengths // steps)
    sequence = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)
    total, parts = lengths[sequence], counts[sequence]
    first, last = total * number // parts, total * (number + 1) // parts
    return first, last - first, sequence


def beginnings(x: Pieces, steps: int | None, length: int) -> tuple[Pieces, NDArray[np.int64]]:
    """Pieces of at most `length` steps as `cut_pieces` might begin them, eight times as many; and the sequence of each.

    Sequences that it does not cut begin where they begin.
    """
    stride = x.lengths if steps is None else np.where(x.lengths > steps, max(1, steps // 8), x.lengths)
    counts = -(-x.lengths // stride)
    sequence = np.repeat(np.arange(len(x.lengths)), counts)
    first = (np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)) * stride[sequence]
    lengths = np.minimum(x.lengths[sequence] - first, length)
    return Pieces(x.values, x.starts[sequence] + first, lengths, x.ends[sequence]), sequence
