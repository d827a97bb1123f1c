"""Frames and panels of other libraries → lists of (T_i, I) arrays, which every estimator takes.

Conversion is explicit because the forms cannot be told apart by looking: a frame may have a sequence in each row, or
one time step. Nothing here imports pandas or sktime; their objects bring what is needed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["from_pandas", "from_sktime"]

Array = NDArray[Any]
Sequences = list[Array]


@overload
def from_pandas(
    frame: Any,
    id: Hashable | None = ...,
    time: Hashable | None = ...,
    features: Iterable[Hashable] | None = ...,
    *,
    return_ids: Literal[False] = ...,
) -> Sequences: ...
@overload
def from_pandas(
    frame: Any,
    id: Hashable | None = ...,
    time: Hashable | None = ...,
    features: Iterable[Hashable] | None = ...,
    *,
    return_ids: Literal[True],
) -> tuple[Sequences, Array]: ...


def from_pandas(
    frame: Any,
    id: Hashable | None = None,
    time: Hashable | None = None,
    features: Iterable[Hashable] | None = None,
    *,
    return_ids: bool = False,
) -> Sequences | tuple[Sequences, Array]:
    """Frame in long format, one row a time step → one array for each sequence.

    Parameters
    ----------
    frame : pandas.DataFrame
        Each row is a step of the sequence that `id` names.
    id : hashable or None
        Column, or level of the index, that says which sequence a row belongs to. None: the first level of a two-level
        index.
    time : hashable or None
        Column, or level of the index, that sorts the steps of a sequence; equal times in one sequence are an error.
        None: the second level of a two-level index if `id` is None too, else the order of the rows.
    features : list of column names or None
        Columns to take, in this order. None: all columns but `id` and `time`.
    return_ids : bool, default False
        Whether to return the ids too.

    Returns
    -------
    sequences : list of N arrays (T_i, I), float32 if all columns are, else float64
        In the order in which their ids first appear.
    ids : ndarray (N,)
        The id of each; only with ``return_ids=True``. To bring labels into the same order: ``labels.loc[ids]``.

    Raises
    ------
    TypeError, ValueError
        Not a frame, names that are not there, missing ids or times, columns that are not numeric.

    Examples
    --------
    >>> import pandas as pd
    >>> from lstmcore.converters import from_pandas
    >>> frame = pd.DataFrame({"trip": [7, 7, 5], "t": [1, 0, 0], "speed": [2.0, 1.0, 3.0]})
    >>> [x.tolist() for x in from_pandas(frame, id="trip", time="t")]
    [[[1.0], [2.0]], [[3.0]]]
    """
    _check_frame(frame, "frame")
    if id is None:
        if frame.index.nlevels != 2:
            raise ValueError(
                "from_pandas: pass id=, the column that tells which sequence a row belongs to. Without it the frame "
                f"needs an index of two levels (sequence, time); it has {frame.index.nlevels}."
            )
        ids = frame.index.get_level_values(0)
        id_columns: list[Hashable] = []
        times, time_columns = (frame.index.get_level_values(1), []) if time is None else _column(frame, time, "time")
    else:
        ids, id_columns = _column(frame, id, "id")
        times, time_columns = (None, []) if time is None else _column(frame, time, "time")
    used = {*id_columns, *time_columns}
    columns = [name for name in frame.columns if name not in used] if features is None else list(features)
    values = _values(frame, columns)
    for name, keys in (("id", ids), ("time", times)):
        if keys is not None and bool(np.any(keys.isna())):
            raise ValueError(f"from_pandas: {name} is missing in row {int(np.argmax(np.asarray(keys.isna())))}.")

    # Codes number the ids by first appearance, so a stable sort keeps both that order and that of the rows.
    codes, distinct = ids.factorize()
    if times is None:
        order = np.argsort(codes, kind="stable")
    else:
        # Ranks: numbers also for dates and text.
        ranks = np.unique(np.asarray(times), return_inverse=True)[1].reshape(-1)
        order = np.lexsort((ranks, codes))
        repeated = np.flatnonzero((np.diff(codes[order]) == 0) & (np.diff(ranks[order]) == 0))
        if repeated.size:
            row = order[repeated[0] + 1]
            raise ValueError(
                f"from_pandas: sequence {ids[row]} has two rows of the time {times[row]}. Aggregate them first."
            )
    bounds = np.flatnonzero(np.diff(codes[order])) + 1
    sequences = list(np.split(values[order], bounds)) if len(values) else []
    return (sequences, np.asarray(distinct)) if return_ids else sequences


def from_sktime(panel: Any) -> Sequences:
    """Panel of sktime → one array for each instance.

    Parameters
    ----------
    panel : "numpy3D", "nested_univ", "pd-multiindex", "pd-long", "df-list" or "numpyflat" of sktime
        (N, I, T) array — sktime has features before time, lstmcore after it; frame with a whole series in each cell;
        frame with the index levels (instance, time); frame with the columns case_id, dim_id, reading_id, value; list of
        frames (T_i, I); (N, T) array.

    Returns
    -------
    list of N arrays (T_i, I)
        In the order of the panel's instances. NaN stays: as a tail it means a shorter sequence.

    Raises
    ------
    TypeError, ValueError
        None of these forms, or an instance whose series have different lengths.
    """
    if isinstance(panel, np.ndarray):
        if panel.ndim == 2:
            panel = panel[:, None, :]
        if panel.ndim != 3:
            raise ValueError(
                f"from_sktime: an array of shape {panel.shape}. Expected (N, I, T), or (N, T) for one feature."
            )
        return [np.ascontiguousarray(instance.T) for instance in panel]
    if isinstance(panel, (list, tuple)):
        for n, instance in enumerate(panel):
            _check_frame(instance, f"panel[{n}]")
        return [_values(instance, list(instance.columns)) for instance in panel]
    _check_frame(panel, "panel")
    if panel.index.nlevels == 2:
        return from_pandas(panel)
    if panel.index.nlevels > 2:
        raise ValueError(
            f"from_sktime: an index of {panel.index.nlevels} levels is a hierarchical panel. Select one panel first."
        )
    if set(panel.columns) == {"case_id", "dim_id", "reading_id", "value"}:
        wide = panel.pivot(index=["case_id", "reading_id"], columns="dim_id", values="value")
        return from_pandas(wide)
    return [_nested_row(panel, n) for n in range(len(panel))]


def _nested_row(panel: Any, n: int) -> Array:
    """The series in the cells of one row, side by side."""
    series: list[Array] = []
    for position, column in enumerate(panel.columns):
        values = np.asarray(panel.iloc[n, position])
        if values.ndim != 1:
            raise ValueError(
                f"from_sktime: row {n} of column {column!r} holds no series but a value of {values.ndim} dimensions. "
                "Expected a frame with a whole series in each cell; a frame in long format goes through from_pandas."
            )
        if series and len(values) != len(series[0]):
            raise ValueError(
                f"from_sktime: row {n} has series of different lengths: {len(series[0])} in column "
                f"{panel.columns[0]!r}, {len(values)} in {column!r}. Bring them to one time axis first."
            )
        series.append(values)
    return _floats(np.column_stack(series), f"row {n}")


def _check_frame(frame: Any, name: str) -> None:
    if not (hasattr(frame, "iloc") and hasattr(frame, "columns")):
        raise TypeError(f"{name} is of type {type(frame).__name__}. Expected a pandas.DataFrame.")


def _column(frame: Any, name: Hashable, argument: str) -> tuple[Any, list[Hashable]]:
    """Values of a column or index level as a pandas index, and the columns that it takes up."""
    if name in frame.columns:
        return frame.set_index(name).index, [name]
    if name in frame.index.names:
        return frame.index.get_level_values(name), []
    raise ValueError(
        f"from_pandas: {argument}={name!r} is neither a column ({_listing(frame.columns)}) nor an index level."
    )


def _values(frame: Any, columns: list[Hashable]) -> Array:
    """(rows, columns) as floats."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(
            f"from_pandas: features names {missing[0]!r}, which is not a column ({_listing(frame.columns)})."
        )
    if not columns:
        raise ValueError("from_pandas: no columns are left as features.")
    arrays = [_floats(frame[name].to_numpy(), f"column {name!r}") for name in columns]
    return np.stack(arrays, axis=1)


def _floats(values: Array, name: str) -> Array:
    """float32 stays, all other numbers become float64, missing values NaN."""
    if values.dtype == np.float32:
        return values
    if values.dtype.kind in "fiub":
        return values.astype(np.float64)
    if values.dtype == object:
        try:
            return np.array([np.nan if value is None else value for value in values.ravel()], dtype=np.float64).reshape(
                values.shape
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} is not numeric: {error}") from error
    raise ValueError(f"{name} has dtype {values.dtype}. Expected numbers.")


def _listing(names: Sequence[Hashable], limit: int = 10) -> str:
    shown = ", ".join(repr(name) for name in list(names)[:limit])
    return shown if len(names) <= limit else f"{shown}, …"
