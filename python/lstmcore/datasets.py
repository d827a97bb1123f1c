"""Data to try things on: a recorded set, one from scikit-learn, synthetic tasks, and trees.

Every function but `make_moving_digits`, whose frames are their own targets, returns ``(X, y)`` in a form that the
estimators take as it is: X is an array (N, T, I) where all sequences have one length, otherwise a list of N arrays
(T_i, I), with `make_tagged_sentences` of words and with `make_dates` of texts; y has N entries, with
`make_tagged_sentences`, `embedded_reber` and `noise_free_lag` a label for each step, with `make_dates` a text. N
sequences, T steps, I features.

`embedded_reber`, `noise_free_lag`, `distractor_lag`, `two_sequence`, `adding_problem`, `multiplication_problem` and
`temporal_order` are experiments 1 to 6 of Hochreiter & Schmidhuber (1997, "Long Short-Term Memory", Neural Computation
9(8)), which showed that an LSTM bridges long time lags: the answer depends on a few steps far before the end. They are
run in docs/long-time-lags.md.

`make_parity`, `make_modular_arithmetic` and `make_associative_recall` probe what a cell can compute at all: the first
two need a state that every step may change (Delétang et al. 2023; Beck et al. 2024), the third a memory for many pairs
(Arora et al. 2023). docs/probes.md shows which cells pass.

`make_expression_trees` is for the estimators of trees: nested expressions, X a list of (features, parents).
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._expressions import expression_tokens, expression_values, make_expression_trees
from ._long_time_lag import (
    adding_problem,
    check_integer,
    distractor_lag,
    embedded_reber,
    embedded_reber_correct,
    embedded_reber_successors,
    multiplication_problem,
    noise_free_lag,
    temporal_order,
    two_sequence,
)
from ._moving_digits import make_moving_digits
from ._tagged_sentences import make_tagged_sentences
from .translation.dates import make_dates

__all__ = [
    "adding_problem",
    "digits_as_sequences",
    "distractor_lag",
    "embedded_reber",
    "embedded_reber_correct",
    "embedded_reber_successors",
    "expression_tokens",
    "expression_values",
    "load_japanese_vowels",
    "make_associative_recall",
    "make_dates",
    "make_expression_trees",
    "make_modular_arithmetic",
    "make_moving_digits",
    "make_parity",
    "make_tagged_sentences",
    "multiplication_problem",
    "noise_free_lag",
    "read_ts",
    "temporal_order",
    "two_sequence",
]

Float = NDArray[np.floating[Any]]
Sequences = NDArray[np.float64] | list[NDArray[np.float64]]
RandomState = int | np.random.Generator | None


def load_japanese_vowels(
    split: Literal["train", "test"] | None = None, *, folder: str | os.PathLike[str] | None = None
) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """Japanese Vowels: nine speakers say /ae/; tell who spoke.

    Kudo, Toyama & Shimbo (1999), "Multidimensional curve classification using passing-through regions", Pattern
    Recognition Letters 20(11-13). Each step is one frame of 12 LPC cepstrum coefficients, utterances last 7 to 29
    frames. The split is the official one: 270 training utterances (30 a speaker) and 370 test utterances (24 to 88).

    Parameters
    ----------
    split : "train", "test" or None
        Which part; None gives both, training utterances first.
    folder : path, optional
        Folder with ``JapaneseVowels_TRAIN.ts`` and ``JapaneseVowels_TEST.ts``. By default the files inside the
        installed sktime package are read (``pip install "lstmcore[demo]"``); sktime itself is not imported.

    Returns
    -------
    X : list of arrays (T_i, 12), float64
    y : array (N,), int64, speakers 1 to 9

    Raises
    ------
    ImportError
        sktime is not installed and no folder was given.
    FileNotFoundError
        The folder does not hold the files.
    """
    if split not in ("train", "test", None):
        raise ValueError(f'split must be "train", "test" or None, got {split!r}')
    where = _sktime_folder() if folder is None else Path(folder)
    X: list[NDArray[np.float64]] = []
    labels: list[NDArray[Any]] = []
    for part in ("TRAIN", "TEST") if split is None else (split.upper(),):
        path = where / f"JapaneseVowels_{part}.ts"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: pass folder=, a folder with JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts"
            )
        sequences, y = read_ts(path)
        if y is None or any(sequence.shape[1] != 12 for sequence in sequences):
            raise ValueError(f"{path} is not the Japanese Vowels set: expected 12 features and class labels")
        X += sequences
        labels.append(y)
    return X, np.concatenate(labels).astype(np.int64)


def _sktime_folder() -> Path:
    # find_spec locates the package without running it: importing sktime takes seconds, reading its files does not.
    spec = importlib.util.find_spec("sktime")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "load_japanese_vowels() reads the data files that the sktime package carries, and sktime is not installed. "
            'Install it with: pip install "lstmcore[demo]"   (or pass folder=, where you keep the two .ts files)'
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "JapaneseVowels"


def read_ts(path: str | os.PathLike[str]) -> tuple[list[NDArray[np.float64]], NDArray[Any] | None]:
    """Read a ``.ts`` file, the text format of the UEA & UCR time-series archive (timeseriesclassification.com).

    Parameters
    ----------
    path : path of the file

    Returns
    -------
    X : list of arrays (T_i, I), float64; a missing value ``?`` becomes NaN
    y : array (N,) of class labels as text (``@classLabel true``), of float64 (``@targetLabel true``), or None

    Raises
    ------
    ValueError
        The file is not whole or uses explicit time stamps, which are not supported; the message names the line.
    """
    sequences: list[NDArray[np.float64]] = []
    answers: list[str] = []
    header: dict[str, str] = {}
    classes: set[str] = set()
    in_data = False
    with open(path, encoding="utf-8") as file:
        for number, raw in enumerate(file, start=1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            if not in_data:
                if not line.startswith("@"):
                    raise ValueError(f"{path}, line {number}: expected a header line that starts with @ before @data")
                key, _, value = line[1:].partition(" ")
                header[key.lower()] = value.strip()
                if key.lower() == "data":
                    in_data = True
                    if header.get("timestamps", "false").lower() == "true":
                        raise ValueError(f"{path}: @timeStamps true is not supported; export the series without them")
                    classes = set(header.get("classlabel", "").split()[1:])
                continue
            has_label = _true(header, "classlabel") or _true(header, "targetlabel")
            fields = line.split(":")
            if has_label:
                answers.append(fields.pop().strip())
                if classes and answers[-1] not in classes:
                    raise ValueError(
                        f"{path}, line {number}: class label {answers[-1]!r} is not in the @classLabel line"
                    )
            expected = int(header["dimensions"]) if "dimensions" in header else len(fields)
            if not fields or len(fields) != expected:
                raise ValueError(f"{path}, line {number}: {len(fields)} dimensions, expected {expected}")
            try:
                columns = [np.array([_number(text) for text in field.split(",")]) for field in fields]
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
            if len({len(column) for column in columns}) != 1:
                lengths = [len(column) for column in columns]
                raise ValueError(f"{path}, line {number}: the dimensions of one sequence differ in length: {lengths}")
            sequences.append(np.stack(columns, axis=1))
    if not sequences:
        raise ValueError(f"{path}: no sequences after @data" if in_data else f"{path}: no @data line, not a .ts file")
    if _true(header, "classlabel"):
        return sequences, np.array(answers)
    if _true(header, "targetlabel"):
        return sequences, np.array([_number(answer) for answer in answers])
    return sequences, None


def _true(header: dict[str, str], key: str) -> bool:
    return header.get(key, "false").lower().startswith("true")


def _number(text: str) -> float:
    return float("nan") if text.strip() == "?" else float(text)


def digits_as_sequences() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Handwritten digits read row by row: scikit-learn's 8 by 8 images as sequences of 8 rows.

    Returns
    -------
    X : array (1797, 8, 8), float64 in [0, 1]: image, row (the time axis, top to bottom), column
    y : array (1797,), int64, the digit

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("digits_as_sequences() needs scikit-learn: pip install scikit-learn") from error
    digits = load_digits()
    return np.asarray(digits.images / 16.0, dtype=np.float64), np.asarray(digits.target, dtype=np.int64)


def make_parity(
    n_sequences: int = 1000, length: int | tuple[int, int] = 40, *, random_state: RandomState = None
) -> tuple[Sequences, NDArray[np.int64]]:
    """Parity: is the number of ones odd (a classification)?

    The smallest task that needs a state which every step may flip (Delétang et al. 2023, "Neural Networks and the
    Chomsky Hierarchy", ICLR; Beck et al. 2024, "xLSTM", NeurIPS): a network that learnt to count, or to average, fails
    on sequences longer than those it was trained on. Chance is 1/2.

    Parameters
    ----------
    n_sequences : int, default 1000
        N, at least 1.
    length : int or (int, int), default 40
        T, at least 1; or the shortest and the longest, all lengths between them being equally likely.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : array (N, T, 1) of 0.0 and 1.0, each as likely; or list of N arrays (T_i, 1) where length is a range
    y : array (N,), int64, 0 or 1
    """
    rng = np.random.default_rng(random_state)
    bits = [rng.integers(0, 2, T) for T in _range_of_lengths(rng, n_sequences, length, 1)]
    X = [row[:, None].astype(np.float64) for row in bits]
    return _stacked(X, length), np.array([row.sum() % 2 for row in bits], dtype=np.int64)


def make_modular_arithmetic(
    n_sequences: int = 1000,
    length: int | tuple[int, int] = 39,
    *,
    modulus: int = 5,
    operators: str = "+-*",
    random_state: RandomState = None,
) -> tuple[Sequences, NDArray[np.int64]]:
    """Modular arithmetic: the value of an expression such as 2+4*3-1 modulo a small number (a classification).

    Without brackets, as in Delétang et al. (2023, "Neural Networks and the Chomsky Hierarchy", ICLR): numbers and
    operators take turns, ``*`` binds more tightly than + and -. A finite automaton can do it with modulus² · 2 states.

    Parameters
    ----------
    n_sequences : int, default 1000
        N, at least 1.
    length : int or (int, int), default 39
        T, odd and at least 1; or the shortest and the longest, all odd lengths between them being equally likely.
    modulus : int, default 5
        Numbers are 0 ... modulus - 1; at least 2. Chance is about 1/modulus (more with "*": products are often 0).
    operators : str, default ``"+-*"``
        Some of the characters ``+-*``, each as likely.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : array (N, T, modulus + len(operators)), one-hot: numbers first, then operators in the order given; or list of N
        arrays (T_i, ...) where length is a range
    y : array (N,), int64, 0 ... modulus - 1
    """
    check_integer("modulus", modulus, 2)
    if not operators or set(operators) - set("+-*") or len(set(operators)) != len(operators):
        raise ValueError(f"operators must be some of '+', '-' and '*', each once, got {operators!r}")
    rng = np.random.default_rng(random_state)
    one_hot = np.eye(modulus + len(operators))
    X: list[NDArray[np.float64]] = []
    answers: list[int] = []
    for T in _range_of_lengths(rng, n_sequences, length, 1, odd=True):
        symbols = np.empty(T, dtype=np.int64)
        symbols[::2] = rng.integers(0, modulus, T // 2 + 1)
        symbols[1::2] = rng.integers(0, len(operators), T // 2)
        # total + sign * product is the value so far; + and - close the product, * goes on with it.
        total, sign, product = 0, 1, int(symbols[0])
        for operator, number in zip(symbols[1::2].tolist(), symbols[2::2].tolist(), strict=True):
            if operators[operator] == "*":
                product = product * number % modulus
            else:
                total = (total + sign * product) % modulus
                sign, product = (1 if operators[operator] == "+" else -1), number
        answers.append((total + sign * product) % modulus)
        symbols[1::2] += modulus
        X.append(one_hot[symbols])
    return _stacked(X, length), np.array(answers, dtype=np.int64)


def make_associative_recall(
    n_sequences: int = 1000,
    pairs: int | tuple[int, int] = 8,
    *,
    n_keys: int = 32,
    n_values: int = 8,
    together: bool = False,
    random_state: RandomState = None,
) -> tuple[Sequences, NDArray[np.int64]]:
    """Associative recall: pairs of a key and a value go by, then a key comes again: what was its value?

    The recall task of Arora et al. (2023, "Zoology: Measuring and improving recall in efficient language models") with
    one query, at the last step, as a sequence classifier needs it. Keys of one sequence are distinct, values are not. A
    state of fixed size holds so many pairs and no more. Chance is 1/n_values.

    Parameters
    ----------
    n_sequences : int, default 1000
        N, at least 1.
    pairs : int or (int, int), default 8
        Pairs in a sequence, 1 ... n_keys; or the fewest and the most, all numbers between them being equally likely.
    n_keys, n_values : int, default 32, 8
        Different keys and values; at least 1 and 2.
    together : bool, default False
        False: key and value are two steps, T = 2 pairs + 1, so that a network has also to learn which belong together.
        True: they are one step, T = pairs + 1, which probes the memory alone.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : array (N, T, n_keys + n_values), one-hot for the key and for the value; or list of N arrays where pairs is a
        range
    y : array (N,), int64, 0 ... n_values - 1
    """
    check_integer("n_keys", n_keys, 1)
    check_integer("n_values", n_values, 2)
    rng = np.random.default_rng(random_state)
    X: list[NDArray[np.float64]] = []
    answers: list[int] = []
    for count in _range_of_lengths(rng, n_sequences, pairs, 1, name="pairs"):
        if count > n_keys:
            raise ValueError(f"pairs must be at most n_keys={n_keys}, got {pairs!r}")
        keys = rng.permutation(n_keys)[:count]
        values = rng.integers(0, n_values, count)
        stride = 1 if together else 2
        x = np.zeros((stride * count + 1, n_keys + n_values))
        x[np.arange(count) * stride, keys] = 1.0
        x[np.arange(count) * stride + (stride - 1), n_keys + values] = 1.0
        asked = int(rng.integers(0, count))
        x[-1, keys[asked]] = 1.0
        X.append(x)
        answers.append(int(values[asked]))
    return _stacked(X, pairs), np.array(answers, dtype=np.int64)


def _range_of_lengths(
    rng: np.random.Generator, n_sequences: int, length: Any, least: int, odd: bool = False, name: str = "length"
) -> list[int]:
    """One length a sequence, for an int or a (shortest, longest)."""
    check_integer("n_sequences", n_sequences, 1)
    ends = length if isinstance(length, (tuple, list)) else (length, length)
    if len(ends) != 2:
        raise ValueError(f"{name} must be an int or a pair (shortest, longest), got {length!r}")
    for end in ends:
        check_integer(name, end, least)
        if odd and end % 2 == 0:
            raise ValueError(f"{name} must be odd, got {length!r}")
    low, high = (int(end) for end in ends)
    if low > high:
        raise ValueError(f"{name} must be an int or a pair (shortest, longest), got {length!r}")
    step = 2 if odd else 1
    lengths: list[int] = (low + step * rng.integers(0, (high - low) // step + 1, n_sequences)).tolist()
    return lengths


def _stacked(X: list[NDArray[np.float64]], length: Any) -> Sequences:
    return X if isinstance(length, (tuple, list)) else np.stack(X)
