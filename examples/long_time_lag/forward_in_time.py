"""Experiment 1 of Hochreiter & Schmidhuber (1997) once more, in plain NumPy and forward in time, as the paper learns.

    python examples/long_time_lag/forward_in_time.py --T 41 --seeds 8 --limit 30000
    python examples/long_time_lag/forward_in_time.py --T 41 --output-biases --every-symbol

Asks whether the cell is to blame that run.py does not reproduce the embedded Reber grammar, and what else may be.
Nothing here goes back in time, ∂s/∂w is kept beside each cell, and weights may move after every symbol. All seeds run
at once, from the weights and on the strings of run.py's.

Shape letters: N runs, T steps, H cells, B blocks, K symbols, and S = K + H + 2B + 1 sources: symbol, cells and gates
of the step before, 1 for the biases.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from networks import Network1997
from numpy.typing import NDArray
from tasks import TASKS

Array = NDArray[Any]
K = 7


def _logistic(a: Array) -> Array:
    result: Array = 1.0 / (1.0 + np.exp(-a))
    return result


class ForwardInTime:
    """N networks of memory cell blocks that start as the given ones, each with its own strings."""

    def __init__(
        self, networks: Sequence[Network1997], *, output_biases: bool = False, every_symbol: bool = False
    ) -> None:
        setup = networks[0].setup
        self.rate, self.every_symbol, self.output_biases = setup.learning_rate, every_symbol, output_biases
        self.blocks, self.size = setup.blocks, setup.block_size
        self.cells = self.blocks * self.size
        self.A = np.stack([self._joined(n.weights) for n in networks])  # (N, B + H + B, S): input gates, cells, output
        self.used = self._joined(networks[0].trained)  # 0: a weight that the paper's net lacks
        self.V = np.stack([np.column_stack([n.V, n.c]).astype(np.float64) for n in networks])  # (N, K, H + 1)

    @staticmethod
    def _joined(tensors: dict[str, Array]) -> Array:
        joined: Array = np.column_stack([tensors["W_l0"], tensors["R_l0"], tensors["b_l0"]]).astype(np.float64)
        return joined

    def run(self, strings: Sequence[Array], targets: Sequence[Array] | None = None) -> Array:
        """Outputs (N, T, K) for one string (T_n, K) a network, later steps to be ignored; with targets weights move."""
        n, B, H = len(strings), self.blocks, self.cells
        steps = max(map(len, strings))
        source = np.zeros((n, K + H + 2 * B + 1))
        source[:, -1] = 1.0
        x, wanted, counts = np.zeros((n, steps, K)), np.zeros((n, steps, K)), np.zeros((n, steps, 1))
        for k, string in enumerate(strings):
            x[k, : len(string)], counts[k, : len(string)] = string, 1.0
            if targets is not None:
                wanted[k, : len(string)] = targets[k]
        s = np.zeros((n, H))
        by_cell, by_gate = np.zeros((2, n, H, source.shape[1]))  # ∂s/∂w of a cell's own weights, of its input gate's
        dA, dV = np.zeros_like(self.A), np.zeros_like(self.V)
        outputs = np.empty((n, steps, K))
        for t in range(steps):
            source[:, :K] = x[:, t]
            a = _logistic((self.A @ source[:, :, None])[:, :, 0])
            i, o = (np.repeat(gate, self.size, axis=1) for gate in (a[:, :B], a[:, B + H :]))
            z = a[:, B : B + H]
            g = 4.0 * z - 2.0
            if targets is not None:
                by_cell += (i * 4.0 * z * (1.0 - z))[:, :, None] * source[:, None, :]
                by_gate += (g * i * (1.0 - i))[:, :, None] * source[:, None, :]
            s = s + i * g
            squashed = _logistic(s)
            h = 2.0 * squashed - 1.0
            read = np.column_stack([o * h, np.ones(n)])
            y = outputs[:, t] = _logistic((self.V @ read[:, :, None])[:, :, 0])
            if targets is not None:
                error = (wanted[:, t] - y) * y * (1.0 - y) * counts[:, t]
                of_cell = (error[:, None, :] @ self.V[:, :, :H])[:, 0]
                dV += error[:, :, None] * read[:, None, :]
                of_state = (of_cell * o * 2.0 * squashed * (1.0 - squashed))[:, :, None]
                dA[:, :B] += (of_state * by_gate).reshape(n, B, self.size, -1).sum(axis=2)
                dA[:, B : B + H] += of_state * by_cell
                of_gate = (of_cell * h * o * (1.0 - o)).reshape(n, B, self.size).sum(axis=2)
                dA[:, B + H :] += of_gate[:, :, None] * source[:, None, :]
                if self.every_symbol or t == steps - 1:
                    self.A += self.rate * dA * self.used
                    self.V[:, :, : H + self.output_biases] += self.rate * dV[:, :, : H + self.output_biases]
                    dA[...] = dV[...] = 0.0
            source[:, K : K + H] = read[:, :H]
            source[:, K + H : -1] = np.column_stack([a[:, :B], a[:, B + H :]])
        return outputs

    def alone(self, k: int, copies: int) -> ForwardInTime:
        """Network k so many times over, to read many strings at once."""
        other = object.__new__(ForwardInTime)
        other.__dict__.update(self.__dict__)
        other.A, other.V = (np.broadcast_to(w[k], (copies, *w.shape[1:])) for w in (self.A, self.V))
        return other

    def outputs(self, X: Sequence[Array]) -> list[Array]:
        """As Network.outputs(), for what alone() returned."""
        return [y[: len(x)] for y, x in zip(self.run(X), X, strict=True)]


class _Reader:
    """Network k, as a criterion of tasks.py asks it."""

    def __init__(self, networks: ForwardInTime, k: int) -> None:
        self.networks, self.k = networks, k

    def outputs(self, X: Sequence[Array]) -> list[Array]:
        return self.networks.alone(self.k, len(X)).outputs(X)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--T", type=int, choices=(41, 32), default=41, help="4 blocks of 1 or 3 of 2 (default 41)")
    parser.add_argument("--seeds", type=int, default=8, help="runs, with seeds 0, 1, ... (default 8)")
    parser.add_argument(
        "--limit", type=int, default=30_000, help="strings after which runs have failed (default 30000)"
    )
    parser.add_argument("--learning-rate", type=float, default=0.5, help="the paper's are 0.1, 0.2 and 0.5 (default)")
    parser.add_argument("--output-biases", action="store_true", help="output units have biases; not so the paper's")
    parser.add_argument("--every-symbol", action="store_true", help="weights move after each symbol, not string")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.limit < 500:
        parser.error("--seeds must be at least 1, --limit at least 500")
    if not 0 < arguments.learning_rate < np.inf:
        parser.error(f"--learning-rate must be a number above 0, got {arguments.learning_rate}")

    seeds = range(arguments.seeds)
    tasks = [TASKS["reber"](arguments.T, seed) for seed in seeds]
    setup = dataclasses.replace(tasks[0].setup, learning_rate=arguments.learning_rate)
    networks = ForwardInTime(
        [Network1997(K, K, True, setup, seed) for seed in seeds],
        output_biases=arguments.output_biases,
        every_symbol=arguments.every_symbol,
    )
    generators = [np.random.default_rng(seed) for seed in seeds]
    criteria = [task.criterion(task.make, seed) for task, seed in zip(tasks, seeds, strict=True)]
    solved: dict[int, int] = {}
    count = 0
    while count < arguments.limit and len(solved) < len(tasks):
        data = [task.make(500, rng) for task, rng in zip(tasks, generators, strict=True)]
        for k in range(500):
            networks.run([X[k] for X, _ in data], [y[k] for _, y in data])
        count += 500  # so often the criterion is tried, five times more rarely than by run.py
        for seed in seeds:
            criteria[seed].count = count
            if seed not in solved and criteria[seed].met(_Reader(networks, seed)):
                solved[seed] = count
                print(f"seed {seed}: solved after {count} strings", flush=True)
    mean = f"{np.mean(list(solved.values())):,.0f}" if solved else "-"
    print(f"{len(solved)} of {len(tasks)} solved within {count} strings, after {mean} on average")


if __name__ == "__main__":
    main()
