"""Frames and sktime panels → lists of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstmcore import SequenceClassifier
from lstmcore.converters import from_pandas, from_sktime
from sequences import FAST, ragged, two_classes

pd = pytest.importorskip("pandas")

X = ragged(8)
IDS = ["p3", "p1", "p2", "p0", "p7", "p6", "p5", "p4"]


def long_frame(shuffled: bool = False) -> Any:
    """A row a step: id, t, a, b, c."""
    parts = [
        pd.DataFrame(x, columns=list("abc")).assign(id=name, t=np.arange(len(x)) * 10)
        for name, x in zip(IDS, X, strict=True)
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.sample(frac=1, random_state=0) if shuffled else frame


def assert_lists_equal(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert isinstance(ours, np.ndarray)
        np.testing.assert_array_equal(ours, theirs)


def test_long_format() -> None:
    sequences, ids = from_pandas(long_frame(), id="id", time="t", return_ids=True)
    assert_lists_equal(sequences, X)
    assert ids.tolist() == IDS
    assert_lists_equal(from_pandas(long_frame(), id="id", features=["c", "a"]), [
        np.column_stack([x, np.arange(len(x)) * 10])[:, [2, 0]] for x in X
    ])  # fmt: skip
    assert from_pandas(long_frame(), id="id")[0].shape == (len(X[0]), 4)  # without time=, t is a feature


def test_rows_in_any_order() -> None:
    shuffled = long_frame(shuffled=True)
    sequences, ids = from_pandas(shuffled, id="id", time="t", return_ids=True)
    assert ids.tolist() == list(dict.fromkeys(shuffled["id"]))
    assert_lists_equal(sequences, [X[IDS.index(name)] for name in ids])


def test_times_that_are_dates() -> None:
    frame = long_frame(shuffled=True)
    frame["t"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["t"], unit="D")
    sequences, ids = from_pandas(frame, id="id", time="t", return_ids=True)
    assert_lists_equal(sequences, [X[IDS.index(name)] for name in ids])


def test_two_level_index() -> None:
    frame = long_frame(shuffled=True).set_index(["id", "t"])
    sequences, ids = from_pandas(frame, return_ids=True)
    assert_lists_equal(sequences, [X[IDS.index(name)] for name in ids])
    assert_lists_equal(from_pandas(frame, id="id", time="t"), sequences)
    assert_lists_equal(from_pandas(frame.reset_index("t"), id="id", time="t"), sequences)


def test_types_of_columns() -> None:
    frame = pd.DataFrame({"id": [0, 0, 1], "a": np.array([1, 2, 3], dtype=np.float32)})
    assert from_pandas(frame, id="id")[0].dtype == np.float32
    frame["b"] = pd.array([1, None, 3], dtype="Int64")
    frame["c"] = [True, False, True]
    first, second = from_pandas(frame, id="id")
    assert first.dtype == np.float64
    np.testing.assert_array_equal(first, [[1, 1, 1], [2, np.nan, 0]])
    np.testing.assert_array_equal(second, [[3, 3, 1]])
    ids = from_pandas(frame, id="a", return_ids=True)[1]
    assert ids.dtype == np.float32


def test_errors_of_from_pandas() -> None:
    frame = long_frame()
    repeated = pd.concat([frame, frame.iloc[[0]]])
    for call, error, message in (
        (
            lambda: from_pandas(np.ones((3, 3)), id="id"),
            TypeError,
            "frame is of type ndarray. Expected a pandas.DataFrame",
        ),
        (lambda: from_pandas(frame), ValueError, "pass id=.*it has 1"),
        (lambda: from_pandas(frame, id="key"), ValueError, "id='key' is neither a column .*'a'.* nor an index level"),
        (lambda: from_pandas(frame, id="id", time="when"), ValueError, "time='when' is neither"),
        (lambda: from_pandas(frame, id="id", features=["z"]), ValueError, "features names 'z', which is not a column"),
        (lambda: from_pandas(frame[["id", "t"]], id="id", time="t"), ValueError, "no columns are left as features"),
        (lambda: from_pandas(frame.assign(a="high"), id="id"), ValueError, "column 'a' (is not numeric|has dtype)"),
        (lambda: from_pandas(repeated, id="id", time="t"), ValueError, "sequence p3 has two rows of the time 0"),
        (lambda: from_pandas(frame.assign(id=None), id="id"), ValueError, "id is missing in row 0"),
        (lambda: from_pandas(frame.assign(t=np.nan), id="id", time="t"), ValueError, "time is missing in row 0"),
    ):
        with pytest.raises(error, match=message):
            call()


def nested() -> Any:
    return pd.DataFrame({name: [pd.Series(x[:, i]) for x in X] for i, name in enumerate("abc")})


def test_forms_of_sktime() -> None:
    assert_lists_equal(from_sktime(nested()), X)
    assert_lists_equal(from_sktime([pd.DataFrame(x) for x in X]), X)
    even = np.random.default_rng(0).normal(size=(5, 3, 7))  # (N, I, T)
    assert_lists_equal(from_sktime(even), list(even.transpose(0, 2, 1)))
    assert_lists_equal(from_sktime(even[:, 0]), [series[:, None] for series in even[:, 0]])
    index = pd.MultiIndex.from_tuples([(n, t) for n, x in enumerate(X) for t in range(len(x))])
    assert_lists_equal(from_sktime(pd.DataFrame(np.concatenate(X), index=index)), X)
    rows = [(n, i, t, x[t, i]) for n, x in enumerate(X) for i in range(3) for t in range(len(x))]
    assert_lists_equal(from_sktime(pd.DataFrame(rows, columns=["case_id", "dim_id", "reading_id", "value"])), X)


def test_what_sktime_itself_converts() -> None:
    datatypes = pytest.importorskip("sktime.datatypes")
    panel = [pd.DataFrame(x, columns=list("abc")) for x in X]
    for form in ("nested_univ", "pd-multiindex", "df-list"):
        converted = datatypes.convert(panel, from_type="df-list", to_type=form, as_scitype="Panel")
        assert_lists_equal(from_sktime(converted), X)


def test_errors_of_from_sktime() -> None:
    uneven = nested()
    uneven.iat[2, 1] = pd.Series([1.0])
    deep = pd.DataFrame({"a": [1.0]}, index=pd.MultiIndex.from_tuples([(0, 0, 0)]))
    for panel, error, message in (
        ("panel", TypeError, "panel is of type str"),
        ([np.ones((3, 2))], TypeError, r"panel\[0\] is of type ndarray"),
        (np.ones(3), ValueError, r"an array of shape \(3,\). Expected \(N, I, T\)"),
        (uneven, ValueError, f"row 2 has series of different lengths: {len(X[2])} in column 'a', 1 in 'b'"),
        (pd.DataFrame({"a": [1.0, 2.0]}), ValueError, "row 0 of column 'a' holds no series"),
        (deep, ValueError, "an index of 3 levels is a hierarchical panel"),
    ):
        with pytest.raises(error, match=message):
            from_sktime(panel)


def test_estimators_point_to_the_converter() -> None:
    y = two_classes(X)
    for frame in (nested(), long_frame().set_index(["id", "t"])):
        with pytest.raises(ValueError, match=r"lstmcore\.converters\.from_pandas.*lstmcore\.converters\.from_sktime"):
            SequenceClassifier(**FAST).fit(frame, y)
    classifier = SequenceClassifier(**FAST | {"max_iter": 1}).fit(from_sktime(nested()), y)
    with pytest.raises(ValueError, match="from_sktime"):
        classifier.predict(nested())
