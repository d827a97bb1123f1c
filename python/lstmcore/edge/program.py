"""What the edge runtime runs: a network as plain arrays, in the runtime's own units and order.

`cpp/edge/lstmcore_edge.h` says what each field means; the names here are the same. A `Program` is made by quantising a
model, is written to files, handed to the runtime in this process, and printed as C.

Letters: I input features, H hidden units, D directions, L layers, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CELLS", "FLOAT_CELLS", "Dense", "Layer", "Matrix", "Program", "pad4"]

Array = NDArray[Any]

#: Matrices of each cell of the runtime, and its states: columns of h_width in `cells`, and in `stabilisers`.
CELLS = {
    "elman": (1, 0, 0),
    "lstm": (1, 1, 0),
    "gru": (3, 1, 0),
    "gru_reset_before": (4, 1, 0),
    "slstm": (1, 2, 1),
}

#: Columns of h_width in `cells` for float32.
FLOAT_CELLS = {"elman": 0, "lstm": 1, "gru": 0, "gru_reset_before": 1, "slstm": 3}


def pad4(count: int) -> int:
    """The next multiple of four."""
    return -(-count // 4) * 4


@dataclass(frozen=True)
class Matrix:
    """Rows in the runtime's order, both extents padded to a multiple of four.

    weights: (rows, columns) int8 in -127 … 127, for storage "int4" in -7 … 7, or float32.
    bias: (rows,) int32 in units of the sums (of 16 times the sums for "int4"), or float32.
    multiplier: (rows,) int32 in [0, 2^30), None for float32.
    storage: "int8", "int4", "sparse" or "float32".
    """

    weights: Array
    bias: Array
    multiplier: Array | None
    shift: int = 0
    storage: str = "int8"

    @property
    def groups(self) -> int:
        """Rows / 4."""
        return int(self.weights.shape[0]) // 4

    @property
    def blocks(self) -> int:
        """Columns / 4."""
        return int(self.weights.shape[1]) // 4

    def packed(self) -> tuple[Array, Array | None, Array | None]:
        """Weights as the runtime reads them (int8, uint8 for "int4", float32), and `starts`, `columns` if sparse."""
        groups, blocks = self.groups, self.blocks
        if self.storage == "float32":
            return (
                np.ascontiguousarray(self.weights.reshape(groups, 4, 4 * blocks).transpose(0, 2, 1)).ravel(),
                None,
                None,
            )
        tiles = np.ascontiguousarray(self.weights.reshape(groups, 4, blocks, 4).transpose(0, 2, 1, 3))
        if self.storage == "int8":
            return tiles.ravel(), None, None
        if self.storage == "int4":
            halves = (tiles & 15).astype(np.uint8)
            low, high = halves[:, :, 0::2], halves[:, :, 1::2]  # rows 0 and 2, rows 1 and 3
            return np.ascontiguousarray(low | (high << 4)).ravel(), None, None
        filled = tiles.reshape(groups, blocks, 16).any(axis=2)
        starts = np.concatenate([[0], np.cumsum(filled.sum(axis=1))]).astype(np.uint32)
        columns = np.nonzero(filled)[1].astype(np.uint16)
        return np.ascontiguousarray(tiles[filled]).ravel(), starts, columns

    def fields(self) -> dict[str, Any]:
        """As `_core.EdgeModel` reads it."""
        weights, starts, columns = self.packed()
        return {
            "storage": self.storage,
            "rows": 4 * self.groups,
            "columns": 4 * self.blocks,
            "weights": weights.view(np.int8) if weights.dtype == np.uint8 else weights,
            "bias": self.bias,
            "multiplier": self.multiplier,
            "block_starts": starts,
            "block_columns": columns,
            "shift": self.shift,
        }


@dataclass(frozen=True)
class Layer:
    """One direction of one layer. cell: a key of `CELLS`; options: names of the runtime's flags, "coupled",
    "peepholes", "relu", "exponential_forget". Arrays are padded to h_width = pad4(hidden)."""

    cell: str
    inputs: int
    hidden: int
    matrices: tuple[Matrix, ...]
    options: frozenset[str] = frozenset()
    peepholes: Array | None = None  # (3·h_width,) int16 or float32: i, f, o
    initial_h: Array | None = None  # (h_width,) int8, int16 or float32
    initial_cells: Array | None = None  # (columns·h_width,) int16 or float32
    initial_stabilisers: Array | None = None  # (h_width,) int32
    limit: int = 127
    output_multiplier: int = 127
    output_shift: int = 15
    cell_bits: int = 12
    peephole_bits: int = 12

    def fields(self) -> dict[str, Any]:
        """As `_core.EdgeModel` reads it."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["options"] = sorted(self.options)
        fields["matrices"] = [matrix.fields() for matrix in self.matrices]
        # Activations are int8 or int16 on the device; the border has one integer type for both.
        if self.initial_h is not None and self.initial_h.dtype != np.float32:
            fields["initial_h"] = self.initial_h.astype(np.int16)
        return fields


@dataclass(frozen=True)
class Dense:
    """A layer of the head; the last has activation "linear"."""

    matrix: Matrix
    outputs: int
    activation: str = "linear"  # "linear", "relu", "tanh", "selu"
    limit: int = 127
    output_multiplier: int = 0
    output_shift: int = 15

    def fields(self) -> dict[str, Any]:
        """As `_core.EdgeModel` reads it."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["matrix"] = self.matrix.fields()
        return fields


@dataclass(frozen=True)
class Program:
    """A whole network: layers (layer 0 forward, layer 0 backward, layer 1 …), pooling, head.

    kind: "int8", "int16" (activations; weights are int8 all the same) or "float32".
    pooling: "last", "mean", "max" or "none".
    centre, scale: (I,) float32, activation = round((x - centre)·scale).
    softmax: whether outputs are logits of classes; else they are targets standardised by output_mean and output_scale
        (K,): target = output / 2^16 · output_scale + output_mean (float32: without the 2^16).
    """

    kind: str
    layers: tuple[Layer, ...]
    dense: tuple[Dense, ...]
    directions: int
    pooling: str
    centre: Array
    scale: Array
    input_limit: int
    softmax: bool
    output_mean: Array = field(default_factory=lambda: np.zeros(0))
    output_scale: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def inputs(self) -> int:
        """I."""
        return int(self.centre.shape[0])

    @property
    def outputs(self) -> int:
        """K."""
        return self.dense[-1].outputs

    def fields(self) -> dict[str, Any]:
        """As `_core.EdgeModel` reads it."""
        return {
            "kind": self.kind,
            "directions": self.directions,
            "pooling": self.pooling,
            "layers": [layer.fields() for layer in self.layers],
            "dense": [dense.fields() for dense in self.dense],
            "centre": self.centre,
            "scale": self.scale,
            "input_limit": self.input_limit,
        }
