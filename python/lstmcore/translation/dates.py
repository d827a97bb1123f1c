"""`datasets.make_dates`."""

from __future__ import annotations

import datetime

import numpy as np

from .._long_time_lag import check_integer

__all__ = ["make_dates"]

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Two figures of a year mean one of these hundred years, of which 1950 is the first.
_FIRST_YEAR = 1950
_PATTERNS = (
    "{d} {month} {y}", "{day}, {d} {month} {y}", "{month} {d}, {y}", "{day}, {month} {d}, {y}", "{month} {d}, {yy}",
    "{th} of {month} {y}", "{th} of {month}, {y}", "the {th} of {month} {y}", "{day}, the {th} of {month} {y}",
    "{month} {th}, {y}", "{month} {th} {y}", "{mon} {d}, {y}", "{d} {mon} {y}", "{d}-{mon}-{yy}", "{da} {d} {mon} {y}",
    "{da}, {d} {mon} {yy}", "{dd}/{mm}/{y}", "{dd}/{mm}/{yy}", "{d}/{m}/{y}", "{d}.{m}.{y}", "{dd}.{mm}.{yy}",
    "{y}/{mm}/{dd}", "{y} {mon} {d}", "{d} {month} '{yy}",
)  # fmt: skip


def make_dates(n_samples: int = 1000, *, random_state: int | np.random.Generator | None = None) -> tuple[
    list[str], list[str]
]:  # fmt: skip
    """Dates as people write them, and in ISO 8601: texts to translate character by character.

    Days from 1950 to 2049, evenly, each in one of 24 forms and in lower, upper or mixed case. In figures the day comes
    before the month ("03/05/2021" is the third of May) unless the year comes first; a year of two figures is the one
    between 1950 and 2049.

    Parameters
    ----------
    n_samples : int, default 1000
        N, at least 1.
    random_state : int, numpy.random.Generator or None
        An int makes the result reproducible.

    Returns
    -------
    X : list of N str
        Such as "Tuesday, the 4th of May 2021", "may 4, 21" or "04.05.21".
    y : list of N str
        Such as "2021-05-04".

    Raises
    ------
    ValueError
        n_samples below 1.

    Examples
    --------
    >>> from lstmcore.datasets import make_dates
    >>> X, y = make_dates(2, random_state=0)
    >>> X
    ['24 JAN 2035', '12th of september, 2013']
    >>> y
    ['2035-01-24', '2013-09-12']
    """
    check_integer("n_samples", n_samples, 1)
    random = np.random.default_rng(random_state)
    first = datetime.date(_FIRST_YEAR, 1, 1).toordinal()
    last = datetime.date(_FIRST_YEAR + 100, 1, 1).toordinal()
    X, y = [], []
    for ordinal, pattern, case in zip(
        random.integers(first, last, size=n_samples).tolist(),
        random.integers(len(_PATTERNS), size=n_samples).tolist(),
        random.integers(4, size=n_samples).tolist(),
        strict=True,
    ):
        date = datetime.date.fromordinal(ordinal)
        text = _PATTERNS[pattern].format(**_parts(date))
        X.append({0: text.lower(), 1: text.upper()}.get(case, text))
        y.append(date.isoformat())
    return X, y


def _parts(date: datetime.date) -> dict[str, str]:
    month, day = _MONTHS[date.month - 1], _DAYS[date.weekday()]
    d = date.day
    ending = "th" if 11 <= d <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    return {
        "y": f"{date.year}",
        "yy": f"{date.year % 100:02}",
        "month": month,
        "mon": month[:3],
        "mm": f"{date.month:02}",
        "m": f"{date.month}",
        "day": day,
        "da": day[:3],
        "dd": f"{d:02}",
        "d": f"{d}",
        "th": f"{d}{ending}",
    }
