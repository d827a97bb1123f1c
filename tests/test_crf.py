"""Conditional random fields against sums over all label sequences, and the dense layer below them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lstmcore import _core
from reference import crf

Array = NDArray[Any]
NEVER = -np.inf


def chain(seed: int, labels: int, lengths: list[int], scale: float = 1.0) -> tuple[list[Array], Array, Array, Array]:
    random = np.random.default_rng(seed)
    emissions = [scale * random.standard_normal((length, labels)) for length in lengths]
    return (
        emissions,
        scale * random.standard_normal((labels, labels)),
        scale * random.standard_normal(labels),
        scale * random.standard_normal(labels),
    )


def constrained(
    seed: int, labels: int, lengths: list[int], scale: float = 1.0
) -> tuple[list[Array], Array, Array, Array]:
    """Every third transition, one first and one last label are forbidden; label 0 is always allowed."""
    emissions, transitions, start, end = chain(seed, labels, lengths, scale)
    for j in range(labels):
        for k in range(1, labels):
            if (j + 2 * k) % 3 == 0:
                transitions[j, k] = NEVER
    start[-1] = NEVER
    end[labels // 2] = NEVER
    return emissions, transitions, start, end


def some_paths(seed: int, emissions: list[Array], transitions: Array, start: Array, end: Array) -> list[Array]:
    """A random allowed path of each sequence."""
    random = np.random.default_rng(seed)
    found = []
    for e in emissions:
        every, scores = crf.paths(e, transitions, start, end)
        found.append(every[random.choice(np.flatnonzero(np.isfinite(scores)))])
    return found


CASES = [
    pytest.param(kind, labels, lengths, scale, id=f"{kind.__name__}-K{labels}-scale{scale:g}")
    for kind in (chain, constrained)
    for labels, lengths in ((1, [1, 4]), (2, [1, 7, 3]), (3, [5, 1, 2, 6]), (5, [4, 3, 5]), (9, [3, 1]))
    for scale in (1.0, 40.0)
    if not (kind is constrained and labels < 3)
]


@pytest.mark.parametrize(("kind", "labels", "lengths", "scale"), CASES)
def test_loss_marginals_and_best_path_equal_brute_force(
    kind: Any, labels: int, lengths: list[int], scale: float
) -> None:
    emissions, *scores = kind(0, labels, lengths, scale)
    targets = some_paths(1, emissions, *scores)
    losses, _ = _core.crf_loss(emissions, np.concatenate(targets), *scores)
    found, partition = _core.crf_marginals(emissions, *scores)
    decoded, best = _core.crf_decode(emissions, *scores)
    at = 0
    for n, (e, path) in enumerate(zip(emissions, targets, strict=True)):
        ones = np.ones(len(e))
        np.testing.assert_allclose(losses[n], crf.loss(e, path, *scores, ones), rtol=1e-11, atol=1e-10)
        np.testing.assert_allclose(partition[n], crf.log_partition(e, *scores), rtol=1e-13)
        np.testing.assert_allclose(found[n], crf.marginals(e, *scores), rtol=1e-10, atol=1e-13)
        expected, score = crf.best(e, *scores)
        np.testing.assert_array_equal(decoded[at : at + len(e)], expected)
        np.testing.assert_allclose(best[n], score, rtol=1e-13)
        at += len(e)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("kind", "labels", "lengths", "scale"), [case for case in CASES if case.values[3] == 1.0])
def test_gradient_equals_differences_of_brute_force(
    kind: Any, labels: int, lengths: list[int], scale: float, weighted: bool
) -> None:
    emissions, *scores = kind(2, labels, lengths, scale)
    targets = some_paths(3, emissions, *scores)
    random = np.random.default_rng(4)
    weights = [random.uniform(0.0, 3.0, len(e)) if weighted else np.ones(len(e)) for e in emissions]
    if weighted:
        weights[-1][:] = 0.0
        weights[0][0] = 0.0

    def total() -> float:
        return sum(crf.loss(e, y, *scores, w) for e, y, w in zip(emissions, targets, weights, strict=True))

    flat = np.concatenate(weights) if weighted else None
    losses, gradient = _core.crf_loss(emissions, np.concatenate(targets), *scores, weights=flat)
    np.testing.assert_allclose(losses.sum(), total(), rtol=1e-11, atol=1e-11)
    found_of = [*gradient["emissions"], *(gradient[name] for name in ("transitions", "start", "end"))]
    for values, found in zip([*emissions, *scores], found_of, strict=True):
        for index in np.ndindex(values.shape):
            if not np.isfinite(values[index]):
                assert found[index] == 0.0
                continue
            kept = values[index]
            h = 1e-4
            sums = []
            for offset in (h, -h, 2 * h, -2 * h):
                values[index] = kept + offset
                sums.append(total())
            values[index] = kept
            slope = (8 * (sums[0] - sums[1]) - (sums[2] - sums[3])) / (12 * h)  # fourth order
            np.testing.assert_allclose(found[index], slope, rtol=1e-8, atol=1e-9)


def test_gradient_of_the_emissions_is_marginals_minus_path() -> None:
    emissions, *scores = chain(5, 4, [6, 3])
    path = np.array([0, 1, 2, 3, 3, 0, 1, 1, 2])
    _, gradient = _core.crf_loss(emissions, path, *scores)
    found = np.concatenate(gradient["emissions"])
    expected = np.concatenate([crf.marginals(e, *scores) for e in emissions])
    expected[np.arange(len(path)), path] -= 1.0
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_nothing_underflows_where_chains_cannot_meet() -> None:
    """Labels that never change: the less likely path falls behind by 30 a step, 3e4 in all."""
    length = 1000
    emissions = np.zeros((length, 2))
    emissions[:, 1] = -30.0
    transitions = np.array([[0.0, NEVER], [NEVER, 0.0]])
    nil = np.zeros(2)
    losses, gradient = _core.crf_loss([emissions], np.ones(length, dtype=int), transitions, nil, nil)
    np.testing.assert_allclose(losses, [30.0 * length], rtol=1e-14)
    np.testing.assert_allclose(gradient["emissions"][0], np.tile([1.0, -1.0], (length, 1)), atol=1e-12)
    # And the other way round, where the end decides for the path that all emissions speak against.
    end = np.array([NEVER, 0.0])
    losses, _ = _core.crf_loss([emissions], np.ones(length, dtype=int), transitions, nil, end)
    np.testing.assert_allclose(losses, [0.0], atol=1e-9)
    decoded, score = _core.crf_decode([emissions], transitions, nil, end)
    assert (decoded == 1).all()
    np.testing.assert_allclose(score, [-30.0 * length], rtol=1e-14)


def test_very_unlikely_transitions_count_exactly() -> None:
    emissions, transitions, start, end = chain(6, 3, [5])
    transitions[0, 1] = -1e4
    transitions[2] = [-2e3, -1e3, -3e3]
    for path in ([0, 1, 0, 0, 0], [2, 0, 2, 1, 1], [1, 1, 2, 2, 2]):
        losses, _ = _core.crf_loss(emissions, np.array(path), transitions, start, end)
        expected = crf.loss(emissions[0], np.array(path), transitions, start, end, np.ones(5))
        np.testing.assert_allclose(losses[0], expected, rtol=1e-13)


def test_padding_is_not_read() -> None:
    emissions, *scores = chain(7, 3, [4, 6, 2])
    padded = np.full((3, 6, 3), np.nan)
    for n, e in enumerate(emissions):
        padded[n, : len(e)] = e
    path = np.arange(12) % 3
    one, one_gradient = _core.crf_loss(emissions, path, *scores)
    two, two_gradient = _core.crf_loss(padded, path, *scores, lengths=[4, 6, 2])
    np.testing.assert_array_equal(one, two)
    for n, e in enumerate(emissions):
        np.testing.assert_array_equal(one_gradient["emissions"][n], two_gradient["emissions"][n, : len(e)])
        assert (two_gradient["emissions"][n, len(e) :] == 0.0).all()
    np.testing.assert_array_equal(one_gradient["transitions"], two_gradient["transitions"])
    found, _ = _core.crf_marginals(padded, *scores, lengths=[4, 6, 2])
    np.testing.assert_allclose(found.sum(axis=2), np.arange(6) < np.array([[4], [6], [2]]), atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_a_bit(dtype: str) -> None:
    random = np.random.default_rng(8)
    lengths = random.integers(1, 60, 70).tolist()
    emissions, *scores = chain(9, 11, lengths)
    emissions = [e.astype(dtype) for e in emissions]
    scores = [s.astype(dtype) for s in scores]
    path = random.integers(0, 11, sum(lengths))
    weights = random.uniform(0, 2, sum(lengths))

    def results(threads: int) -> list[Array]:
        losses, gradient = _core.crf_loss(emissions, path, *scores, weights=weights, n_threads=threads)
        found, partition = _core.crf_marginals(emissions, *scores, n_threads=threads)
        decoded, best = _core.crf_decode(emissions, *scores, n_threads=threads)
        d = gradient.pop("emissions")
        return [losses, *d, *gradient.values(), *found, partition, decoded, best]

    for one, many in zip(results(1), results(5), strict=True):
        np.testing.assert_array_equal(one, many)


def test_float32_is_the_rounded_float64() -> None:
    emissions, *scores = chain(10, 6, [20, 30])
    singles = [e.astype("float32") for e in emissions], [s.astype("float32") for s in scores]
    doubles = [e.astype("float64") for e in singles[0]], [s.astype("float64") for s in singles[1]]
    path = np.arange(50) % 6
    one, one_gradient = _core.crf_loss(singles[0], path, *singles[1])
    two, two_gradient = _core.crf_loss(doubles[0], path, *doubles[1])
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one_gradient["transitions"], two_gradient["transitions"].astype("float32"))
    assert one_gradient["emissions"][0].dtype == np.float32


def test_nan_and_impossible_chains_do_no_harm() -> None:
    emissions, transitions, start, end = chain(11, 3, [4, 4])
    emissions[1][2, 0] = np.nan
    losses, _ = _core.crf_loss(emissions, np.zeros(8, dtype=int), transitions, start, end)
    assert np.isfinite(losses[0])
    assert np.isnan(losses[1])
    decoded, _ = _core.crf_decode(emissions, transitions, start, end)
    assert ((decoded >= 0) & (decoded < 3)).all()
    # No label may follow any other: sequences of one step are all that there is.
    never = np.full((3, 3), NEVER)
    single = [emissions[0][:1], emissions[0]]
    _, partition = _core.crf_marginals(single, never, start, end)
    assert np.isfinite(partition[0])
    assert partition[1] == NEVER
    _, best = _core.crf_decode(single, never, start, end)
    assert best[1] == NEVER
    # A weight of 0 leaves out what is not a number.
    losses, gradient = _core.crf_loss(
        emissions, np.zeros(8, dtype=int), transitions, start, end, weights=np.repeat([1.0, 0.0], 4)
    )
    assert losses[1] == 0.0
    assert (gradient["emissions"][1] == 0.0).all()
    assert np.isfinite(gradient["transitions"]).all()


def bad(name: str, value: Any) -> dict[str, Any]:
    emissions, transitions, start, end = chain(12, 3, [4, 2])
    labels = np.zeros(6, dtype=int)
    given = {"emissions": emissions, "labels": labels, "transitions": transitions, "start": start, "end": end}
    return {**given, name: value}


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("labels", np.zeros(5, dtype=int), ValueError, r"labels: expected \(6,\)"),
        ("labels", np.array([0, 0, 0, 3, 0, 0]), ValueError, "labels: sequence 0, step 3: expected 0 to 2, got 3"),
        ("labels", np.array([0, 0, 0, 0, 0, -1]), ValueError, r"labels\[5\]: expected a label >= 0, got -1"),
        ("labels", np.array([0, 0, 0, 0, 0, 2**40]), ValueError, "labels"),
        ("labels", np.zeros(6), ValueError, "labels: expected integers"),
        ("emissions", np.zeros((2, 3, 4)), ValueError, "emissions"),
        ("emissions", [], ValueError, "emissions"),
        ("emissions", np.array([["a"]]), (TypeError, ValueError), "emissions"),
        ("transitions", np.zeros((3, 2)), ValueError, r"transitions: expected \(K, K\)"),
        ("transitions", [[0.0]], TypeError, "transitions: expected an ndarray"),
        ("transitions", np.zeros((3, 3), dtype=int), TypeError, "transitions: expected dtype float32 or float64"),
        ("transitions", np.full((3, 3), np.nan), ValueError, "transitions: expected finite numbers.*NaN"),
        ("start", np.array([0.0, np.inf, 0.0]), ValueError, "start: expected finite numbers.*infinity at position 1"),
        ("start", np.array([NEVER, 0.0, 0.0]), ValueError, "sequence 0, step 0: label 0 is forbidden as the first"),
        ("end", np.array([NEVER, 0.0, 0.0]), ValueError, "sequence 0, step 3: label 0 is forbidden as the last"),
        ("end", np.zeros(2), ValueError, r"end: expected \(K,\)"),
        ("weights", np.full(6, -1.0), ValueError, "weights: sequence 0, step 0: expected a finite number >= 0"),
        ("weights", np.zeros(3), ValueError, "weights: expected"),
        ("lengths", [5, 1], ValueError, "lengths"),
        ("n_threads", 0, ValueError, "n_threads"),
        ("gradient", "yes", TypeError, "gradient"),
    ],
)
def test_wrong_arguments_are_named(name: str, value: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        _core.crf_loss(**bad(name, value))


def test_forbidden_transition_is_named() -> None:
    given = bad("labels", np.array([0, 1, 0, 0, 2, 2]))
    given["transitions"][1, 0] = NEVER
    with pytest.raises(ValueError, match="sequence 0, step 2: the transition from label 1 to 0 is forbidden"):
        _core.crf_loss(**given)


# --- dense layer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (7, 1), (5, 3, 13), (2, 200, 33)])
@pytest.mark.parametrize("outputs", [1, 4, 19])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense_layer(shape: tuple[int, ...], outputs: int, dtype: str) -> None:
    random = np.random.default_rng(0)
    x, W, b = (random.standard_normal(s).astype(dtype) for s in (shape, (outputs, shape[-1]), outputs))
    dy = random.standard_normal((*shape[:-1], outputs)).astype(dtype)
    y = _core.dense_forward(x, W, b)
    dx, dW, db = _core.dense_backward(x, W, dy)
    assert y.dtype == dx.dtype == dtype
    wide = [a.astype("float64") for a in (x, W, b, dy)]
    tolerance = {"float32": 2e-4, "float64": 1e-12}[dtype]
    rows, slopes = wide[0].reshape(-1, shape[-1]), wide[3].reshape(-1, outputs)
    for found, expected in (
        (y, wide[0] @ wide[1].T + wide[2]),
        (dx, wide[3] @ wide[1]),
        (dW, slopes.T @ rows),
        (db, slopes.sum(axis=0)),
    ):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_dense_layer_threads_do_not_change_a_bit() -> None:
    random = np.random.default_rng(1)
    x, W, b = (random.standard_normal(s).astype("float32") for s in ((31, 50, 70), (24, 70), 24))
    dy = random.standard_normal((31, 50, 24)).astype("float32")
    np.testing.assert_array_equal(_core.dense_forward(x, W, b, 1), _core.dense_forward(x, W, b, 4))
    for one, many in zip(_core.dense_backward(x, W, dy, 1), _core.dense_backward(x, W, dy, 4), strict=True):
        np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize(
    ("x", "W", "b", "error", "message"),
    [
        (np.zeros((2, 3)), np.zeros((4, 5)), np.zeros(4), ValueError, r"x: expected \(..., 5\)"),
        (np.zeros((0, 5)), np.zeros((4, 5)), np.zeros(4), ValueError, "x: expected"),
        (np.zeros((1, 1, 1, 5)), np.zeros((4, 5)), np.zeros(4), ValueError, "at most three axes"),
        (np.zeros((2, 5)), np.zeros((0, 5)), np.zeros(0), ValueError, r"W: expected \(K, H\)"),
        (np.zeros((2, 5)), np.zeros((4, 5)), np.zeros(5), ValueError, r"b: expected \(K,\)"),
        (np.zeros((2, 5)), np.zeros((4, 5)), None, TypeError, "b: expected"),
        (np.zeros((2, 5)), "W", np.zeros(5), TypeError, "W: expected an ndarray"),
    ],
)
def test_dense_layer_names_wrong_arguments(x: Any, W: Any, b: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        _core.dense_forward(x, W, b)


def test_dense_layer_names_wrong_slopes() -> None:
    with pytest.raises(ValueError, match=r"dy: expected \(2, 4\), got \(2, 3\)"):
        _core.dense_backward(np.zeros((2, 5)), np.zeros((4, 5)), np.zeros((2, 3)))
