"""What cells can compute: parity, modular arithmetic and associative recall, trained short and tested long.

    python bench/probes.py                                  # every task and cell, 3 seeds; some minutes
    python bench/probes.py --tasks parity --cells lstm slstm --seeds 5
    python bench/probes.py --write docs/probes.md           # puts the tables into the page

One layer of 64 units, the last step pooled, Adam, one thread. Training data are fresh in every pass of 2048 sequences.
Their lengths are uniform up to a longest one, which starts small and grows whenever fresh sequences of that length are
answered right (a curriculum): a cell that can track a state finds it at short lengths. At the full length the learning
rate falls to a fifth; a fit ends when 512 fresh sequences of that length are all right, three passes in a row, or when
after --passes. The table has the median over seeds of the accuracy on 1024 other sequences, the lowest beside it where
that differs, how many of the fits ended because all was right, and the medians of passes and of processor seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lstmcore
from lstmcore import SequenceClassifier, datasets

Array = NDArray[Any]


@dataclass(frozen=True)
class Task:
    """One probe. make(n, length or range, rng): its data; sizes: lengths (pairs for recall)."""

    name: str
    title: str
    make: Callable[[int, Any, Any], tuple[Any, Array]]
    classes: int
    first: int  # the longest length at the start of the curriculum
    trained: int  # the longest length of all
    tested: tuple[int, ...]
    unit: str = "steps"
    settings: dict[str, Any] = field(default_factory=dict)


def _arithmetic(n: int, length: Any, rng: Any) -> tuple[Any, Array]:
    return datasets.make_modular_arithmetic(n, length, random_state=rng)


def _recall(n: int, pairs: Any, rng: Any) -> tuple[Any, Array]:
    return datasets.make_associative_recall(n, pairs, n_keys=64, n_values=16, together=True, random_state=rng)


TASKS = [
    Task("parity", "Parity", lambda n, T, rng: datasets.make_parity(n, T, random_state=rng), 2, 4, 40, (40, 80, 256)),
    Task("arithmetic", "Modular arithmetic without brackets, modulo 5", _arithmetic, 5, 3, 39, (39, 79, 255)),
    Task("recall", "Associative recall, 64 keys, 16 values", _recall, 16, 2, 32, (8, 16, 32, 64), "pairs"),
]


@dataclass(frozen=True)
class Row:
    """A line of the tables: a cell with its options."""

    name: str
    cell: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


ROWS = [
    Row("lstm", "lstm"),
    Row("peephole", "peephole"),
    Row("lstm1997", "lstm1997"),
    Row("gru", "gru"),
    Row("slstm", "slstm"),
    Row("slstm, 4 heads", "slstm", {"heads": 4}),
    Row("elman", "elman"),
    Row("indrnn", "indrnn"),
    Row("min_lstm", "min_lstm"),
    Row("min_gru", "min_gru"),
    Row("mlstm, 4 heads", "mlstm", {"heads": 4}),
    Row('xlstm, blocks "m"', "xlstm", {"heads": 4, "blocks": "m"}),
    Row('xlstm, blocks "ms"', "xlstm", {"heads": 4, "blocks": "ms"}),
]


def rows() -> list[Row]:
    """Those of cells that this build has; every cell without a row of its own gets one with its defaults."""
    known = lstmcore.cells()
    named = {row.cell for row in ROWS}
    return [row for row in ROWS if row.cell in known] + [Row(cell, cell) for cell in known if cell not in named]


def grown(task: Task, longest: int) -> int:
    """The curriculum's next longest length; of arithmetic expressions it stays odd."""
    step = max(2, longest // 2) // 2 * 2
    return min(task.trained, longest + step)


def train(task: Task, row: Row, seed: int, passes: int) -> tuple[SequenceClassifier, int, bool]:
    """The classifier, the passes that it took, and whether it came to answer everything right."""
    rng = np.random.default_rng(seed)
    settings: dict[str, Any] = {
        "hidden_size": 64,
        "learning_rate_init": 5e-3,
        "batch_size": 64,
        "clip_norm": 1.0,
        "random_state": seed,
        "n_jobs": 1,
    }
    classifier = SequenceClassifier(row.cell, cell_options=row.options, **{**settings, **task.settings, **row.settings})
    longest, right, done, slow = task.first, 0, 0, False
    while done < passes and right < 3:
        done += 1
        classifier.partial_fit(*task.make(2048, (1, longest), rng), classes=np.arange(task.classes))
        accuracy = classifier.score(*task.make(512, longest, rng))
        if longest < task.trained:
            longest = grown(task, longest) if accuracy > 0.97 else longest
            continue
        if accuracy > 0.97 and not slow:
            classifier.set_params(learning_rate_init=classifier.learning_rate_init / 5)
            slow = True
        right = right + 1 if accuracy == 1.0 else 0
    return classifier, done, right == 3


def accuracies(task: Task, classifier: SequenceClassifier) -> list[float]:
    return [classifier.score(*task.make(1024, size, 10_000 + size)) for size in task.tested]


def cell_text(values: list[float]) -> str:
    middle, lowest = statistics.median(values), min(values)
    return f"{middle:.3f}" if middle - lowest < 0.0005 else f"{middle:.3f} ({lowest:.3f})"


def table(task: Task, selected: list[Row], seeds: int, passes: int) -> list[str]:
    header = [f"{size} {task.unit}" for size in task.tested]
    lines = [f"| cell | {' | '.join(header)} | solved | passes | seconds |", "|---" * (len(header) + 4) + "|"]
    for row in selected:
        results, counts, times, solved = [], [], [], 0
        for seed in range(seeds):
            start = time.process_time()
            classifier, count, right = train(task, row, seed, passes)
            times.append(time.process_time() - start)
            counts.append(count)
            results.append(accuracies(task, classifier))
            solved += right
        columns = [cell_text(list(column)) for column in zip(*results, strict=True)]
        numbers = f"{statistics.median(counts):.0f} | {statistics.median(times):.0f}"
        lines.append(f"| {row.name} | {' | '.join(columns)} | {solved} of {seeds} | {numbers} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=[task.name for task in TASKS], default=None)
    parser.add_argument("--cells", nargs="+", default=None, help="cells, by lstmcore's names")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=100, help="of 2048 sequences, for one fit at most")
    parser.add_argument("--write", type=Path, default=None, help="page whose tables are replaced")
    arguments = parser.parse_args()
    selected = [row for row in rows() if arguments.cells is None or row.cell in arguments.cells]
    if not selected:
        parser.error(f"--cells: none of {', '.join(lstmcore.cells())}")
    for task in TASKS:
        if arguments.tasks is not None and task.name not in arguments.tasks:
            continue
        print(f"\n{task.title}: trained up to {task.trained} {task.unit}\n", flush=True)
        lines = table(task, selected, arguments.seeds, arguments.passes)
        if arguments.write is not None:
            replace(arguments.write, task.name, lines)


def replace(page: Path, name: str, lines: list[str]) -> None:
    """Puts a table between the page's marks for it."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page} has no place for the table {name!r}: expected {begin.strip()} and {end}")
    page.write_text(before + begin + "\n".join(lines) + "\n" + end + after, encoding="utf-8")


if __name__ == "__main__":
    main()
