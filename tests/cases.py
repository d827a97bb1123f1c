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


HALF = "H // 2"  # stands for half of a shape's hidden units where an option has to be a number below H


@dataclass(frozen=True)
class Cell:
    name: str
    options: tuple[tuple[str, object], ...] = ()
    torch: str | None = None  # class in torch.nn that computes the same
    learn_initial_state: bool = False

    @property
    def label(self) -> str:
        return "-".join([self.name, *map(_label, self.options), *["learnt_h0"] * self.learn_initial_state])

    @property
    def stepwise(self) -> bool:
        """Whether a layer goes step by step, so that cutting a sequence changes nothing, not even rounding. The matrix
        memory takes many steps at once."""
        return self.name not in ("mlstm", "xlstm")

    @property
    def truncated(self) -> bool:
        """Whether backward leaves terms out by intent, so that what it gives is the gradient of no function."""
        return ("gradient", "truncated") in self.options

    def options_for(self, H: int) -> dict[str, object]:
        return {name: H // 2 if value == HALF else value for name, value in self.options}

    def fits(self, shape: Shape) -> bool:
        """Whether the options can be had with the sizes of a shape."""
        options = self.options_for(shape.H)
        outputs = options.get("proj_size", shape.H)
        if outputs == 0:
            return False
        # Of one or two values, or of multiples of one vector, normalisation leaves hardly more than the signs: the
        # gradient is what rounding makes it.
        if "layer_norm" in options and (shape.H < 3 or shape.I == 1 or outputs == 1):
            return False
        return all(shape.H % int(str(options.get(name, 1))) == 0 for name in ("heads", "block_size"))


def _label(option: tuple[str, object]) -> str:
    name, value = option
    if isinstance(value, bool):
        return name if value else f"no_{name}"
    if value == HALF:
        return name
    return f"{name}{value}" if isinstance(value, int) else str(value)


def _variant(cell: str, *names: str) -> tuple[Cell, ...]:
    return tuple(Cell(cell, (("variant", name),)) for name in names)


LSTM = Cell("lstm", torch="LSTM")
ELMAN_TANH = Cell("elman", (("nonlinearity", "tanh"),), torch="RNN")
ELMAN_RELU = Cell("elman", (("nonlinearity", "relu"),), torch="RNN")
GRU = Cell("gru", torch="GRU")
SLSTM = Cell("slstm")

# Every cell, and those of its options that work with any number of hidden units: run on every shape.
CELLS = (
    LSTM,
    ELMAN_TANH,
    ELMAN_RELU,
    GRU,
    Cell("gru", (("reset_after", False),)),
    Cell("peephole"),
    Cell("lstm1997"),
    SLSTM,
    Cell("mlstm"),
    Cell("min_lstm"),
    Cell("min_gru"),
    Cell("indrnn", (("nonlinearity", "relu"),)),
    Cell("indrnn", (("nonlinearity", "tanh"),)),
)

# The other options and what they do together: run on the shapes marked `variants`.
_PROJECTED = ("proj_size", HALF)
_NORMALISED = ("layer_norm", True)
_BLOCKS = ("block_size", 2)
_GATES_FED_BACK = ("gate_recurrence", True)
_TRUNCATED = ("gradient", "truncated")
VARIANTS = (
    *_variant("lstm", "NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG", "FGR"),
    Cell("lstm", (_PROJECTED,), torch="LSTM"),
    Cell("lstm", (("variant", "FGR"), _PROJECTED)),
    Cell("lstm", (_NORMALISED,)),
    Cell("lstm", (_PROJECTED, _NORMALISED)),
    Cell("lstm", (("variant", "FGR"), _PROJECTED), learn_initial_state=True),
    *_variant("peephole", "NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG", "FGR", "NP"),
    Cell("peephole", (_PROJECTED,)),
    Cell("peephole", (("variant", "FGR"), _PROJECTED)),
    Cell("peephole", (_NORMALISED,)),
    Cell("peephole", (_PROJECTED, _NORMALISED)),
    Cell("lstm1997", (_BLOCKS,)),
    Cell("lstm1997", (_GATES_FED_BACK,)),
    Cell("lstm1997", (_BLOCKS, _GATES_FED_BACK)),
    Cell("lstm1997", (_TRUNCATED,)),
    Cell("lstm1997", (_BLOCKS, _GATES_FED_BACK, _TRUNCATED)),
    Cell("lstm1997", (_BLOCKS, _GATES_FED_BACK), learn_initial_state=True),
    Cell("gru", (_NORMALISED,)),
    Cell("gru", learn_initial_state=True),
    Cell("slstm", (("heads", 2),)),
    Cell("slstm", (("forget_activation", "exponential"),)),
    Cell("slstm", (("heads", 2), ("forget_activation", "exponential"))),
    Cell("slstm", learn_initial_state=True),
    Cell("mlstm", (("heads", 2),)),
    Cell("mlstm", (("forget_activation", "exponential"),)),
    Cell("mlstm", (("heads", 2), ("chunk_size", 3))),
    Cell("mlstm", (("chunk_size", 1),)),
    Cell("elman", (("nonlinearity", "tanh"), _NORMALISED)),
)

# --- tolerances ------------------------------------------------------------------------------------------------------

# Largest error of a tensor divided by its largest magnitude (see checking.relative_error).
DTYPES = ("float64", "float32")
TOLERANCE: dict[str, dict[str, float]] = {
    "reference": {"float64": 1e-11, "float32": 2e-5},  # against tests/reference
    "torch": {"float64": 1e-10, "float32": 2e-5},  # against PyTorch in the same element type
    "finite_differences": {"float64": 1e-6},
    "reference_differences": {"float64": 1e-7},  # of tests/reference, by its own forward pass
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
    variants: bool = False  # also run with the rows of VARIANTS
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
    Shape(1, 4, 2, 3, initial_state=True, variants=True, checks=_NUMERIC),
    Shape(3, 5, 2, 4, ragged=True, initial_state=True, variants=True, checks=_NUMERIC),
    Shape(2, 4, 3, 2, L=2, D=2, ragged=True, initial_state=True, variants=True, checks=_NUMERIC),
    Shape(2, 3, 1, 3, L=3, D=1, ragged=True, variants=True, checks=_NUMERIC),
    Shape(3, 3, 2, 2, L=3, D=2, ragged=True, initial_state=True, checks=_NUMERIC),
    # Around the widths of SIMD packs and of tiles, and one beside them.
    Shape(1, 12, 5, 8, variants=True),
    Shape(4, 9, 3, 16),
    Shape(5, 9, 7, 17, ragged=True, variants=True),
    Shape(7, 6, 16, 15, D=2, ragged=True),
    Shape(16, 8, 31, 33, initial_state=True),
    Shape(33, 5, 4, 32, ragged=True, initial_state=True, variants=True),
    Shape(2, 11, 65, 64, L=2, initial_state=True),
    Shape(3, 7, 1, 100, D=2, ragged=True, initial_state=True),
    # Shapes of real work: deep, bidirectional, ragged, long, wide, many.
    Shape(9, 29, 12, 64, D=2, ragged=True),
    Shape(6, 13, 12, 24, L=3, D=2, ragged=True, initial_state=True, variants=True),
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
        return Stack(self.cell.name, s.I, s.H, s.L, s.D == 2, self.options, self.cell.learn_initial_state)

    @property
    def options(self) -> dict[str, object]:
        """Options of the cell, as numbers where they depend on the shape."""
        return self.cell.options_for(self.shape.H)

    def tolerance(self, check: str) -> float:
        # Layer normalisation divides by what may be a small deviation, and so multiplies the rounding of float32: up to
        # 7e-5 where gradients have grown to some hundred. float64 keeps the tight bound.
        factor = 10.0 if self.dtype == "float32" and dict(self.cell.options).get("layer_norm") else 1.0
        return factor * TOLERANCE[check][self.dtype]

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
            **self.options,
            **({"learn_initial_state": True} if self.cell.learn_initial_state else {}),
        }


def cases(check: str, dtypes: tuple[str, ...] = DTYPES) -> list[Case]:
    """The rows of the table that a check uses. Finite differences leave truncated gradients out: they are those of no
    function, so there is nothing to take differences of."""
    return [
        Case(cell, shape, dtype)
        for cell in (*CELLS, *VARIANTS)
        for shape in SHAPES
        if check in shape.checks
        if cell in CELLS or shape.variants
        if cell.fits(shape)
        if not (cell.truncated and check == "finite_differences")
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
    state: dict[str, np.ndarray] | None  # (L·D, N, width) each
    dy: np.ndarray  # (N, T, D·P); NaN past a length
    dstate: dict[str, np.ndarray] = field(default_factory=dict)  # (L·D, N, width) each


def make_lengths(rng: np.random.Generator, N: int, T: int) -> np.ndarray:
    """Random lengths in 1 … T with both ends present where N allows, in no order."""
    lengths = rng.integers(1, T + 1, size=N)
    lengths[0] = T
    if N > 1:
        lengths[1] = 1
    return rng.permutation(lengths)


def _state(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values that a state may have. The cell divides by n and takes exp(m); i, f and o are activations of gates."""
    if name == "n":
        return rng.uniform(0.5, 2.0, size=shape)
    if name == "m":
        return rng.uniform(-1.0, 1.0, size=shape)
    return rng.uniform(size=shape) if name in ("i", "f", "o") else rng.standard_normal(shape)


def _parameter(rng: np.random.Generator, name: str, shape: tuple[int, ...], H: int) -> np.ndarray:
    kind = name[: name.index("_l", 3 if name.startswith("ln_") else 0)]
    if kind.endswith("0"):
        return _state(rng, kind[:-1], shape)
    if kind in ("ln_x", "ln_r", "ln_c"):
        return rng.uniform(0.25, 0.75, size=shape)  # beyond 1 the network is chaotic, and rounding errors grow with T
    bound = 1.0 if kind == "u" else 1.0 / np.sqrt(H)
    return rng.uniform(-bound, bound, size=shape)


def make_data(case: Case, seed: int = 0) -> Data:
    """Random weights, input, states and output gradients of a case. Values are those of the case's element type, so
    that a float64 reference started from them differs only by the rounding of the computation."""
    s, stack = case.shape, case.stack
    rng = np.random.default_rng([seed, zlib.crc32(replace(case, dtype="any").id.encode())])
    dtype = np.dtype(case.dtype)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    parameters = {name: _parameter(rng, name, shape, s.H).astype(dtype) for name, shape in stack.shapes().items()}
    x, dy = normal(s.N, s.T, s.I), normal(s.N, s.T, s.D * stack.output_size)
    lengths = make_lengths(rng, s.N, s.T) if s.ragged else None
    if lengths is not None:
        past = np.arange(s.T) >= lengths[:, None]
        x[past] = np.nan
        dy[past] = np.nan
    state_shapes = stack.state_shapes(s.N)
    state = None
    if s.initial_state:
        state = {name: _state(rng, name, shape).astype(dtype) for name, shape in state_shapes.items()}
    dstate = {name: normal(*shape) for name, shape in state_shapes.items()}
    return Data(parameters, x, lengths, state, dy, dstate)
