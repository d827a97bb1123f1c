"""Series as users hold them → windows that a network reads, and the numbers that follow them. NumPy only.

A window ends at its origin, the last step that is known. Everything a network gets is made by `Layout.inputs`, which is
handed the steps up to the origin and nothing later, known-future inputs excepted: there is no way for the future of a
series to leak into its past.

Shape letters beside those of the project: R windows, W steps of a window, P past inputs, F known-future inputs,
`horizon` steps ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._validation import SequenceArrays, check_count, read_sequences

__all__ = ["Layout", "Panel", "Windows", "cut_windows", "read_ahead", "read_panel"]

Array = NDArray[Any]

_FRAMES = (
    "For one series pass a column, frame['name']; for the columns as N series frame.to_numpy().T; for long format "
    "lstmcore.converters.from_pandas(frame, id=…, time=…)."
)


class Panel(NamedTuple):
    """N series: targets (T_i, I), past inputs (T_i, P), known-future inputs (T_i or more, F); float64."""

    y: list[Array]
    past: list[Array]
    future: list[Array]
    single: bool  #: given as one series, without an axis for N


class Windows(NamedTuple):
    """R windows of training: what the network reads and what it is to give."""

    x: SequenceArrays
    targets: Array  #: (R, horizon·I), on the scale of the window
    series: NDArray[np.int64]  #: (R,) which series a window is of
    origins: NDArray[np.int64]  #: (R,) last step it knows
    location: Array  #: (R, horizon, I)
    scale: Array  #: (R, 1, I)


@dataclass(frozen=True)
class Layout:
    """What a window is made of."""

    window: int  #: W
    horizon: int  #: steps ahead that the network itself gives
    scaling: str
    season: int  #: 0: none
    targets: int  #: I
    past: int  #: P
    future: int  #: F

    @property
    def history(self) -> int:
        """Known steps that a window needs: seasonal differences reach back a season further."""
        return max(self.window + self.season, 1)

    def inputs(self, y: Array, past: Array, future: Array) -> tuple[Array, Array, Array]:
        """Windows as the network reads them.

        Parameters
        ----------
        y : (R, history, I)
            Targets up to the origin.
        past : (R, history, P)
            Past inputs up to the origin, standardised.
        future : (R, history + horizon, F)
            Known-future inputs up to the last step that is forecast, standardised.

        Returns
        -------
        x : (R, W, C), or (R, W + horizon, C) with known-future inputs
            At each step: scaled targets; their scaled differences to the season before; past inputs; known-future
            inputs and whether the step lies after the origin. What is not known after the origin is 0 there.
        location : (R, horizon, I), scale : (R, 1, I)
            A forecast is location + scale · output.
        """
        W, season = self.window, self.season
        recent = y[:, -W:]
        level, scale = _level_and_scale(recent, self.scaling)
        channels = [(recent - level) / scale]
        if season:
            channels.append((recent - y[:, -W - season : -season]) / scale)
            ahead = np.arange(self.horizon) % season
            location = y[:, y.shape[1] - season + ahead]
        else:
            location = np.broadcast_to(level, (len(y), self.horizon, self.targets))
        if self.past:
            channels.append(past[:, -W:])
        x = np.concatenate(channels, axis=2)
        if self.future:
            known = np.concatenate([x, np.zeros((len(x), self.horizon, x.shape[2]))], axis=1)
            after = np.zeros((*known.shape[:2], 1))
            after[:, W:] = 1.0
            x = np.concatenate([known, future[:, -W - self.horizon :], after], axis=2)
        return x, location, scale

    def features(self) -> int:
        """Channels C of `inputs`."""
        return self.targets * (2 if self.season else 1) + self.past + (self.future + 1 if self.future else 0)


def _level_and_scale(recent: Array, scaling: str) -> tuple[Array, Array]:
    """(R, 1, I) each."""
    mean = recent.mean(axis=1, keepdims=True)
    size = np.abs(recent).mean(axis=1, keepdims=True)
    if scaling == "none":
        return np.zeros_like(mean), np.ones_like(mean)
    if scaling == "mean":
        return np.zeros_like(mean), np.where(size > 0, size, 1.0)
    deviation = recent.std(axis=1, keepdims=True)
    # A window that (almost) stands still would make whatever follows huge.
    scale = np.maximum(deviation, 1e-4 * size)
    return (recent[:, -1:] if scaling == "last" else mean), np.where(scale > 0, scale, 1.0)


# --- reading ---------------------------------------------------------------------------------------------------------


def read_panel(X: Any, past: Any = None, future: Any = None, ahead: int | None = None, prefix: str = "") -> Panel:
    """Series and their inputs, checked against each other.

    ahead: None: future may cover T_i steps or more; else it covers T_i + ahead exactly. prefix: of names in errors.
    """
    name = prefix + "X"
    single, sequences = _read_form(X, name)
    y = _as_list(sequences)
    lengths = [len(item) for item in y]
    inputs = []
    for given, label in ((past, prefix + "past"), (future, prefix + "future")):
        if given is None:
            inputs.append([np.zeros((length, 0)) for length in lengths])
            continue
        items = _read_inputs(given, label, single)
        check_count(len(items), label, len(y), name)
        for n, (item, length) in enumerate(zip(items, lengths, strict=True)):
            least = length + (ahead or 0) if given is future else length
            exact = given is past or ahead is not None
            if len(item) != least if exact else len(item) < least:
                more = f" + {ahead} steps ahead" if given is future and ahead else ""
                raise ValueError(
                    f"{label}: series {n} has {len(item)} steps. Expected {'' if exact else 'at least '}{least}: one "
                    f"row for each of the {length} steps of {name}{more}, the first at the series' first step."
                )
        inputs.append(items)
    if future is None and ahead:
        inputs[1] = [np.zeros((length + ahead, 0)) for length in lengths]
    return Panel(y, inputs[0], inputs[1], single)


def read_ahead(following: Any, panel: Panel, name: str, horizon: int | None = None) -> list[Array]:
    """(n_i, I) values after each series; horizon: how many there must be."""
    if panel.single:
        values = np.asarray(following)
        items = _as_list(read_sequences(values.reshape(1, -1) if values.ndim <= 1 else [values], name))
    else:
        if not isinstance(following, (list, tuple)):
            following = np.asarray(following)
        if getattr(following, "ndim", 1) and all(np.ndim(item) == 0 for item in following):
            following = np.asarray(following)[:, None]  # one value a series
        items = _as_list(read_sequences(following, name))
    check_count(len(items), name, len(panel.y), "X")
    for n, (item, y) in enumerate(zip(items, panel.y, strict=True)):
        if item.shape[1] != y.shape[1] or (horizon is not None and len(item) != horizon):
            steps = "n" if horizon is None else str(horizon)
            raise ValueError(
                f"{name}: what follows series {n} has shape {item.shape} (steps, targets). Expected "
                f"({steps}, {y.shape[1]})" + ("" if horizon is None else f", horizon={horizon}") + "."
            )
    return items


def _read_form(X: Any, name: str) -> tuple[bool, SequenceArrays]:
    """Whether X is one series, and the series."""
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        raise ValueError(f"{name} is a data frame, which does not say what its series are. {_FRAMES}")
    if isinstance(X, (list, tuple)) and len(X) == 0:
        raise ValueError(f"{name} is empty: found 0 sample(s) (series). Pass one series (T,), or N of them.")
    if not isinstance(X, (list, tuple)) or all(np.ndim(item) == 0 for item in X):
        values = np.asarray(X) if not hasattr(X, "toarray") else X
        if getattr(values, "ndim", 2) == 0:
            raise ValueError(
                f"{name} is a single number, {X!r}. Expected a series (T,), N series (N, T) or (N, T, I), or a list of "
                "them. Reshape your data: a series of one step is [x]."
            )
        if values.ndim == 1 and (values.dtype != object or all(np.ndim(item) == 0 for item in values)):
            if values.size == 0:
                raise ValueError(f"{name} is empty: found 0 sample(s) (steps). Pass the series' values.")
            sequences = read_sequences(values[None, :], name)
            if sequences.lengths[0] != len(values):
                raise ValueError(
                    f"{name}: step {sequences.lengths[0]} and all after it are NaN. One series has nothing to pad: cut "
                    "them off, X[:n], or fill them."
                )
            return True, sequences
        if values.ndim == 2 and values.shape[1] == 0:
            raise ValueError(
                f"Found array {name} with 0 feature(s) (shape={values.shape}) while a minimum of 1 is required: its "
                "rows are series, and they have no steps."
            )
    return False, read_sequences(X, name)


def _read_inputs(given: Any, label: str, single: bool) -> list[Array]:
    if hasattr(given, "iloc") and hasattr(given, "columns"):
        if not single:
            raise ValueError(f"{label} is a data frame, which does not say what its series are. {_FRAMES}")
        given = given.to_numpy()
    if single:
        values = np.asarray(given)
        if values.ndim not in (1, 2):
            raise ValueError(f"{label} has shape {values.shape}. Expected (T,) or (T, columns), as X is one series.")
        return _complete(read_sequences([values], label), label, [len(values)])
    if isinstance(given, (list, tuple)) and len(given) == 0:
        raise ValueError(f"{label} is empty. Expected one array (T_i, columns) for each series of X.")
    return _as_list(read_sequences(given, label))


def _complete(sequences: SequenceArrays, label: str, lengths: Sequence[int]) -> list[Array]:
    """An input of one series has nothing to pad, so a NaN tail is a gap."""
    if list(sequences.lengths) != list(lengths):
        raise ValueError(f"{label}: step {sequences.lengths[0]} and all after it are NaN. Fill them.")
    return _as_list(sequences)


def _as_list(sequences: SequenceArrays) -> list[Array]:
    return [
        np.array(item[:length], dtype=np.float64)
        for item, length in zip(sequences.data, sequences.lengths.tolist(), strict=True)
    ]


# --- windows ---------------------------------------------------------------------------------------------------------


def cut_windows(panel: Panel, layout: Layout, stride: int, dtype: str, name: str = "X") -> Windows:
    """Every window of every series whose horizon is known, each `stride`-th; the last one always is among them.

    ValueError where no series is long enough.
    """
    history, horizon = layout.history, layout.horizon
    needed = history + horizon
    parts: list[tuple[Array, ...]] = []
    for n, (y, past, future) in enumerate(zip(panel.y, panel.past, panel.future, strict=True)):
        if len(y) < needed:
            continue
        starts = np.arange(len(y) - needed, -1, -stride)[::-1]
        steps = starts[:, None] + np.arange(needed)
        x, location, scale = layout.inputs(y[steps[:, :history]], past[steps[:, :history]], future[steps])
        targets = (y[steps[:, history:]] - location) / scale
        parts.append(
            (
                x.astype(dtype),
                targets.reshape(len(starts), -1),
                np.full(len(starts), n),
                starts + history - 1,
                np.array(location),
                scale,
            )
        )
    if not parts:
        longest = max(len(y) for y in panel.y)
        season = f" + season_length={layout.season}" if layout.season else ""
        raise ValueError(
            f"{name}: the {'series has' if len(panel.y) == 1 else 'longest series has'} {longest} steps, but training "
            f"needs at least window={layout.window}{season} + {horizon} step(s) ahead = {needed}. Use a smaller "
            "window, or longer series."
        )
    x, targets, series, origins, location, scale = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not np.isfinite(x).all() or not np.isfinite(targets).all():
        raise ValueError(f"{name}: scaled values are too large for {dtype}. Use scaling='standard', or rescale {name}.")
    lengths = np.full(len(x), x.shape[1], dtype=np.int64)
    return Windows(SequenceArrays(x, lengths, x.shape[2], name), targets, series, origins, location, scale)
