"""The tasks of Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", Neural Computation 9(8), section 5.

Positions, ranges and criteria are those of the paper's text and its tables 10 and 11. Public through
`lstmcore.datasets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "adding_problem",
    "check_integer",
    "distractor_lag",
    "embedded_reber",
    "embedded_reber_correct",
    "embedded_reber_successors",
    "multiplication_problem",
    "noise_free_lag",
    "temporal_order",
    "two_sequence",
]

Floats = NDArray[np.float64]
RandomState = int | np.random.Generator | None

REBER_SYMBOLS = "BTPSXVE"

# The Reber grammar as an automaton: (node, symbol) → node, each symbol of a node equally likely.
_INNER: dict[int, dict[str, int]] = {
    0: {"B": 1},
    1: {"T": 2, "P": 3},
    2: {"S": 2, "X": 4},
    3: {"T": 3, "V": 5},
    4: {"X": 3, "S": 6},
    5: {"P": 4, "V": 6},
    6: {"E": 7},
}


def _embedded_edges() -> dict[int, dict[str, int]]:
    """B, T or P, a Reber string, the same letter again, E: the inner grammar twice, so that a node knows the letter."""
    edges: dict[int, dict[str, int]] = {0: {"B": 1}, 1: {"T": 10, "P": 20}, 2: {"E": 3}}
    for base, letter in ((10, "T"), (20, "P")):
        for node, ways in _INNER.items():
            edges[base + node] = {symbol: base + end for symbol, end in ways.items()}
        edges[base + 7] = {letter: 2}
    return edges


_EDGES = _embedded_edges()


def embedded_reber(
    n_sequences: int = 256, *, exclude: Sequence[ArrayLike] | None = None, random_state: RandomState = None
) -> tuple[list[Floats], list[NDArray[np.int64]]]:
    """The embedded Reber grammar: read a string symbol by symbol, predict the next one at every step.

    Experiment 1 of Hochreiter & Schmidhuber (1997), after Smith & Zipser (1989), Cleeremans, Servan-Schreiber &
    McClelland (1989) and Fahlman (1991). A string is B, then T or P, a string of the Reber grammar, the same T or P
    again, E; where the grammar leaves a choice of two symbols, each is as likely. It has at least 9 symbols, and 12 on
    average. Whether the last but one will be T or P can only be known from the second.

    Parameters
    ----------
    n_sequences : int, default 256
        N, at least 1; strings may repeat. The paper trains on 256 and tests on 256 others.
    exclude : list of arrays (T_i, 7), optional
        Strings that are not to occur, in the form of X: a training set, to make a test set.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : list of N arrays (T_i, 7), float64, one-hot in the order B, T, P, S, X, V, E: the string without its last symbol
    y : list of N arrays (T_i,), int64: the next symbol, 0 ... 6

    Raises
    ------
    ValueError
        n_sequences is no int of at least 1, or exclude holds something else than strings of the grammar.

    See Also
    --------
    embedded_reber_successors : which symbols may come next.
    embedded_reber_correct : the criterion of success.
    """
    check_integer("n_sequences", n_sequences, 1)
    rng = _generator(random_state)
    forbidden: set[tuple[int, ...]] = set()
    if exclude is not None:
        forbidden = {tuple(symbols) for symbols, _ in _walks(exclude, "exclude")}
    one_hot = np.eye(len(REBER_SYMBOLS))
    X: list[Floats] = []
    y: list[NDArray[np.int64]] = []
    while len(X) < n_sequences:
        symbols: list[int] = []
        node = 0
        while node in _EDGES:
            ways = tuple(_EDGES[node].items())
            symbol, node = ways[int(rng.integers(len(ways)))] if len(ways) > 1 else ways[0]
            symbols.append(REBER_SYMBOLS.index(symbol))
        if tuple(symbols[:-1]) in forbidden:
            continue
        X.append(one_hot[symbols[:-1]])
        y.append(np.array(symbols[1:], dtype=np.int64))
    return X, y


def embedded_reber_successors(X: Sequence[ArrayLike]) -> list[NDArray[np.bool_]]:
    """Which symbols the embedded Reber grammar allows after each step.

    Parameters
    ----------
    X : list of N arrays (T_i, 7), one-hot in the order B, T, P, S, X, V, E
        Strings of the grammar from their first symbol on, or beginnings of such strings.

    Returns
    -------
    list of N arrays (T_i, 7), bool; no symbol follows the last E

    Raises
    ------
    ValueError
        X is no list of such arrays, or breaks the grammar; the message names the sequence and the step.
    """
    legal: list[NDArray[np.bool_]] = []
    for symbols, nodes in _walks(X, "X"):
        allowed = np.zeros((len(symbols), len(REBER_SYMBOLS)), dtype=np.bool_)
        for t, node in enumerate(nodes):
            allowed[t, [REBER_SYMBOLS.index(symbol) for symbol in _EDGES.get(node, {})]] = True
        legal.append(allowed)
    return legal


def embedded_reber_correct(outputs: Sequence[ArrayLike], X: Sequence[ArrayLike]) -> NDArray[np.bool_]:
    """Which strings are predicted as Hochreiter & Schmidhuber (1997) ask for.

    At every step of a string the outputs of the symbols that may come next have to be the most active ones: each
    larger than every output of a symbol that may not.

    Parameters
    ----------
    outputs : list of N arrays (T_i, 7)
        Activations or probabilities of the next symbol, in the order of the features.
    X : list of N arrays (T_i, 7)
        What was read, as `embedded_reber` returns it.

    Returns
    -------
    array (N,) of bool; NaN among the outputs of a string counts as wrong

    Raises
    ------
    ValueError
        As `embedded_reber_successors`, or outputs do not have the shapes of X.
    """
    legal = embedded_reber_successors(X)
    if len(outputs) != len(legal):
        raise ValueError(f"outputs has {len(outputs)} sequences, X has {len(legal)}")
    correct = np.empty(len(legal), dtype=np.bool_)
    for n, (values, allowed) in enumerate(zip(outputs, legal, strict=True)):
        scores = np.asarray(values, dtype=np.float64)
        if scores.shape != allowed.shape:
            raise ValueError(f"outputs[{n}] has shape {scores.shape}, expected {allowed.shape}")
        least = np.where(allowed, scores, np.inf).min(axis=1)
        correct[n] = bool((least > np.where(allowed, -np.inf, scores).max(axis=1)).all())
    return correct


def _walks(X: Sequence[ArrayLike], name: str) -> list[tuple[list[int], list[int]]]:
    """For each sequence its symbols, and the node of the automaton after each."""
    if not isinstance(X, (list, tuple, np.ndarray)):
        raise ValueError(f"{name} must be a list of arrays (T_i, {len(REBER_SYMBOLS)}), got {type(X).__name__}")
    walks: list[tuple[list[int], list[int]]] = []
    for n, rows in enumerate(X):
        x = np.asarray(rows)
        if x.ndim != 2 or x.shape[1] != len(REBER_SYMBOLS) or x.dtype.kind not in "fiub":
            raise ValueError(
                f"{name}[{n}] must be numbers of shape (T_i, {len(REBER_SYMBOLS)}), got {x.dtype} of shape {x.shape}"
            )
        if not (np.isin(x, (0, 1)).all() and (np.count_nonzero(x, axis=1) == 1).all()):
            raise ValueError(f"{name}[{n}] must be one-hot: one 1 in each row, all else 0")
        symbols: list[int] = x.argmax(axis=1).tolist()
        nodes: list[int] = []
        node = 0
        for t, symbol in enumerate(symbols):
            ways = _EDGES.get(node, {})
            if REBER_SYMBOLS[symbol] not in ways:
                expected = " or ".join(ways) or "the end"
                raise ValueError(
                    f"{name}[{n}] breaks the embedded Reber grammar at step {t}: {REBER_SYMBOLS[symbol]} where "
                    f"{expected} must come"
                )
            node = ways[REBER_SYMBOLS[symbol]]
            nodes.append(node)
        walks.append((symbols, nodes))
    return walks


def noise_free_lag(
    n_sequences: int = 1000, lag: int = 100, *, regular: bool = True, random_state: RandomState = None
) -> tuple[Floats, NDArray[np.int64]]:
    """Long time lags without noise: predict every next symbol; the last is the first one again.

    Tasks 2a and 2b of Hochreiter & Schmidhuber (1997). With p = lag a sequence is x or y, p - 1 symbols in between, and
    what it began with. Symbols are one-hot, in the order a_1 ... a_{p-1}, x, y.

    Parameters
    ----------
    n_sequences : int, default 1000
        N, at least 1. X takes 8 N p (p + 1) bytes.
    lag : int, default 100
        p, at least 2: steps from the first symbol to the prediction of the last.
    regular : bool, default True
        True (2a): in between are a_1, a_2 ... a_{p-1}, so that only two different sequences exist. False (2b): p - 1
        symbols drawn from a_1 ... a_{p-1}; nothing but the last symbol can be predicted.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : array (N, p, p + 1), float64: the sequences without their last symbol
    y : array (N, p), int64: the next symbol at each step, 0 ... p
    """
    check_integer("n_sequences", n_sequences, 1)
    check_integer("lag", lag, 2)
    _check_flag("regular", regular)
    rng = _generator(random_state)
    symbols = np.empty((n_sequences, lag + 1), dtype=np.int64)
    symbols[:, 0] = symbols[:, -1] = rng.integers(lag - 1, lag + 1, n_sequences)
    between = np.arange(lag - 1) if regular else rng.integers(0, lag - 1, (n_sequences, lag - 1))
    symbols[:, 1:-1] = between
    X = np.zeros((n_sequences, lag, lag + 1))
    np.put_along_axis(X, symbols[:, :-1, None], 1.0, axis=2)
    return X, symbols[:, 1:].copy()


def distractor_lag(
    n_sequences: int = 1000, lag: int = 100, *, n_distractors: int | None = None, random_state: RandomState = None
) -> tuple[list[Floats], NDArray[np.int64]]:
    """Very long time lags among distractors: which of two symbols came second (a classification)?

    Task 2c of Hochreiter & Schmidhuber (1997). A sequence is b, then x or y, q = lag random distractors, more of them
    until with probability 1/10 a step the trigger e comes; what follows is the second symbol again, and is to be
    predicted. Symbols are one-hot, in the order a_1 ... a_p (distractors), e, b, x, y.

    Parameters
    ----------
    n_sequences : int, default 1000
        N, at least 1. X takes about 8 N (q + 12) (p + 4) bytes.
    lag : int, default 100
        q, at least 1: between the second symbol and the trigger are q distractors or more, q + 9 on average.
    n_distractors : int, optional
        p, at least 1; default: lag.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : list of N arrays (T_i, p + 4), float64, T_i at least q + 3: from b to e
    y : array (N,), int64: 0 where the second symbol is x, 1 where it is y
    """
    check_integer("n_sequences", n_sequences, 1)
    check_integer("lag", lag, 1)
    p = lag if n_distractors is None else n_distractors
    check_integer("n_distractors", p, 1)
    rng = _generator(random_state)
    y = rng.integers(0, 2, n_sequences)
    more = rng.geometric(0.1, n_sequences) - 1
    X: list[Floats] = []
    for label, count in zip(y, lag + more, strict=True):
        symbols = np.empty(count + 3, dtype=np.int64)
        symbols[0], symbols[1], symbols[-1] = p + 1, p + 2 + label, p
        symbols[2:-1] = rng.integers(0, p, count)
        x = np.zeros((count + 3, p + 4))
        x[np.arange(count + 3), symbols] = 1.0
        X.append(x)
    return X, y


def two_sequence(
    n_sequences: int = 1000,
    length: int = 100,
    *,
    n_signal: int = 3,
    variant: Literal["3a", "3b", "3c"] = "3a",
    random_state: RandomState = None,
) -> tuple[list[Floats], NDArray[Any]]:
    """The two-sequence (latch) problem: keep one bit through noise on the same line.

    Bengio, Simard & Frasconi (1994), in the forms of experiment 3 of Hochreiter & Schmidhuber (1997): the first
    n_signal values are +1 (class 1) or -1 (class 0), all later ones Gaussian noise of mean 0 and variance 0.2.

    Parameters
    ----------
    n_sequences : int, default 1000
        N, at least 1.
    length : int, default 100
        T, larger than n_signal; lengths are uniform in T ... T + T/10.
    n_signal : int, default 3
        Steps that carry the class, at least 1.
    variant : "3a", "3b" or "3c", default "3a"
        "3a": as above. "3b": the same noise is added to the first n_signal values too. "3c": as 3a, but y is a number,
        0.2 after +1 and 0.8 after -1 plus Gaussian noise of variance 0.1: what can be learnt is its expectation (a
        regression).
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : list of N arrays (T_i, 1), float64
    y : array (N,), int64, 0 or 1; with "3c" float64
    """
    check_integer("n_sequences", n_sequences, 1)
    check_integer("n_signal", n_signal, 1)
    check_integer("length", length, n_signal + 1)
    if variant not in ("3a", "3b", "3c"):
        raise ValueError(f'variant must be "3a", "3b" or "3c", got {variant!r}')
    rng = _generator(random_state)
    labels = rng.integers(0, 2, n_sequences)
    X: list[Floats] = []
    for T, label in zip(_lengths(rng, n_sequences, length), labels, strict=True):
        sequence = rng.normal(0.0, np.sqrt(0.2), (T, 1))
        signal = 2.0 * label - 1.0
        sequence[:n_signal] = sequence[:n_signal] + signal if variant == "3b" else signal
        X.append(sequence)
    if variant != "3c":
        return X, labels
    return X, np.where(labels == 1, 0.2, 0.8) + rng.normal(0.0, np.sqrt(0.1), n_sequences)


def adding_problem(
    n_sequences: int = 1000,
    length: int = 100,
    *,
    variant: Literal["sum", "original"] = "sum",
    random_state: RandomState = None,
) -> tuple[Floats | list[Floats], Floats]:
    """The adding problem: add the two marked numbers of a long sequence (a regression).

    Parameters
    ----------
    n_sequences : int, default 1000
        N, at least 1.
    length : int, default 100
        T, at least 2 ("sum") or 22 ("original").
    variant : "sum" or "original", default "sum"
        "sum": the common form (Le, Jaitly & Hinton 2015, arXiv:1504.00941). Values are uniform in [0, 1); one step in
        each half of the sequence is marked 1, all others 0; y is the sum of the two marked values. Answering 1.0
        always has a mean squared error of 1/6.
        "original": experiment 4 of Hochreiter & Schmidhuber (1997). Values are uniform in [-1, 1], lengths uniform in
        T ... T + T/10; the marker is 1 at one of the first ten steps and at another of the first T/2 - 1, -1 at the
        first and last step, otherwise 0; y = 0.5 + (x1 + x2) / 4, in [0, 1]. A value marked at the first step counts
        as zero. Answering 0.5 always has a mean squared error of 1/24.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : array (N, T, 2), or for "original" a list of N arrays (T_i, 2); feature 0 is the value, feature 1 the marker
    y : array (N,)
    """
    check_integer("n_sequences", n_sequences, 1)
    rng = _generator(random_state)
    if variant == "sum":
        check_integer("length", length, 2)
        X = np.zeros((n_sequences, length, 2))
        X[:, :, 0] = rng.random((n_sequences, length))
        rows = np.arange(n_sequences)
        first = rng.integers(0, length // 2, n_sequences)
        second = rng.integers(length // 2, length, n_sequences)
        X[rows, first, 1] = 1.0
        X[rows, second, 1] = 1.0
        return X, X[rows, first, 0] + X[rows, second, 0]
    if variant != "original":
        raise ValueError(f'variant must be "sum" or "original", got {variant!r}')
    check_integer("length", length, 22)  # so that the first ten steps lie within the first T/2 - 1
    sequences, marked = _marked(rng, n_sequences, length, low=-1.0, first=0.0)
    return sequences, 0.5 + marked.sum(axis=1) / 4.0


def multiplication_problem(
    n_sequences: int = 1000, length: int = 100, *, random_state: RandomState = None
) -> tuple[list[Floats], Floats]:
    """The multiplication problem: multiply the two marked numbers of a long sequence (a regression).

    Experiment 5 of Hochreiter & Schmidhuber (1997), to show that an LSTM does more than integrate: as
    ``adding_problem(variant="original")``, but values are uniform in [0, 1], one marked at the first step counts as 1,
    and y is the product of the two marked values.

    Parameters
    ----------
    n_sequences : int, default 1000
        N, at least 1.
    length : int, default 100
        T, at least 22; lengths are uniform in T ... T + T/10.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : list of N arrays (T_i, 2), float64; feature 0 is the value, feature 1 the marker
    y : array (N,), in [0, 1]
    """
    check_integer("n_sequences", n_sequences, 1)
    check_integer("length", length, 22)
    sequences, marked = _marked(_generator(random_state), n_sequences, length, low=0.0, first=1.0)
    return sequences, marked.prod(axis=1)


def _marked(
    rng: np.random.Generator, n_sequences: int, length: int, low: float, first: float
) -> tuple[list[Floats], Floats]:
    """Sequences of experiments 4 and 5, and their two marked values (N, 2); `first` is what a marked step 0 holds."""
    sequences: list[Floats] = []
    values = np.empty((n_sequences, 2))
    for n, T in enumerate(_lengths(rng, n_sequences, length)):
        sequence = np.zeros((T, 2))
        sequence[:, 0] = rng.uniform(low, 1.0, T)
        sequence[[0, -1], 1] = -1.0
        t1 = int(rng.integers(0, 10))
        t2 = int(rng.integers(0, length // 2 - 2))
        t2 += t2 >= t1  # uniform over the steps that are still unmarked
        if 0 in (t1, t2):
            sequence[0, 0] = first
        sequence[[t1, t2], 1] = 1.0
        values[n] = sequence[[t1, t2], 0]
        sequences.append(sequence)
    return sequences, values


def temporal_order(
    n_sequences: int = 1000, length: int = 100, *, n_symbols: Literal[2, 3] = 2, random_state: RandomState = None
) -> tuple[list[Floats], NDArray[np.str_]]:
    """Temporal order: in which order did X and Y occur, long ago, among distractors (a classification)?

    Experiments 6a and 6b of Hochreiter & Schmidhuber (1997). A sequence starts with E and ends with B; between them
    every step is one of the distractors a, b, c, d, except two (6a) or three (6b) relevant steps, each X or Y. Symbols
    are one-hot, in the order E, B, a, b, c, d, X, Y. The class is the word of the relevant symbols.

    Parameters
    ----------
    n_sequences : int, default 1000
        N, at least 1.
    length : int, default 100
        T, at least 20; lengths are uniform in T ... T + T/10. The relevant steps lie T/10 wide from T/10 and T/2 (6a),
        or from T/10, T/3 and 2T/3 (6b); for T = 100 these are the positions of the paper.
    n_symbols : 2 or 3, default 2
        Relevant symbols: 4 or 8 classes.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : list of N arrays (T_i, 8), float64
    y : array (N,) of text: "XX", "XY", "YX", "YY" (or "XXX" ... "YYY")
    """
    check_integer("n_sequences", n_sequences, 1)
    check_integer("length", length, 20)
    if n_symbols not in (2, 3):
        raise ValueError(f"n_symbols must be 2 or 3, got {n_symbols!r}")
    rng = _generator(random_state)
    starts = (0.1, 0.5) if n_symbols == 2 else (0.1, 0.33, 0.66)
    one_hot = np.eye(8)
    X: list[Floats] = []
    words: list[str] = []
    for T in _lengths(rng, n_sequences, length):
        symbols = rng.integers(2, 6, T)
        symbols[0], symbols[-1] = 0, 1
        relevant = rng.integers(6, 8, n_symbols)
        for start, symbol in zip(starts, relevant, strict=True):
            low = round(start * length)
            symbols[rng.integers(low, low + length // 10 + 1)] = symbol
        X.append(one_hot[symbols])
        words.append("".join("EBabcdXY"[symbol] for symbol in relevant))
    return X, np.array(words)


def _generator(random_state: RandomState) -> np.random.Generator:
    accepted = random_state is None or isinstance(random_state, np.random.Generator)
    if not accepted and (
        isinstance(random_state, bool) or not isinstance(random_state, (int, np.integer)) or random_state < 0
    ):
        raise ValueError(
            f"random_state must be an int of at least 0, a numpy.random.Generator or None, got {random_state!r}"
        )
    return np.random.default_rng(random_state)


def _lengths(rng: np.random.Generator, n_sequences: int, length: int) -> list[int]:
    lengths: list[int] = rng.integers(length, length + length // 10 + 1, n_sequences).tolist()
    return lengths


def check_integer(name: str, value: Any, least: int) -> None:
    """ValueError that names the argument unless it is an int of at least so much."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an int of at least {least}, got {value!r}")


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {value!r}")
