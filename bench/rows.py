"""The rows of the benchmark: which networks, which shapes. N sequences, T steps, I features, H hidden units."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One network and one input. kind "sequence": all steps at once; "ragged": with lengths; "step": one a call."""

    group: str
    N: int
    T: int
    I: int
    H: int
    cell: str = "lstm"
    kind: str = "sequence"
    num_layers: int = 1
    bidirectional: bool = False

    @property
    def name(self) -> str:
        """Unique, for --rows and the tables: "lstm 32x100x128x128", shape as NxTxIxH."""
        extras = [f"{self.num_layers} layers"] * (self.num_layers > 1) + ["bidirectional"] * self.bidirectional
        extras += [self.kind] * (self.kind != "sequence")
        return " ".join([self.cell, f"{self.N}x{self.T}x{self.I}x{self.H}", *extras])

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}


# One LSTM layer over the sizes in use, one sequence to large batches.
_GRID = [
    Row("grid", 1, 100, 16, 16),
    Row("grid", 1, 100, 32, 32),
    Row("grid", 1, 100, 64, 64),
    Row("grid", 1, 100, 128, 128),
    Row("grid", 1, 100, 256, 256),
    Row("grid", 1, 100, 512, 512),
    Row("grid", 16, 100, 64, 64),
    Row("grid", 32, 100, 128, 128),
    Row("grid", 64, 100, 256, 256),
    Row("grid", 32, 100, 512, 512),
    Row("grid", 64, 50, 1024, 1024),
]

# Sizes that nothing was tuned for: odd numbers of units, inputs of another width, short and long, few and many.
_OFF = [
    Row("off", 1, 3000, 5, 20),
    Row("off", 1, 700, 3, 47),
    Row("off", 1, 40, 300, 301),
    Row("off", 2, 300, 10, 100),
    Row("off", 3, 90, 61, 333),
    Row("off", 5, 60, 33, 77),
    Row("off", 7, 200, 100, 30),
    Row("off", 20, 3, 17, 65),
    Row("off", 33, 77, 300, 201),
    Row("off", 50, 40, 1, 10),
    Row("off", 100, 150, 12, 99),
    Row("off", 200, 30, 40, 150),
]

_OTHER = [
    Row("other", 16, 100, 64, 64, cell="elman"),
    Row("other", 1, 100, 64, 64, cell="gru"),
    Row("other", 16, 100, 64, 64, cell="gru"),
    Row("other", 32, 100, 128, 128, cell="gru"),
    Row("other", 64, 100, 256, 256, cell="gru"),
    Row("other", 16, 100, 64, 64, num_layers=2, bidirectional=True),
    Row("other", 32, 100, 64, 128, kind="ragged"),
    Row("other", 1, 1, 16, 64, kind="step"),
]

_QUICK = [
    Row("grid", 1, 20, 16, 16),
    Row("grid", 4, 20, 32, 32),
    Row("off", 3, 7, 5, 13),
    Row("other", 3, 12, 8, 16, cell="elman"),
    Row("other", 3, 12, 8, 16, cell="gru"),
    Row("other", 3, 12, 8, 16, num_layers=2, bidirectional=True),
    Row("other", 4, 15, 8, 16, kind="ragged"),
    Row("other", 1, 1, 16, 16, kind="step"),
]


def layers(patterns: list[str], *, quick: bool) -> list[Row]:
    """Of `select`, the LSTM and GRU of one direction over whole sequences."""
    chosen = select(patterns, quick=quick)
    return [row for row in chosen if row.cell in ("lstm", "gru") and row.kind == "sequence" and not row.bidirectional]


def select(patterns: list[str], *, quick: bool = False) -> list[Row]:
    """Rows whose name contains one of the patterns (all rows without patterns).

    Raises ValueError for a pattern that no row matches, listing the names.
    """
    rows = _QUICK if quick else _GRID + _OFF + _OTHER
    for pattern in patterns:
        if not any(pattern in row.name for row in rows):
            names = "\n  ".join(row.name for row in rows)
            raise ValueError(f"--rows: no row contains {pattern!r}. The rows are:\n  {names}")
    return [row for row in rows if not patterns or any(pattern in row.name for pattern in patterns)]
