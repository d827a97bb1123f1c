"""The one table of cases: cell × options × shape × element type × tolerance.

Forward, gradient, engine and speed checks all draw from it, so a new cell is a line in `CELLS` and nothing else:
it is then compared with its NumPy reference on every shape, differentiated numerically, run on every engine, and timed
by the benchmark. Everything here is data and the making of data; nothing imports lstmcore.

Shape letters: T time steps, N sequences, I input features, H hidden units, L layers, D directions.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace

import numpy as np

from reference.driver import Stack

# --- cells -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    name: str
    options: tuple[tuple[str, object], ...] = ()
    torch: str | None = None  # class in torch.nn that computes the same

    @property
    def label(self) -> str:
        return "-".join([self.name, *(str(value) for _, value in self.options)])


LSTM = Cell("lstm", torch="LSTM")
ELMAN_TANH = Cell("elman", (("nonlinearity", "tanh"),), torch="RNN")
ELMAN_RELU = Cell("elman", (("nonlinearity", "relu"),), torch="RNN")
CELLS = (LSTM, ELMAN_TANH, ELMAN_RELU)

# --- tolerances ------------------------------------------------------------------------------------------------------

# Largest error of a tensor divided by its largest magnitude (see checking.relative_error).
DTYPES = ("float64", "float32")
TOLERANCE: dict[str, dict[str, float]] = {
    "reference": {"float64": 1e-11, "float32": 2e-5},  # against tests/reference
    "torch": {"float64": 1e-10, "float32": 2e-5},  # against PyTorch in the same element type
    "finite_differences": {"float64": 1e-6},
}
FINITE_DIFFERENCE_STEP = 1e-5

# --- shapes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    N: int
    T: int
    I: int
    H: int
    L: int = 1
    D: int = 1
    ragged: bool = False
    initial_state: bool = False
    checks: frozenset[str] = frozenset({"forward", "gradients", "engine"})

    @property
    def label(self) -> str:
        extras = ["ragged"] * self.ragged + ["h0"] * self.initial_state
        return "-".join([f"N{self.N}T{self.T}I{self.I}H{self.H}L{self.L}D{self.D}", *extras])


_NUMERIC = frozenset({"forward", "gradients", "engine", "finite_differences"})
_SPEED = frozenset({"speed"})

SHAPES = (
    # Small enough to differentiate every element numerically.
    Shape(1, 1, 1, 1, initial_state=True, checks=_NUMERIC),
    Shape(1, 4, 2, 3, initial_state=True, checks=_NUMERIC),
    Shape(3, 5, 2, 4, ragged=True, initial_state=True, checks=_NUMERIC),
    Shape(2, 4, 3, 2, L=2, D=2, ragged=True, initial_state=True, checks=_NUMERIC),
    Shape(2, 3, 1, 3, L=3, D=1, ragged=True, checks=_NUMERIC),
    Shape(3, 3, 2, 2, L=3, D=2, ragged=True, initial_state=True, checks=_NUMERIC),
    # Around the widths of SIMD packs and of tiles, and one beside them.
    Shape(1, 12, 5, 8),
    Shape(4, 9, 3, 16),
    Shape(5, 9, 7, 17, ragged=True),
    Shape(7, 6, 16, 15, D=2, ragged=True),
    Shape(16, 8, 31, 33, initial_state=True),
    Shape(33, 5, 4, 32, ragged=True, initial_state=True),
    Shape(2, 11, 65, 64, L=2, initial_state=True),
    Shape(3, 7, 1, 100, D=2, ragged=True, initial_state=True),
    # Shapes of real work: deep, bidirectional, ragged, long, wide, many.
    Shape(9, 29, 12, 64, D=2, ragged=True),
    Shape(6, 13, 12, 24, L=3, D=2, ragged=True, initial_state=True),
    Shape(4, 400, 2, 20, ragged=True),
    Shape(130, 6, 3, 12, ragged=True),
    Shape(2, 5, 40, 260, initial_state=True),
    # Timed by bench/run.py, never by a test.
    Shape(1, 100, 16, 16, checks=_SPEED),
    Shape(1, 100, 32, 32, checks=_SPEED),
    Shape(1, 100, 64, 64, checks=_SPEED),
    Shape(1, 100, 128, 128, checks=_SPEED),
    Shape(1, 100, 256, 256, checks=_SPEED),
    Shape(1, 100, 512, 512, checks=_SPEED),
    Shape(16, 100, 64, 64, checks=_SPEED),
    Shape(32, 100, 128, 128, checks=_SPEED),
    Shape(64, 100, 256, 256, checks=_SPEED),
    Shape(32, 100, 512, 512, checks=_SPEED),
    Shape(64, 50, 1024, 1024, checks=_SPEED),
    Shape(32, 100, 64, 128, ragged=True, checks=_SPEED),
)

# --- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    cell: Cell
    shape: Shape
    dtype: str

    @property
    def id(self) -> str:
        return f"{self.cell.label}-{self.shape.label}-{self.dtype}"

    @property
    def stack(self) -> Stack:
        s = self.shape
        return Stack(self.cell.name, s.I, s.H, s.L, s.D == 2, dict(self.cell.options))

    def tolerance(self, check: str) -> float:
        return TOLERANCE[check][self.dtype]

    def layer_arguments(self) -> dict[str, object]:
        """Keyword arguments of lstmcore.Recurrent."""
        s = self.shape
        return {
            "cell": self.cell.name,
            "input_size": s.I,
            "hidden_size": s.H,
            "num_layers": s.L,
            "bidirectional": s.D == 2,
            "dtype": self.dtype,
            **dict(self.cell.options),
        }


def cases(check: str, dtypes: tuple[str, ...] = DTYPES) -> list[Case]:
    """The rows of the table that a check uses."""
    return [
        Case(cell, shape, dtype)
        for cell in CELLS
        for shape in SHAPES
        if check in shape.checks
        for dtype in dtypes
        if check not in TOLERANCE or dtype in TOLERANCE[check]
    ]


# --- data ------------------------------------------------------------------------------------------------------------


@dataclass
class Data:
    """Everything one forward and backward pass takes, in the element type of the case."""

    parameters: dict[str, np.ndarray]
    x: np.ndarray  # (N, T, I); what lies past a length is NaN, so that reading it shows
    lengths: np.ndarray | None  # (N,)
    state: dict[str, np.ndarray] | None  # (L·D, N, H) each
    dy: np.ndarray  # (N, T, D·H); NaN past a length
    dstate: dict[str, np.ndarray] = field(default_factory=dict)  # (L·D, N, H) each


def make_lengths(rng: np.random.Generator, N: int, T: int) -> np.ndarray:
    """Random lengths in 1 … T with both ends present where N allows, in no order."""
    lengths = rng.integers(1, T + 1, size=N)
    lengths[0] = T
    if N > 1:
        lengths[1] = 1
    return rng.permutation(lengths)


def make_data(case: Case, seed: int = 0) -> Data:
    """Random weights, input, states and output gradients of a case. Values are those of the case's element type, so
    that a float64 reference started from them differs only by the rounding of the computation."""
    s, stack = case.shape, case.stack
    rng = np.random.default_rng([seed, zlib.crc32(replace(case, dtype="any").id.encode())])
    dtype = np.dtype(case.dtype)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    bound = 1.0 / np.sqrt(s.H)
    parameters = {name: rng.uniform(-bound, bound, size=shape).astype(dtype) for name, shape in stack.shapes().items()}
    x, dy = normal(s.N, s.T, s.I), normal(s.N, s.T, s.D * s.H)
    lengths = make_lengths(rng, s.N, s.T) if s.ragged else None
    if lengths is not None:
        past = np.arange(s.T) >= lengths[:, None]
        x[past] = np.nan
        dy[past] = np.nan
    shape = (s.L * s.D, s.N, s.H)
    state = {name: normal(*shape) for name in stack.module.STATES} if s.initial_state else None
    dstate = {name: normal(*shape) for name in stack.module.STATES}
    return Data(parameters, x, lengths, state, dy, dstate)
