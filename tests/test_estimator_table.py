"""docs/estimators.md says what the estimators can do, its entries being tried out."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
import lstmcore

PATH = Path(__file__).resolve().parent.parent / "docs" / "make_estimator_table.py"
SPEC = importlib.util.spec_from_file_location("make_estimator_table", PATH)
assert SPEC is not None
assert SPEC.loader is not None
maker = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(maker)

RNG = np.random.default_rng(0)
X = [RNG.normal(size=(length, 2)) for length in RNG.integers(5, 9, 20)]
LABELS = np.array(["a", "b"])[np.arange(20) % 2]
OF_STEPS = [LABELS[np.arange(len(x)) % 2] for x in X]
SERIES = np.sin(np.arange(80.0))
TREES = lstmcore.datasets.make_expression_trees(20, depth=2, random_state=0)
QUICK: dict[str, Any] = {"hidden_size": 4, "max_iter": 2, "random_state": 0, "n_jobs": 1}
# Estimator → parameters beyond QUICK, what fit gets, a step.
DATA: dict[str, tuple[dict[str, Any], tuple[Any, ...], Any]] = {
    "FrameForecaster": ({"hidden_channels": 4, "horizon": 2}, (RNG.random((4, 6, 4, 4)),), None),
    "LanguageModel": ({}, (["a rose is a rose is a rose"] * 4,), "a"),
    "SequenceAnomalyDetector": ({}, (X,), X[0][0]),
    "SequenceClassifier": ({}, (X, LABELS), X[0][0]),
    "SequenceEncoder": ({}, (X,), X[0][0]),
    "SequenceForecaster": ({"window": 6, "horizon": 2}, (SERIES,), 0.5),
    "SequenceRegressor": ({}, (X, np.arange(20.0)), X[0][0]),
    "SequenceTagger": ({}, (X, OF_STEPS), X[0][0]),
    "SequenceTranscriber": ({}, (X, [labels[:2] for labels in OF_STEPS]), X[0][0]),
    "SequenceTranslator": ({}, (["ab", "ba"] * 10, ["ba", "ab"] * 10), None),
    "TreeClassifier": ({}, TREES, None),
    "TreeRegressor": ({}, (TREES[0], np.arange(20.0)), None),
}
each = pytest.mark.parametrize("name", list(maker.estimators()))


def test_the_table_is_what_the_script_makes() -> None:
    text = maker.PAGE.read_text(encoding="utf-8")
    assert maker.replaced(text, maker.make_table()) == text, f"run {PATH.name}"


def entries(name: str) -> dict[str, str]:
    """Column → entry of one estimator, as it stands on the page."""
    text = maker.PAGE.read_text(encoding="utf-8").split(maker.BEGIN)[1].split(maker.END)[0]
    header, _, *rows = [[part.strip(" `") for part in line.strip("|").split("|")] for line in text.strip().splitlines()]
    return next(dict(zip(header, row, strict=True)) for row in rows if row[0] == name)


def fitted(name: str, **more: Any) -> Any:
    if name not in DATA:
        pytest.skip(f"no data for {name}: a line in DATA tries its entries out")
    options, data, _ = DATA[name]
    kind: Callable[..., Any] = maker.estimators()[name]
    known = kind().get_params()
    return kind(**{key: value for key, value in {**QUICK, **options, **more}.items() if key in known}).fit(*data)


@each
def test_what_has_an_entry_works(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, model = entries(name), fitted(name, verbose=2)
    printed = capsys.readouterr()
    assert len((printed.out + printed.err).splitlines()) >= 2, "verbose=2 prints a line for each epoch"
    _, data, x = DATA[name]
    if said["step"] == maker.YES:
        _, state = model.step(x)
        model.step(x, state)
    else:
        assert not hasattr(model, "step")
    if said["quantize"] == maker.YES:
        quantised = model.quantize(scheme="float32")
        files = quantised.export_c(tmp_path, "net")
        assert {"net.c", "net.h"} <= {path.name for path in files}
    else:
        assert not hasattr(model, "quantize")
    model.save(tmp_path / "model.safetensors")
    loaded = lstmcore.load(tmp_path / "model.safetensors")
    given, use = data[:1], said["predict"].partition("`")[0]
    if name == "SequenceForecaster":
        given = ()
    for a, b in zip(getattr(loaded, use)(*given), getattr(model, use)(*given), strict=True):
        np.testing.assert_array_equal(a, b)


@each
def test_a_progress_bar(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    fitted(name, verbose=1)
    printed = capsys.readouterr()
    assert "2/2" in printed.out + printed.err
