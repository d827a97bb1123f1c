"""bench/probes.py: every cell has a row, lstm and slstm solve parity, tables go where the page has marks for them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import lstmcore

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")


@pytest.fixture(scope="module")
def probes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("probes", ROOT / "bench" / "probes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["probes"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_cell_has_a_row_and_every_row_a_cell(probes: ModuleType) -> None:
    assert {row.cell for row in probes.rows()} == set(lstmcore.cells())
    assert {row.cell for row in probes.ROWS} <= set(lstmcore.cells())


@pytest.mark.parametrize("cell", ["lstm", "slstm"])
def test_cells_with_recurrent_gates_solve_parity_far_beyond_trained_lengths(probes: ModuleType, cell: str) -> None:
    (task,) = (task for task in probes.TASKS if task.name == "parity")
    row = next(row for row in probes.ROWS if row.name == cell)
    classifier, passes, solved = probes.train(task, row, seed=0, passes=40)
    assert solved
    assert passes < 40
    assert min(probes.accuracies(task, classifier)) > 0.99
    assert task.trained == 40
    assert max(task.tested) == 256


@pytest.mark.parametrize("task", ["parity", "arithmetic", "recall"])
def test_sizes_grow_to_the_trained_one(probes: ModuleType, task: str) -> None:
    (probe,) = (probe for probe in probes.TASKS if probe.name == task)
    size, sizes = probe.first, []
    while size < probe.trained:
        X, y = probe.make(4, (1, size), 0)
        assert len(X) == len(y) == 4
        sizes.append(size)
        assert probes.grown(probe, size) > size
        size = probes.grown(probe, size)
    assert size == probe.trained
    assert len(sizes) < 12


def test_tables_go_between_their_marks(probes: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- parity -->\nold\n<!-- /parity -->\nb\n", encoding="utf-8")
    probes.replace(page, "parity", ["| x |", "|---|"])
    assert page.read_text(encoding="utf-8") == "a\n<!-- parity -->\n| x |\n|---|\n<!-- /parity -->\nb\n"
    with pytest.raises(SystemExit, match="no place for the table 'recall'"):
        probes.replace(page, "recall", [])
    text = (ROOT / "docs" / "probes.md").read_text(encoding="utf-8")
    for task in probes.TASKS:
        assert f"<!-- {task.name} -->\n" in text
        assert f"<!-- /{task.name} -->" in text
