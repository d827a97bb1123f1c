"""The experiments: data, targets, when a sequence counts as right, when a run as solved, and what the paper reports.

Numbers are those of section 5 of Hochreiter & Schmidhuber (1997) and its tables 1 to 11.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from networks import Network, Setup1997, SetupToday
from numpy.typing import NDArray

from lstmcore import datasets

Array = NDArray[Any]
Data = tuple[list[Array], list[Array]]
Make = Callable[[int, np.random.Generator], Data]


class Recent:
    """Solved when at most `wrong` of the last `window` training sequences were wrong and their mean error is small."""

    def __init__(self, limit: float, wrong: int = 0, mean: float = np.inf, window: int = 2000) -> None:
        self.limit, self.wrong, self.mean, self.window = limit, wrong, mean, window
        self.worst: list[float] = []
        self.average: list[float] = []

    def seen(self, outputs: Sequence[Array], targets: Sequence[Array]) -> None:
        for o, t in zip(outputs, targets, strict=True):
            error = np.abs(o - t if o.ndim == 1 else o[-1] - t[-1])  # of the last step
            self.worst.append(float(error.max()))
            self.average.append(float(error.sum()) / error.size)

    def met(self, network: Network) -> bool:
        del network
        n = self.window
        if len(self.worst) < n:
            return False
        # Walks back only as far as the first wrong sequence too many: a few steps until the task is nearly solved.
        wrong = 0
        for error in reversed(self.worst[-n:]):
            wrong += not error < self.limit
            if wrong > self.wrong:
                return False
        return float(np.mean(self.average[-n:])) < self.mean


class Tested:
    """Solved when a test passes; it is tried every `every` sequences, once the last `streak` of them were right."""

    def __init__(self, test: Callable[[Network], bool], every: int, limit: float = np.inf, streak: int = 0) -> None:
        self.test, self.every, self.streak = test, every, streak
        self.recent = Recent(limit, window=max(streak, 1))
        self.count = self.next = 0

    def seen(self, outputs: Sequence[Array], targets: Sequence[Array]) -> None:
        self.count += len(outputs)
        if self.streak:
            self.recent.seen(outputs, targets)

    def met(self, network: Network) -> bool:
        if self.count < self.next + self.every or (self.streak and not self.recent.met(network)):
            return False
        self.next = self.count
        return self.test(network)


@dataclass(frozen=True)
class Task:
    name: str
    inputs: int
    outputs: int
    make: Make  # training sequences as they come, and their targets (K,) or (T_i, K)
    criterion: Callable[[Make, int], Any]
    limit: float  # largest error of a right answer
    paper: tuple[str, str]  # sequences to success, rate of success
    weights: int  # of the paper's network
    setup: Setup1997
    today: SetupToday
    classes: bool = False
    every_step: bool = False
    test: Make | None = None  # noise-free targets, where those of training are noisy
    other_rates: dict[float, tuple[str, str]] = field(
        default_factory=dict
    )  # what the paper has at other learning rates


def _float32(X: Sequence[Array]) -> list[Array]:
    return [np.ascontiguousarray(x, dtype=np.float32) for x in X]


def _numbers(X: Sequence[Array], y: Array) -> Data:
    return _float32(X), list(np.asarray(y, dtype=np.float32)[:, None])


def _indicators(X: Sequence[Array], y: Sequence[Any], K: int) -> Data:
    """y: a class, or one at every step."""
    return _float32(X), [np.eye(K, dtype=np.float32)[k] for k in y]


def fraction_wrong(network: Network, X: Sequence[Array], targets: Sequence[Array], limit: float) -> tuple[float, float]:
    """Share of sequences whose last outputs are off by `limit` or more, and the mean absolute error."""
    wrong, total = 0, 0.0
    for start in range(0, len(X), 64):
        outputs = network.outputs(X[start : start + 64])
        for o, t in zip(outputs, targets[start : start + 64], strict=True):
            error = np.abs(np.atleast_2d(o)[-1] - np.atleast_2d(t)[-1])
            wrong += not error.max() < limit
            total += float(error.mean())
    return wrong / len(X), total / len(X)


def _on_test_set(make: Make, seed: int, limit: float, wrong: int, mean: float, every: int = 500) -> Tested:
    """ST1 and ST2 of experiment 3: on 256 test sequences."""
    X, targets = make(256, np.random.default_rng((seed, 256)))

    def test(network: Network) -> bool:
        share, error = fraction_wrong(network, X, targets, limit)
        return share * 256 <= wrong and error < mean

    return Tested(test, every)


def _on_fresh(make: Make, seed: int, limit: float, streak: int = 500, count: int = 10_000) -> Tested:
    """No error of `limit` or more in `count` new sequences, drawn as often as the test is tried."""
    rng = np.random.default_rng((seed, count))

    def test(network: Network) -> bool:
        done = 0
        while done < count:
            n = min(64, count - done)
            X, targets = make(n, rng)
            if fraction_wrong(network, X, targets, limit)[0] > 0:
                return False
            done += n
        return True

    return Tested(test, 100, limit, streak)


# --- the tasks -------------------------------------------------------------------------------------------------------


def reber(T: int | None, seed: int) -> Task:
    """T: 41 or 32, the paper's architectures by blocks and block size."""
    if T not in (None, 32, 41):
        raise ValueError(f"--T of reber must be 41 (4 blocks of 1) or 32 (3 blocks of 2), got {T}")
    small = T != 32
    X, y = datasets.embedded_reber(256, random_state=seed)
    test, test_y = datasets.embedded_reber(256, exclude=X, random_state=seed + 10_000)
    strings, targets = _indicators(X, y, 7)
    both = strings + _indicators(test, test_y, 7)[0]

    def make(n: int, rng: np.random.Generator) -> Data:
        chosen = rng.integers(0, len(strings), n)
        return [strings[k] for k in chosen], [targets[k] for k in chosen]

    def test_both(network: Network) -> bool:
        return bool(datasets.embedded_reber_correct(network.outputs(both), both).all())

    gates = (-1.0, -2.0, -3.0, -4.0) if small else (-1.0, -2.0, -3.0)
    return Task(
        name=f"1 embedded Reber grammar, {'4 blocks of 1' if small else '3 blocks of 2'}",
        inputs=7,
        outputs=7,
        make=make,
        criterion=lambda make, seed: Tested(test_both, 100),
        limit=np.inf,
        paper=("9,500", "97% of 30") if small else ("8,440", "100% of 30"),
        other_rates={0.1: ("39,740", "100% of 30")}
        if small
        else {0.1: ("21,730", "100% of 30"), 0.2: ("14,060", "97% of 30")},
        weights=264 if small else 276,
        setup=Setup1997(len(gates), 1 if small else 2, 0.5, 0.2, output_gate_bias=gates, biases="gates"),
        today=SetupToday(hidden_size=16, learning_rate=0.01, batch_size=4),
        classes=True,
        every_step=True,
    )


def _noise_free(T: int | None, regular: bool) -> Task:
    p = 100 if T is None else T

    def make(n: int, rng: np.random.Generator) -> Data:
        X, y = datasets.noise_free_lag(n, p, regular=regular, random_state=rng)
        return _indicators(list(X), list(y), p + 1)

    known = {True: ("5,040", "100% of 18"), False: ("5,680", "100% of 18")}
    return Task(
        name=f"2{'a' if regular else 'b'} long lag without noise, p = {p}",
        inputs=p + 1,
        outputs=p + 1,
        make=make,
        criterion=lambda make, seed: _on_fresh(make, seed, 0.25, 100, 200 if regular else 10_000),
        limit=0.25,
        paper=known[regular] if p == 100 else ("-", "-"),
        weights=(p + 1) ** 2 + 3 * (p + 1),
        setup=Setup1997(1, 1, 1.0, 0.2, biases="none", recurrent=False),
        today=SetupToday(hidden_size=16, learning_rate=0.01, batch_size=4, longest=p),
        classes=True,
        every_step=True,
    )


def lag2a(T: int | None, seed: int) -> Task:
    del seed
    return _noise_free(T, True)


def lag2b(T: int | None, seed: int) -> Task:
    del seed
    return _noise_free(T, False)


def lag2c(T: int | None, seed: int) -> Task:
    """T: q, with as many distractors."""
    del seed
    q = 50 if T is None else T

    def make(n: int, rng: np.random.Generator) -> Data:
        return _indicators(*datasets.distractor_lag(n, q, random_state=rng), 2)

    known = {50: "30,000", 100: "31,000", 200: "33,000", 500: "38,000", 1000: "49,000"}
    return Task(
        name=f"2c long lag among distractors, p = q = {q}",
        inputs=q + 4,
        outputs=2,
        make=make,
        criterion=lambda make, seed: _on_fresh(make, seed, 0.2),
        limit=0.2,
        paper=(known.get(q, "-"), "not said, 20 runs" if q in known else "-"),
        weights=6 * (q + 10) + 4,
        setup=Setup1997(2, 1, 0.01, 0.2, biases="none"),
        today=SetupToday(hidden_size=16, learning_rate=0.01, batch_size=4, longest=q),
        classes=True,
    )


def _two_sequence(T: int | None, N: int, variant: str) -> Task:
    length = 100 if T is None else T
    rules = {"3a": (1.0, 0.2, 0, 0.01), "3b": (1.0, 0.2, 5, 0.04), "3c": (0.1, 0.1, 0, 0.015)}
    rate, limit, wrong, mean = rules[variant]

    def make(n: int, rng: np.random.Generator) -> Data:
        return _numbers(*datasets.two_sequence(n, length, n_signal=N, variant=variant, random_state=rng))  # type: ignore[arg-type]

    def clean(n: int, rng: np.random.Generator) -> Data:
        X, y = make(n, rng)
        if variant != "3c":
            return X, y
        return X, [np.array([0.2 if x[0, 0] > 0 else 0.8], dtype=np.float32) for x in X]

    known = {
        ("3a", 100, 3): "39,850",
        ("3a", 100, 1): "64,330",
        ("3a", 1000, 3): "452,460",
        ("3b", 100, 3): "43,250",
        ("3b", 100, 1): "78,430",
        ("3b", 1000, 1): "485,080",
        ("3c", 100, 3): "269,650",
        ("3c", 100, 1): "565,640",
    }
    found = known.get((variant, length, N))
    return Task(
        name=f"{variant} two sequences, T = {length}, N = {N}",
        inputs=1,
        outputs=1,
        make=make,
        criterion=lambda make, seed: _on_test_set(clean, seed, limit, wrong, mean),
        limit=limit,
        paper=(found or "-", "not said, 10 runs" if found else "-"),
        weights=102,
        setup=Setup1997(3, 1, rate, 0.1, (-1.0, -3.0, -5.0), (-2.0, -4.0, -6.0), biases="hidden"),
        today=SetupToday(hidden_size=8, learning_rate=0.01, batch_size=4, longest=length),
        test=clean,
    )


def two3a(T: int | None, seed: int) -> Task:
    del seed
    return _two_sequence(T, 3, "3a")


def two3a1(T: int | None, seed: int) -> Task:
    del seed
    return _two_sequence(T, 1, "3a")


def two3b(T: int | None, seed: int) -> Task:
    del seed
    return _two_sequence(T, 3, "3b")


def two3c(T: int | None, seed: int) -> Task:
    del seed
    return _two_sequence(T, 3, "3c")


def adding(T: int | None, seed: int) -> Task:
    del seed
    length = 100 if T is None else T

    def make(n: int, rng: np.random.Generator) -> Data:
        return _numbers(*datasets.adding_problem(n, length, variant="original", random_state=rng))

    known = {100: "74,000", 500: "209,000", 1000: "853,000"}
    return Task(
        name=f"4 adding, T = {length}",
        inputs=2,
        outputs=1,
        make=make,
        criterion=lambda make, seed: Recent(0.04, 0, 0.01),
        limit=0.04,
        paper=(known.get(length, "-"), "not said, 10 runs" if length in known else "-"),
        weights=93,
        setup=Setup1997(2, 2, 0.5, 0.1, (-3.0, -6.0)),
        today=SetupToday(hidden_size=32, learning_rate=0.01, batch_size=8, longest=length),
    )


def multiplication(T: int | None, seed: int) -> Task:
    del seed
    length = 100 if T is None else T

    def make(n: int, rng: np.random.Generator) -> Data:
        return _numbers(*datasets.multiplication_problem(n, length, random_state=rng))

    return Task(
        name=f"5 multiplication, T = {length}, n_seq = 140",
        inputs=2,
        outputs=1,
        make=make,
        criterion=lambda make, seed: Recent(0.04, 139),
        limit=0.04,
        paper=("482,000", "not said, 10 runs") if length == 100 else ("-", "-"),
        weights=93,
        setup=Setup1997(2, 2, 0.1, 0.1),
        today=SetupToday(hidden_size=32, learning_rate=0.01, batch_size=8, longest=length),
    )


def _order(T: int | None, n_symbols: int) -> Task:
    length = 100 if T is None else T
    words = ["".join("XY"[k >> (n_symbols - 1 - i) & 1] for i in range(n_symbols)) for k in range(2**n_symbols)]
    index = {word: k for k, word in enumerate(words)}

    def make(n: int, rng: np.random.Generator) -> Data:
        X, y = datasets.temporal_order(n, length, n_symbols=n_symbols, random_state=rng)  # type: ignore[arg-type]
        return _indicators(X, [index[word] for word in y.tolist()], len(words))

    two = n_symbols == 2
    paper = ("31,390", "not said, 20 runs") if two else ("571,100", "not said, 10 runs")
    return Task(
        name=f"{'6a' if two else '6b'} temporal order, T = {length}",
        inputs=8,
        outputs=len(words),
        make=make,
        criterion=lambda make, seed: Recent(0.3, 0, 0.1),
        limit=0.3,
        paper=paper if length == 100 else ("-", "-"),
        weights=156 if two else 308,
        setup=Setup1997(n_symbols, 2, 0.5 if two else 0.1, 0.1, (-2.0, -4.0) if two else (-2.0, -4.0, -6.0)),
        today=SetupToday(hidden_size=32, learning_rate=0.01, batch_size=4, longest=length),
        classes=True,
    )


def order6a(T: int | None, seed: int) -> Task:
    del seed
    return _order(T, 2)


def order6b(T: int | None, seed: int) -> Task:
    del seed
    return _order(T, 3)


# From --T (None: the paper's first) and the seed of the run, on which only the strings of reber depend.
TASKS: dict[str, Callable[[int | None, int], Task]] = {
    "reber": reber,
    "2a": lag2a,
    "2b": lag2b,
    "2c": lag2c,
    "3a": two3a,
    "3a-1": two3a1,
    "3b": two3b,
    "3c": two3c,
    "adding": adding,
    "multiplication": multiplication,
    "6a": order6a,
    "6b": order6b,
}
