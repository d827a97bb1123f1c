"""Connectionist temporal classification against sums over all alignments, and PyTorch; decoding against all labels."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lstmcore import _core
from reference import ctc

Array = NDArray[Any]


def batch(seed: int = 0, scale: float = 1.0) -> tuple[list[Array], list[tuple[int, ...]], int]:
    """Logits of K = 3 outputs, labels, blank."""
    rng = np.random.default_rng(seed)
    blank = int(rng.integers(3))
    a, b = (k for k in range(3) if k != blank)
    targets: list[tuple[int, ...]] = [(a, b), (a, a), (), (b,), (a, b, b), (b, a, b, a)]
    lengths = [4, 3, 2, 1, 6, 5]
    return [scale * rng.standard_normal((n, 3)) for n in lengths], targets, blank


def flat(targets: list[tuple[int, ...]]) -> tuple[Array, list[int]]:
    return np.array([k for target in targets for k in target], dtype=np.int64), [len(target) for target in targets]


@pytest.mark.parametrize("scale", [0.0, 1.0, 15.0])
@pytest.mark.parametrize("seed", range(4))
def test_loss_equals_brute_force(seed: int, scale: float) -> None:
    logits, targets, blank = batch(seed, scale)
    losses, _ = _core.ctc_loss(logits, *flat(targets), blank)
    for found, x, labels in zip(losses, logits, targets, strict=True):
        np.testing.assert_allclose(found, ctc.loss(x, labels, blank), rtol=1e-11, atol=1e-11)


def test_gradient_equals_finite_differences_of_brute_force() -> None:
    logits, targets, blank = batch(5)
    weights = np.array([1.0, 2.0, 0.5, 0.0, 1.5, 1.0])
    losses, gradient = _core.ctc_loss(logits, *flat(targets), blank, weights=weights)
    for n, (x, labels) in enumerate(zip(logits, targets, strict=True)):
        np.testing.assert_allclose(losses[n], weights[n] * ctc.loss(x, labels, blank), rtol=1e-11, atol=1e-13)
        for index in np.ndindex(x.shape):
            kept, sums = x[index], []
            for h in (1e-3, -1e-3, 2e-3, -2e-3):
                x[index] = kept + h
                sums.append(ctc.loss(x, labels, blank))
            x[index] = kept
            slope = weights[n] * (8 * (sums[0] - sums[1]) - (sums[2] - sums[3])) / 12e-3
            np.testing.assert_allclose(gradient[n][index], slope, rtol=1e-8, atol=1e-10)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loss_and_gradient_equal_pytorch(dtype: str) -> None:
    import torch

    rng = np.random.default_rng(1)
    lengths, counts = rng.integers(60, 121, 9), rng.integers(1, 28, 9)
    logits = (3 * rng.standard_normal((9, 120, 40))).astype(dtype)
    labels = rng.integers(1, 40, counts.sum())
    losses, gradient = _core.ctc_loss(logits, labels, counts, 0, lengths)
    x = torch.from_numpy(logits.astype(np.float64)).requires_grad_()
    theirs = torch.nn.functional.ctc_loss(
        torch.log_softmax(x, 2).transpose(0, 1), *(torch.from_numpy(np.asarray(v)) for v in (labels, lengths, counts)),
        reduction="none",
    )  # fmt: skip
    theirs.sum().backward()
    np.testing.assert_allclose(losses, theirs.detach().numpy(), rtol=1e-12)
    tolerance = {"float32": 1e-6, "float64": 1e-11}[dtype]
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=tolerance)
    assert gradient.dtype == dtype


def test_sure_and_wrong_is_not_infinite() -> None:
    """Every step says output 1 with all its weight; the labels are others."""
    logits = np.zeros((100, 4))
    logits[:, 1] = 500.0
    losses, gradient = _core.ctc_loss([logits], np.array([2, 3] * 20), [40])
    # Labels in turn differ, so T steps have C(T + U, 2U) alignments, all alike.
    np.testing.assert_allclose(losses, [100 * 500.0 - math.log(math.comb(140, 80))], rtol=1e-12)
    assert np.isfinite(gradient[0]).all()
    np.testing.assert_allclose(gradient[0].sum(axis=1), 0.0, atol=1e-9)
    np.testing.assert_allclose(gradient[0][:, 1], 1.0, atol=1e-9)


def test_values_that_are_no_numbers() -> None:
    logits = [np.zeros((3, 3)) for _ in range(4)]
    logits[1][1, 1] = np.nan
    logits[2][1, 1] = np.inf
    logits[3][:, 1] = -np.inf
    losses, gradient = _core.ctc_loss(logits, [1, 1, 1, 1], [1, 1, 1, 1])
    assert np.isfinite(losses[0])
    assert np.isnan(losses[1:3]).all()
    assert losses[3] == np.inf
    assert np.isnan(gradient[1]).all()
    losses, gradient = _core.ctc_loss(logits, [1, 1, 1, 1], [1, 1, 1, 1], weights=[1.0, 0.0, 0.0, 0.0])
    assert (losses[1:] == 0.0).all()
    assert all((g == 0.0).all() for g in gradient[1:])
    assert _core.ctc_beam(logits)[1] == []
    assert len(_core.ctc_greedy(logits)) == 4


def test_padding_is_not_read_and_threads_do_not_change_a_bit() -> None:
    rng = np.random.default_rng(2)
    lengths, counts = rng.integers(30, 61, 20), rng.integers(0, 12, 20)
    logits = rng.standard_normal((20, 60, 11)).astype("float32")
    labels = rng.integers(1, 11, counts.sum())
    one, one_gradient = _core.ctc_loss(logits, labels, counts, lengths=lengths, n_threads=1)
    for n, length in enumerate(lengths):
        logits[n, length:] = np.nan
    two, two_gradient = _core.ctc_loss(logits, labels, counts, lengths=lengths, n_threads=4)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one_gradient, two_gradient)
    for n, length in enumerate(lengths):
        assert (two_gradient[n, length:] == 0.0).all()
    parts = [x[:length] for x, length in zip(logits, lengths, strict=True)]
    np.testing.assert_array_equal(_core.ctc_loss(parts, labels, counts, gradient=False)[0], one)


# --- decoding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_wide_beam_finds_what_counting_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    blank = int(rng.integers(3))
    logits = 2 * rng.standard_normal((5, 3))
    every = sorted(ctc.probabilities(logits, blank).items(), key=lambda item: -item[1])
    (found,) = _core.ctc_beam([logits], blank, width=1000)
    assert len(found) == len(every)
    for (labels, score), (expected, p) in zip(found, every, strict=True):
        assert tuple(labels.tolist()) == expected
        np.testing.assert_allclose(score, np.log(p), rtol=1e-11, atol=1e-12)


def test_beam_beats_best_path() -> None:
    """Graves et al. 2006, section 3.2: the best path is blank blank, p = 0.36, but all paths to (1,) have 0.64."""
    logits = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    assert _core.ctc_greedy([logits])[0].tolist() == []
    labels, score = _core.ctc_beam([logits])[0][0]
    assert labels.tolist() == [1]
    np.testing.assert_allclose(score, np.log(0.64), rtol=1e-13)


def test_narrow_beam_keeps_the_best() -> None:
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((2, 30, 6))
    for wide, narrow in zip(_core.ctc_beam(logits, width=64), _core.ctc_beam(logits, width=4), strict=True):
        assert len(narrow) == 4
        assert wide[0][1] >= narrow[0][1] - 1e-12
        scores = [score for _, score in wide]
        assert scores == sorted(scores, reverse=True)


def test_greedy_merges_and_drops() -> None:
    path = [0, 1, 1, 0, 1, 2, 2, 0, 0]
    logits = np.eye(3)[path]
    assert _core.ctc_greedy([logits])[0].tolist() == [1, 1, 2]
    assert _core.ctc_greedy([logits], blank=2)[0].tolist() == [0, 1, 0, 1, 0]
    assert _core.ctc_greedy(logits[None], lengths=[4])[0].tolist() == [1]


def test_callback_scores_prefixes() -> None:
    logits = 0.3 * np.random.default_rng(4).standard_normal((6, 4))
    met: list[tuple[tuple[int, ...], int]] = []

    def score(prefix: tuple[int, ...], label: int) -> float:
        met.append((prefix, label))
        return 5.0 if label == len(prefix) + 1 else -5.0

    labels, total = _core.ctc_beam([logits], width=200, score=score)[0][0]
    assert labels.tolist() == [1, 2, 3]
    assert len(met) == len(set(met))
    loss, _ = _core.ctc_loss([logits], labels, [3])
    np.testing.assert_allclose(total, 15.0 - loss[0], rtol=1e-9)
    never = _core.ctc_beam([logits], width=300, score=lambda prefix, label: -np.inf if label == 2 else 0.0)[0]
    assert never
    assert not any(2 in labels for labels, _ in never)

    def broken(prefix: tuple[int, ...], label: int) -> float:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        _core.ctc_beam([logits], score=broken)
    for result, error in (("x", TypeError), (float("nan"), ValueError), (None, TypeError)):
        with pytest.raises(error, match="score: its result"):
            _core.ctc_beam([logits], score=lambda prefix, label, result=result: result)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labels": [1, 1, 2, 2]}, ValueError, "labels: sequence 1: 3 labels need at least 4 steps, .* but it has 3"),
        ({"labels": [1, 0, 2, 1]}, ValueError, "labels: sequence 1: label 0 is the blank"),
        ({"labels": [1, 3, 2, 1]}, ValueError, "labels: sequence 1: label 0: expected 0 to 2, got 3"),
        ({"labels": [1, -3, 2, 1]}, ValueError, "labels: sequence 1: label 0: expected 0 to 2"),
        ({"labels": [1, 2**40, 2, 1]}, ValueError, "labels: sequence 1: label 0: expected 0 to 2"),
        ({"labels": [1, 2]}, ValueError, r"labels: expected \(4,\)"),
        ({"labels": [0.5] * 4}, ValueError, "labels: expected integers"),
        ({"counts": [1, -1]}, ValueError, r"counts\[1\]: expected 0 or more"),
        ({"counts": [2**62, 2**62]}, ValueError, r"counts\[0\]"),
        ({"counts": [4]}, ValueError, r"counts: expected \(2,\)"),
        ({"blank": 3}, ValueError, "blank: expected 0 to 2, got 3"),
        ({"blank": -1}, ValueError, "blank"),
        ({"logits": np.zeros((2, 3))}, ValueError, "logits"),
        ({"logits": np.zeros((2, 3, 1))}, ValueError, "at least 2 outputs"),
        ({"logits": np.array([[["a"]]])}, (TypeError, ValueError), "logits"),
        ({"lengths": [3, 4]}, ValueError, "lengths"),
        ({"weights": [1.0, -1.0]}, ValueError, "weights: sequence 1: expected a finite number >= 0"),
        ({"weights": [1.0, np.inf]}, ValueError, "weights: sequence 1"),
        ({"n_threads": 0}, ValueError, "n_threads"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], error: Any, message: str) -> None:
    arguments: dict[str, Any] = {"logits": np.zeros((2, 3, 3)), "labels": [1, 1, 2, 1], "counts": [1, 3]}
    _core.ctc_loss(**arguments)
    with pytest.raises(error, match=message):
        _core.ctc_loss(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"width": 0}, ValueError, "width"),
        ({"width": 1.5}, TypeError, "width"),
        ({"score": "x"}, TypeError, "score: expected a callable"),
        ({"blank": 9}, ValueError, "blank"),
    ],
)
def test_wrong_arguments_of_beams(changes: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        _core.ctc_beam(np.zeros((1, 3, 3)), **changes)
