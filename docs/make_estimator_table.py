"""Writes the table of docs/estimators.md, between its markers, by looking at every estimator of the package.

    python docs/make_estimator_table.py            # needs the installed lstmcore with scikit-learn

tests/test_estimator_table.py fails where the table and the package have come apart, and tries the entries out.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator

import lstmcore
from lstmcore import persistence

PAGE = Path(__file__).resolve().parent / "estimators.md"
BEGIN, END = "<!-- estimators: made by docs/make_estimator_table.py -->", "<!-- end of estimators -->"
YES, NO = "✓", "–"

# Column → names of which an estimator has one, or none.
METHODS: dict[str, tuple[str, ...]] = {
    "predict": ("predict", "transform", "generate"),
    "probabilities": ("predict_proba", "predict_quantiles", "score_samples", "perplexity"),
    "`partial_fit`": ("partial_fit",),
    "`step`": ("step",),
    "`quantize`": ("quantize",),
    "plots": (),
    "weights": (),
    "`verbose`": (),
    "`save`": (),
}


def estimators() -> dict[str, Any]:
    """Name → class, of all that are public."""
    found = {name: getattr(lstmcore, name) for name in lstmcore.__all__}
    return {n: value for n, value in found.items() if inspect.isclass(value) and issubclass(value, BaseEstimator)}


def entry(kind: Any, column: str) -> str:
    if column == "plots":
        names = [name for name in dir(kind) if name == "plot" or (name.startswith("plot_") and "learning" not in name)]
        return ", ".join(f"`{name}`" for name in names) or NO
    if column == "weights":
        return YES if "sample_weight" in inspect.signature(kind.fit).parameters else NO
    if column == "`verbose`":
        return YES if "verbose" in kind().get_params() else NO
    if column == "`save`":
        return YES if persistence._class_named(kind.__name__) is kind else NO
    names = [name for name in METHODS[column] if callable(getattr(kind, name, None))]
    if len(METHODS[column]) == 1:
        return YES if names else NO
    return ", ".join(f"`{name}`" for name in names) or NO


def make_table() -> str:
    lines = [["estimator", *METHODS], ["---"] * (1 + len(METHODS))]
    for name, kind in estimators().items():
        lines.append([f"`{name}`", *(entry(kind, column) for column in METHODS)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replaced(text: str, table: str) -> str:
    """The page's text with another table."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), make_table()), encoding="utf-8")
