#!/usr/bin/env python3
"""What denormal numbers cost: the same network on inputs and states of usual size, and on denormal ones.

    python bench/denormals.py [--threads 1] [--seconds 1]

Processors take about a hundred cycles for a multiply-add with a denormal operand; kernels flush them to zero and
restore the caller's mode. Inputs, initial states and weights are 1e-40 times a normal deviate in the second case. NumPy
only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

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
                usual, denormal = (_call(cell, shape, mode, scale, options.threads) for scale in (1.0, 1e-40))
                times = _times([usual, denormal], options.seconds)
                name = "x".join(map(str, shape))
                print(f"| {cell} | {name} | {mode} | {times[0]:.4g} | {times[1]:.4g} | {times[1] / times[0]:.2f} |")


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


def _times(calls: list[Callable[[], object]], seconds: float) -> list[float]:
    """Medians in ms; the calls take turns."""
    found: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[0]) < 5:
        for call, times in zip(calls, found, strict=True):
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(times) for times in found]


if __name__ == "__main__":
    main()
