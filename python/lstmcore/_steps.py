"""Sequences for networks with an output at every step: numbers, or tokens (text or integers). NumPy only.

Shape letters: N sequences, T time steps, I input features.

Numbers come as for every estimator of sequences (`_validation.read_sequences`). Text comes as N sequences of str:
lists, arrays, or one array (N, T). A tail of None or "" is padding, so the sequence is shorter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._validation import SequenceArrays, holds_text, read_sequences

__all__ = [
    "Steps",
    "Vocabulary",
    "as_characters",
    "as_list",
    "object_array",
    "read_steps",
    "step_grid",
    "steps_of",
]

Array = NDArray[Any]


def step_grid(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, T) positions of the steps of N stretches; past a stretch's length that of its last step."""
    steps = np.arange(lengths.max())
    result: NDArray[np.int64] = starts[:, None] + np.minimum(steps, lengths[:, None] - 1)
    return result


class Steps(NamedTuple):
    """N checked sequences, the steps of all of them one after the other."""

    values: Array  #: (steps, I) numbers; or (steps,) int64, positions in table
    table: Array | None  #: (distinct tokens,), or None for numbers
    starts: NDArray[np.int64]  #: (N,) first step of each
    lengths: NDArray[np.int64]  #: (N,) steps of each, at least 1
    extents: NDArray[np.int64]  #: (N,) the same, padding counted
    whole: bool  #: came as one array, without padding

    @property
    def features(self) -> int:
        """I; 1 for tokens."""
        return int(self.values.shape[1]) if self.table is None else 1

    def subset(self, indices: NDArray[np.int64]) -> Steps:
        """The named sequences; their steps stay where they are."""
        return self._replace(starts=self.starts[indices], lengths=self.lengths[indices], extents=self.extents[indices])

    def grid(self) -> NDArray[np.int64]:
        """(N, T) positions in values; past a sequence's length that of its last step."""
        return step_grid(self.starts, self.lengths)

    def as_tokens(self, name: str) -> Steps:
        """Numbers read as tokens: whole ones from 0 on, one a step. ValueError where they are not."""
        if self.table is not None:
            return self
        if self.features != 1:
            raise ValueError(
                f"{name} has {self.features} features a step. Tokens are one a step: text or integers >= 0; for "
                "sequences of features use inputs='features'."
            )
        values = self.values[:, 0]
        wrong = (values < 0) | (values != np.floor(values)) | (values >= 2**53)
        if wrong.any():
            step = int(np.argmax(wrong))
            raise ValueError(
                f"{name} has the token {values[step]:g}. Tokens are text or integers >= 0; for sequences of features "
                "use inputs='features'."
            )
        table, codes = np.unique(values.astype(np.int64), return_inverse=True)
        return self._replace(values=codes.reshape(-1).astype(np.int64), table=table)

    def split(self, rows: Array) -> Array:
        """(N,) objects: rows (N, T, …) cut to each sequence's steps, as arrays of their own."""
        return object_array(row[:length].copy() for row, length in zip(rows, self.lengths.tolist(), strict=True))


class Vocabulary:
    """Tokens that have a row of their own in the embedding; row 0 is for all others.

    tokens: (V,) distinct, text or integers, in the order of rows 1 … V.
    """

    def __init__(self, tokens: Array) -> None:
        self.tokens = tokens
        self._rows = {token: row for row, token in enumerate(tokens.tolist(), start=1)}
        self._last: tuple[Array, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, x: Steps) -> NDArray[np.int64]:
        """(steps,) row of the embedding of each step of x, which has tokens."""
        table = x.table
        assert table is not None
        last = self._last
        if last is None or last[0] is not table:  # all mini-batches share one table
            found = np.array([self._rows.get(token, 0) for token in table.tolist()], dtype=np.int64)
            last = self._last = (table, found)
        result: NDArray[np.int64] = last[1][x.values]
        return result


def object_array(items: Iterable[Any]) -> Array:
    """(N,) objects, also where all have one shape."""
    listed = list(items)
    result = np.empty(len(listed), dtype=object)
    for n, item in enumerate(listed):
        result[n] = item
    return result


def as_list(items: Any) -> Any:
    """A column of a pandas frame as an array; anything else as it is."""
    if getattr(items, "ndim", None) == 1 and hasattr(items, "to_numpy"):
        return items.to_numpy(dtype=object)
    return items


def as_characters(X: Any, name: str) -> Any:
    """Texts among N sequences → lists of their characters; anything else as it is."""
    X = as_list(X)
    if isinstance(X, np.ndarray) and (X.ndim != 1 or X.dtype.kind not in "UTO"):
        return X
    if not isinstance(X, (list, tuple, np.ndarray)) or not any(isinstance(item, str) for item in X):
        return X
    for n, item in enumerate(X):
        if not isinstance(item, (str, list, tuple, np.ndarray)):
            raise TypeError(f"{name}[{n}]: expected a text or a sequence of tokens, got {item!r:.40}")
        if not len(item):
            raise ValueError(f"{name}[{n}] is empty. Every sequence needs at least one character or token.")
    return [list(str(item)) if isinstance(item, str) else item for item in X]


def read_steps(X: Any, name: str, dtype: str) -> Steps:
    """X in any of the forms above. Errors name the argument, the sequence and the step."""
    if isinstance(X, (str, bytes)):
        raise TypeError(f"{name} is one text. Expected sequences of tokens: [{name}.split()] is one sequence.")
    if holds_text(X):
        return _read_text(X, name)
    return steps_of(read_sequences(X, name), dtype)


def steps_of(sequences: SequenceArrays, dtype: str) -> Steps:
    """Checked sequences of features as steps; ValueError where a value is too large for the dtype."""
    lengths, name = sequences.lengths, sequences.name
    if isinstance(sequences.data, list):
        values = np.concatenate([item[:length] for item, length in zip(sequences.data, lengths, strict=True)])
        extents = np.array([len(item) for item in sequences.data], dtype=np.int64)
    else:
        count, steps, _ = sequences.data.shape
        values = sequences.data[np.arange(steps) < lengths[:, None]]
        extents = np.full(count, steps, dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    largest = np.abs(values).max(axis=1) > np.finfo(dtype).max
    if largest.any():
        step = int(np.argmax(largest))
        n = int(np.searchsorted(starts, step, side="right")) - 1
        raise ValueError(
            f"Input {name}: sequence {n}, step {step - starts[n]} is too large for dtype('{dtype}'). Rescale it or use "
            "precision='float64'."
        )
    whole = not isinstance(sequences.data, list) and bool((lengths == extents).all())
    return Steps(values, None, starts, lengths, extents, whole)


def _read_text(X: Any, name: str) -> Steps:
    if isinstance(X, np.ndarray) and X.ndim not in (1, 2):
        raise ValueError(f"{name} has {X.ndim} dimensions (shape={X.shape}). Expected one token a step: (N, T).")
    codes: list[int] = []
    table: dict[Any, int] = {}
    lengths, extents = [], []
    for n, item in enumerate(X):
        if isinstance(item, (str, bytes)):
            raise TypeError(
                f"{name}[{n}] is one text, {str(item)[:40]!r}. Expected a sequence of tokens: cut it up, for example "
                "with split()."
            )
        if not isinstance(item, (list, tuple, np.ndarray)):
            raise TypeError(f"{name}[{n}]: expected a list or array of tokens, got {type(item).__name__}")
        tokens = item.tolist() if isinstance(item, np.ndarray) else list(item)
        extents.append(len(tokens))
        while tokens and (tokens[-1] is None or tokens[-1] == ""):
            tokens.pop()
        if not tokens:
            raise ValueError(f"{name}[{n}] has no token. Every sequence needs at least one.")
        for t, token in enumerate(tokens):
            if not isinstance(token, str) or not token:
                raise TypeError(
                    f"{name}[{n}], step {t}: expected text as in the steps before, got {token!r}. None and '' are "
                    "padding at the end of a sequence only."
                )
        lengths.append(len(tokens))
        codes += [table.setdefault(token, len(table)) for token in tokens]
    count = np.array(lengths, dtype=np.int64)
    extent = np.array(extents, dtype=np.int64)
    whole = isinstance(X, np.ndarray) and X.ndim == 2 and bool((count == extent).all())
    tokens_ = np.array(list(table), dtype=object)
    return Steps(np.array(codes, dtype=np.int64), tokens_, np.cumsum(count) - count, count, extent, whole)
