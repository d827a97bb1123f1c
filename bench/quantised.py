"""What integers cost: accuracy of quantised networks against the float ones, and whether streams drift apart.

    python bench/quantised.py [--quick] [--jobs N]

Prints the tables of docs/quantisation.md. Every network is trained once a seed; calibration uses training sequences
only, scores are of the test part. Differences are in points of accuracy, quantised minus float, mean over seeds with
the smallest and the largest.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lstmcore
from lstmcore import datasets

Array = NDArray[Any]
Split = tuple[Any, Array, Any, Array]

SEEDS = 5
CALIBRATION = 300  # sequences
FINETUNE_EPOCHS = 10

# Name, arguments of quantize, whether the network is the pruned one.
SCHEMES: list[tuple[str, dict[str, Any], bool]] = [
    ("int8", {"scheme": "int8"}, False),
    ("int8x16", {"scheme": "int8x16"}, False),
    ("int8, fine-tuned", {"scheme": "int8", "finetune_epochs": FINETUNE_EPOCHS}, False),
    ("int4", {"scheme": "int8", "weights": "int4"}, False),
    ("int4, fine-tuned", {"scheme": "int8", "weights": "int4", "finetune_epochs": FINETUNE_EPOCHS}, False),
    ("sparse 75 %, int8", {"scheme": "int8", "weights": "sparse"}, True),
]


@dataclass(frozen=True)
class Task:
    """One data set and the network for it, under the estimator's names."""

    name: str
    load: Callable[[int], Split]
    settings: dict[str, Any] = field(default_factory=dict)


def _vowels(seed: int) -> Split:
    return (*datasets.load_japanese_vowels("train"), *datasets.load_japanese_vowels("test"))


def _digits(seed: int) -> Split:
    from sklearn.model_selection import train_test_split

    X, y = datasets.digits_as_sequences()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=seed, stratify=y)
    return X_train, y_train, X_test, y_test


def vibration(rng: np.random.Generator, steps: int) -> tuple[Array, Array]:
    """A stream as of a sensor on a machine: (steps, 2) noisy samples, and (steps,) which of three states it is in.

    State k sounds with its own frequency and harmonic; it changes every 50 to 200 steps, phases go on.
    """
    frequencies = np.array([0.05, 0.08, 0.12])
    state = np.empty(steps, dtype=int)
    at = 0
    while at < steps:
        length = int(rng.integers(50, 200))
        state[at : at + length] = rng.integers(3)
        at += length
    phase = 2 * np.pi * np.cumsum(frequencies[state])
    x = np.stack([np.sin(phase), np.sin((2 + state % 2) * phase)], axis=1)
    return x + rng.normal(scale=0.8, size=x.shape), state


def _windows(rng: np.random.Generator, count: int, length: int = 40) -> tuple[Array, Array]:
    """Pieces of streams, labelled by the state in their last step, in which it has been for at least half of them."""
    x, state = vibration(rng, 60 * count)
    ends = np.flatnonzero([np.ptp(state[e - length // 2 : e]) == 0 for e in range(length, len(state))]) + length
    chosen = rng.choice(ends, size=count, replace=False)
    return np.stack([x[e - length : e] for e in chosen]), state[chosen - 1]


def _vibration(seed: int) -> Split:
    rng = np.random.default_rng(seed)
    return (*_windows(rng, 1500), *_windows(rng, 2000))


def tasks(quick: bool) -> list[Task]:
    few = {"max_iter": 2} if quick else {}
    return [
        Task("Japanese Vowels, lstm 64", _vowels, {"cell": "lstm", "max_iter": 40, **few}),
        Task("Japanese Vowels, gru 64", _vowels, {"cell": "gru", "max_iter": 40, **few}),
        Task("digits, lstm 64", _digits, {"cell": "lstm", "max_iter": 30, **few}),
        Task("digits, slstm 64", _digits, {"cell": "slstm", "max_iter": 30, **few}),
        Task("vibration, gru 24", _vibration, {"cell": "gru", "hidden_size": 24, "max_iter": 25, **few}),
    ]


def accuracies(task: Task, seed: int, jobs: int | None) -> dict[str, tuple[float, float, int]]:
    """Name of the scheme → accuracy of the float network, of the quantised one, bytes of its weights."""
    X, y, X_test, y_test = task.load(seed)
    common = {"hidden_size": 64, "batch_size": 16, "random_state": seed, "n_jobs": jobs, "n_iter_no_change": None}
    dense = lstmcore.SequenceClassifier(**{**common, **task.settings}).fit(X, y)
    pruned = lstmcore.SequenceClassifier(**{**common, **task.settings})
    pruned.fit(X, y, callbacks=lstmcore.BlockPruning(0.75))
    result = {}
    rng = np.random.default_rng(seed)
    few = np.sort(rng.permutation(len(X))[:CALIBRATION])
    for name, arguments, sparse in SCHEMES:
        network = pruned if sparse else dense
        tuned = arguments.get("finetune_epochs", 0) > 0
        chosen = range(len(X)) if tuned else few
        quantised = network.quantize(
            [X[k] for k in chosen], y=np.asarray(y)[list(chosen)] if tuned else None, random_state=seed, **arguments
        )
        given = network.score(X_test, y_test)
        # The float score of the pruned network is compared with that of the dense one in a row of its own.
        result[name] = (given, quantised.score(X_test, y_test), quantised.report_.weight_bytes)
    result["sparse 75 %, float"] = (dense.score(X_test, y_test), pruned.score(X_test, y_test), 0)
    return result


def accuracy_table(quick: bool, jobs: int | None) -> None:
    print("| task | float | " + " | ".join(name for name, _, _ in SCHEMES) + " | pruning itself |")
    print("|---|---|" + "---|" * (len(SCHEMES) + 1))
    for task in tasks(quick):
        runs = [accuracies(task, seed, jobs) for seed in range(1 if quick else SEEDS)]
        cells = [f"{100 * np.mean([run['int8'][0] for run in runs]):.2f} %"]
        for name in [*(name for name, _, _ in SCHEMES), "sparse 75 %, float"]:
            points = [100 * (run[name][1] - run[name][0]) for run in runs]
            cells.append(f"{np.mean(points):+.2f} ({min(points):+.2f} … {max(points):+.2f})")
        print(f"| {task.name} | " + " | ".join(cells) + " |", flush=True)
        sizes = ", ".join(f"{name} {runs[0][name][2]}" for name, _, _ in SCHEMES)
        print(f"<!-- bytes of weights: {sizes} -->", flush=True)


def drift_table(quick: bool, jobs: int | None) -> None:
    """One stream of 100,000 steps, its state never reset: how far both networks are apart in each tenth of it."""
    steps = 2_000 if quick else 100_000
    X, y, _, _ = _vibration(0)
    title = f"largest difference of a probability, by tenths of {steps} steps"
    print(f"\n| cell | scheme | {title} | rms, first and last | same class |")
    print("|---|---|---|---|---|")
    x, _ = vibration(np.random.default_rng(99), steps)
    for cell in ("lstm", "gru", "slstm"):
        model = lstmcore.SequenceClassifier(
            cell, hidden_size=24, max_iter=2 if quick else 15, random_state=0, n_jobs=jobs
        ).fit(X, y)
        state, expected = None, np.empty((steps, 3))
        for t in range(steps):
            expected[t], state = model.step(x[t], state)
        # Windows as in training, and pieces of a stream, along which states go further.
        pieces = [vibration(np.random.default_rng(piece), 500)[0] for piece in range(1, 21)]
        for scheme in ("int8", "int8x16"):
            quantised = model.quantize([*X[:CALIBRATION], *pieces], scheme)
            stream, found = None, np.empty((steps, 3))
            for t in range(steps):
                found[t], stream = quantised.step(x[t], stream)
            error = np.abs(found - expected).reshape(10, -1)
            rms = np.sqrt(np.mean(np.square(error), axis=1))
            same = np.mean(found.argmax(axis=1) == expected.argmax(axis=1))
            largest = " ".join(f"{value:.3f}" for value in error.max(axis=1))
            print(f"| {cell} | {scheme} | {largest} | {rms[0]:.4f}, {rms[-1]:.4f} | {100 * same:.2f} % |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few epochs: does it run?")
    parser.add_argument("--jobs", type=int, default=None, help="threads")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    accuracy_table(arguments.quick, arguments.jobs)
    drift_table(arguments.quick, arguments.jobs)
    print(f"\n<!-- {time.perf_counter() - begin:.0f} s -->")


if __name__ == "__main__":
    main()
