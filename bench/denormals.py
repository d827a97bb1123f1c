#!/usr/bin/env python3
"""What denormal numbers cost: the same network on inputs and states of usual size, and on denormal ones.

    python bench/denormals.py [--threads 1] [--seconds 1]

Processors take about a hundred cycles for a multiply-add with a denormal operand; kernels flush them to zero and
restore the caller's mode. Inputs, initial states and weights are 1e-40 times a normal deviate in the second case. NumPy
only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import clock
import numpy as np

import lstmcore

SHAPES = ((1, 100, 64, 64), (32, 50, 64, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="a row, roughly")
    options = parser.parse_args()
    print("| cell | N x T x I x H | mode | usual, ms | denormal, ms | ratio |\n|---|---|---|---|---|---|")
    for cell in ("lstm", "gru", "slstm"):
        for shape in SHAPES:
            for mode in ("inference", "training", "step"):
                scales = {"usual": 1.0, "denormal": 1e-40}
                calls = {kind: _call(cell, shape, mode, scale, options.threads) for kind, scale in scales.items()}
                usual, denormal = clock.medians_ms(calls, seconds=options.seconds / 2).values()
                name = "x".join(map(str, shape))
                print(f"| {cell} | {name} | {mode} | {usual:.4g} | {denormal:.4g} | {denormal / usual:.2f} |")


def _call(cell: str, shape: tuple[int, int, int, int], mode: str, scale: float, n_threads: int) -> Callable[[], object]:
    N, T, I, H = shape
    random = np.random.default_rng(0)
    layer = lstmcore.Recurrent(cell, I, H, n_threads=n_threads)
    if scale != 1.0:
        for value in layer.parameters.values():
            value *= np.float32(scale)
    x = (random.standard_normal((N, T, I)) * scale).astype(np.float32)
    state = {
        name: (random.standard_normal(value.shape) * scale).astype(np.float32)
        for name, value in layer.init_state(N).items()
    }
    if mode == "inference":
        return lambda: layer.forward(x, state=state)
    if mode == "step":
        first = np.ascontiguousarray(x[:, 0])
        return lambda: layer.step(first, state)

    def train() -> object:
        y, _, tape = layer.forward(x, state=state, training=True)
        return layer.backward(tape, y)

    return train


if __name__ == "__main__":
    main()
