"""The table of cells in README.md says what the library does, each of its entries being tried out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore

PATH = Path(__file__).resolve().parent.parent / "docs" / "make_cell_table.py"
NEEDS = {"PyTorch": "torch", "ONNX": "onnx"}


def load() -> Any:
    spec = importlib.util.spec_from_file_location("make_cell_table", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


maker = load()


def entries() -> dict[str, dict[str, str]]:
    """Cell → column → entry, as they stand in README.md."""
    text = maker.README.read_text(encoding="utf-8")
    lines = text.split(maker.BEGIN)[1].split(maker.END)[0].strip().splitlines()
    header, _, *rows = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): dict(zip((name.strip("`") for name in header), row, strict=True)) for row in rows}


def test_every_cell_has_a_row() -> None:
    table = entries()
    assert list(table) == list(lstmcore.cells())
    for cell, row in table.items():
        assert list(row.values())[:4] == maker.first_columns(cell)
        assert list(row)[4:] == list(maker.COLUMNS)


@pytest.mark.parametrize("column", list(maker.COLUMNS))
@pytest.mark.parametrize("cell", list(lstmcore.cells()))
def test_entry_is_true(cell: str, column: str) -> None:
    if column in NEEDS:
        pytest.importorskip(NEEDS[column])
    assert entries()[cell][column] == maker.COLUMNS[column](cell, column)


def test_the_table_is_what_the_script_makes() -> None:
    for package in NEEDS.values():
        pytest.importorskip(package)
    text = maker.README.read_text(encoding="utf-8")
    assert maker.replaced(text, maker.make_table()) == text, f"run {PATH.name}"


@pytest.mark.parametrize("cell", list(lstmcore.cells()))
def test_what_every_cell_can(cell: str) -> None:
    """What README.md says below the table."""
    arguments: dict[str, Any] = {"dropout": 0.2}
    if cell not in ("mlstm", "xlstm"):
        arguments |= {"variational_dropout": 0.2, "zoneout_hidden": 0.2, "learn_initial_state": True}
    layer = lstmcore.Recurrent(cell, input_size=3, hidden_size=4, num_layers=2, bidirectional=True, **arguments)
    x = [np.ones((length, 3)) for length in (4, 2, 5)]
    y, state, tape = layer.forward(x, training=True)
    assert [len(one) for one in y] == [4, 2, 5]
    gradients = layer.backward(tape, y, state)
    assert all(np.isfinite(value).all() for value in gradients.parameters.values())
    assert len(arguments) == 1 or gradients.parameters["h0_l1_reverse"].any()
    for dtype in ("float32", "float64"):
        one = lstmcore.Recurrent(cell, input_size=3, hidden_size=4, dtype=dtype)
        out, _ = one.step(np.ones((2, 3)))
        np.testing.assert_allclose(out, one.forward(np.ones((2, 1, 3)))[0][:, 0], rtol=1e-6)
