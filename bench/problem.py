"""What all peers of one row share: the weights, the input, and how results are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rows import Row

Array = NDArray[Any]


@dataclass
class Outcome:
    """What a peer returned, as arrays in our layout: y and dx batch first, parameters under our names."""

    y: Array
    dx: Array | None = None
    parameters: dict[str, Array] | None = None


class Problem:
    """Row, PyTorch module that supplies the weights, and input, all from one seed.

    x: (N, T, I) float32; lengths: (N,) for ragged rows, else None; dy: (N, T, D*H), ones at real steps, else zeros;
    state: dict of (L*D, N, H), for rows of one step.
    """

    def __init__(self, row: Row, seed: int = 0) -> None:
        self.row = row
        torch.manual_seed(seed)
        kinds: dict[str, Any] = {"lstm": torch.nn.LSTM, "elman": torch.nn.RNN, "gru": torch.nn.GRU}
        self.module = kinds[row.cell](
            row.I, row.H, num_layers=row.num_layers, bidirectional=row.bidirectional, batch_first=True
        )
        rng = np.random.default_rng(seed)
        self.x: Array = rng.standard_normal((row.N, row.T, row.I), dtype=np.float32)
        self.lengths: Array | None = None
        directions = 2 if row.bidirectional else 1
        self.dy: Array = np.ones((row.N, row.T, directions * row.H), dtype=np.float32)
        if row.kind == "ragged":
            self.lengths = rng.integers(max(1, row.T // 10), row.T + 1, row.N)
            self.lengths[0] = row.T
            for n, length in enumerate(self.lengths):
                self.x[n, length:] = 0.0
                self.dy[n, length:] = 0.0
        states = ("h", "c") if row.cell == "lstm" else ("h",)
        shape = (row.num_layers * directions, row.N, row.H)
        self.state = {name: 0.5 * rng.standard_normal(shape, dtype=np.float32) for name in states}


def largest_error(got: Outcome, expected: Outcome) -> float:
    """Largest deviation of any array, relative to the largest value in that array."""
    pairs = [(got.y, expected.y)]
    if got.dx is not None and expected.dx is not None:
        pairs.append((got.dx, expected.dx))
    if got.parameters is not None and expected.parameters is not None:
        if got.parameters.keys() != expected.parameters.keys():
            raise AssertionError(f"gradients of {sorted(got.parameters)}, expected {sorted(expected.parameters)}")
        pairs += [(got.parameters[name], expected.parameters[name]) for name in expected.parameters]
    errors = []
    for a, b in pairs:
        if a.shape != b.shape:
            raise AssertionError(f"shapes {a.shape} and {b.shape} differ")
        errors.append(float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-12)))
    return max(errors)
