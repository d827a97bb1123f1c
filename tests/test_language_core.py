"""What language models compute in C++: embeddings, softmax losses and their gradients, generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from checking import assert_bitwise
from lstmcore import _core
from reference import language as reference

Array = NDArray[Any]


def problem(rows: int, inputs: int, symbols: int, seed: int = 0, scale: float = 1.0) -> tuple[Array, ...]:
    rng = np.random.default_rng(seed)
    x, W = rng.standard_normal((rows, inputs)), scale * rng.standard_normal((symbols, inputs))
    return x, W, rng.standard_normal(symbols), rng.integers(symbols, size=rows)


# The last two take several blocks of rows.
SIZES = [(1, 1, 1), (1, 1, 2), (5, 3, 4), (96, 8, 17), (200, 16, 33), (300, 4, 8001), (390, 3, 12_000)]


def test_embedding() -> None:
    rng = np.random.default_rng(0)
    table, codes = rng.standard_normal((7, 5)), rng.integers(7, size=50)
    assert_bitwise(_core.embed(table, codes), table[codes], "rows")
    assert _core.embed(table, []).shape == (0, 5)
    d_rows = rng.standard_normal((50, 5))
    expected = np.zeros((9, 5))
    np.add.at(expected, codes, d_rows)
    np.testing.assert_array_equal(_core.embed_backward(codes, d_rows, 9), expected)


def test_gradient_of_the_embedding_does_not_depend_on_threads() -> None:
    rng = np.random.default_rng(0)
    codes, d_rows = rng.integers(300, size=4000), rng.standard_normal((4000, 64)).astype(np.float32)
    alone = _core.embed_backward(codes, d_rows, 300, 1)
    for threads in (2, 3, 5):
        assert_bitwise(_core.embed_backward(codes, d_rows, 300, threads), alone, f"{threads} threads")


@pytest.mark.parametrize("size", SIZES)
def test_softmax_loss(size: tuple[int, int, int]) -> None:
    x, W, b, labels = problem(*size)
    losses, dx, dW, db = _core.softmax_loss(x, W, b, labels, 0.5)
    np.testing.assert_allclose(losses, reference.softmax_losses(x, W, b, labels), rtol=1e-11, atol=1e-12)
    for name, found, expected in zip("xWb", (dx, dW, db), reference.softmax_gradients(x, W, b, labels), strict=True):
        np.testing.assert_allclose(found, 0.5 * expected, rtol=1e-10, atol=1e-12, err_msg=name)
    assert_bitwise(_core.softmax_loss(x, W, b, labels, gradient=False)[0], losses, "losses alone")


def test_softmax_loss_in_single_precision() -> None:
    x, W, b, labels = problem(300, 32, 200)
    single = [a.astype(np.float32) for a in (x, W, b)]
    losses, dx, dW, db = _core.softmax_loss(*single, labels)
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, reference.softmax_losses(x, W, b, labels), rtol=2e-5, atol=2e-6)
    for found, expected in zip((dx, dW, db), reference.softmax_gradients(x, W, b, labels), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_extreme_scores() -> None:
    W = np.array([[1e4], [-1e4], [0.0]], dtype=np.float32)
    losses, dx, dW, db = _core.softmax_loss(np.ones((2, 1), np.float32), W, np.zeros(3), [0, 1])
    np.testing.assert_allclose(losses, [0.0, 2e4], rtol=1e-6)
    assert np.isfinite(dx).all()
    assert np.isfinite(dW).all()
    np.testing.assert_allclose(db, [1.0, -1.0, 0.0], atol=1e-6)
    losses = _core.softmax_loss(np.full((1, 1), np.nan), W.astype(np.float64), np.zeros(3), [0], gradient=False)[0]
    assert np.isnan(losses[0])


@pytest.mark.parametrize("size", [(700, 24, 130), (390, 3, 12_000)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_do_not_depend_on_threads(size: tuple[int, int, int], dtype: str) -> None:
    x, W, b, labels = problem(*size)
    x, W, b = (a.astype(dtype) for a in (x, W, b))
    samples = np.arange(0, size[2], 3)
    of_samples, of_labels = np.full(len(samples), -0.5), np.full(size[0], -1.5)
    calls: dict[str, Callable[[int], Any]] = {
        "full": lambda n: _core.softmax_loss(x, W, b, labels, n_threads=n),
        "sampled": lambda n: _core.sampled_softmax_loss(x, W, b, labels, samples, of_samples, of_labels, n_threads=n),
        "probabilities": lambda n: (_core.log_probabilities(x, [(None, W, b)], n),),
    }
    for name, call in calls.items():
        alone = call(1)
        for threads in (2, 3):
            for k, found in enumerate(call(threads)):
                assert_bitwise(found, alone[k], f"{name}, result {k}, {threads} threads")


@pytest.mark.parametrize(("rows", "count"), [(7, 4), (40, 1), (300, 40)])
def test_sampled_softmax(rows: int, count: int) -> None:
    x, W, b, labels = problem(rows, 5, 60, seed=rows)
    rng = np.random.default_rng(1)
    samples = rng.permutation(60)[:count]
    labels[::3] = samples[0]  # some rows draw their own label
    of_samples, of_labels = -rng.random(count), -rng.random(rows)
    arguments = (labels, samples, of_samples, of_labels)
    losses, dx, dW, db = _core.sampled_softmax_loss(x, W, b, *arguments, scale=0.25)
    np.testing.assert_allclose(losses, reference.sampled_losses(x, W, b, *arguments), rtol=1e-11, atol=1e-12)

    def total() -> float:
        return 0.25 * float(reference.sampled_losses(x, W, b, *arguments).sum())

    for name, value, gradient in (("x", x, dx), ("W", W, dW), ("b", b, db)):
        for index in list(np.ndindex(value.shape))[:: max(1, value.size // (40 if rows < 100 else 5))]:
            assert gradient[index] == pytest.approx(slope(value, index, total), rel=1e-6, abs=1e-9), (name, index)
    unused = np.setdiff1d(np.arange(60), np.r_[labels, samples])
    assert not dW[unused].any()
    assert not db[unused].any()


def slope(value: Array, index: tuple[int, ...], total: Callable[[], float]) -> float:
    """∂total/∂value[index], by differences of fourth order."""
    kept, sums = value[index], []
    for h in (1e-3, -1e-3, 2e-3, -2e-3):
        value[index] = kept + h
        sums.append(total())
    value[index] = kept
    return (8 * (sums[0] - sums[1]) - (sums[2] - sums[3])) / 12e-3


def parts_of(inputs: int, seed: int = 0) -> list[tuple[Array | None, Array, Array]]:
    """An adaptive softmax over 5 + 7 + 11 symbols."""
    rng = np.random.default_rng(seed)
    parts: list[tuple[Array | None, Array, Array]] = [
        (None, rng.standard_normal((7, inputs)), rng.standard_normal(7)),
    ]
    for width, count in ((3, 7), (2, 11)):
        parts.append(
            (rng.standard_normal((width, inputs)), rng.standard_normal((count, width)), rng.standard_normal(count))
        )
    return parts


@pytest.mark.parametrize("rows", [1, 95, 230])
def test_log_probabilities(rows: int) -> None:
    x = np.random.default_rng(3).standard_normal((rows, 6))
    parts = parts_of(6)
    tails: Any = parts[1:]
    expected = reference.adaptive_log_probabilities(x, parts[0][1:], tails)
    found = _core.log_probabilities(x, parts)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, rtol=1e-12)
    P = np.random.default_rng(4).standard_normal((4, 6))
    W, b = np.random.default_rng(5).standard_normal((9, 4)), np.zeros(9)
    np.testing.assert_allclose(
        _core.log_probabilities(x, [(P, W, b)]), reference.log_softmax(x @ P.T @ W.T), rtol=1e-11, atol=1e-11
    )


# --- generation ------------------------------------------------------------------------------------------------------


class Writer:
    """A layer with embedding and output, and `_core.generate` of it."""

    def __init__(self, cell: str = "lstm", dtype: str = "float64", adaptive: bool = False, **options: Any) -> None:
        self.layer = _core.Recurrent(cell, input_size=4, hidden_size=8, dtype=dtype, seed=1, **options)
        for value in self.layer.parameters.values():
            value[...] *= 2.0
        rng = np.random.default_rng(0)
        self.table = rng.standard_normal((23, 4)).astype(dtype)
        width = self.layer.step(np.zeros((1, 4)))[0].shape[1]
        parts: list[Any] = (
            parts_of(width) if adaptive else [(None, rng.standard_normal((23, width)), rng.standard_normal(23))]
        )
        self.parts = [tuple(None if a is None else a.astype(dtype) for a in part) for part in parts]

    def __call__(self, first: list[int], length: int, **options: Any) -> list[list[int]]:
        texts, self.state = _core.generate(
            self.layer, self.table, self.parts, first, self.layer.init_state(len(first)), length, **options
        )
        return [text.tolist() for text in texts]

    def by_steps(self, code: int, length: int) -> list[int]:
        """Always the most probable symbol, in Python."""
        state, found = self.layer.init_state(1), []
        for _ in range(length):
            h, state = self.layer.step(self.table[[code]], state)
            code = int(np.argmax(_core.log_probabilities(h, self.parts)[0]))
            found.append(code)
        self.state = state
        return found

    def next(self, code: int) -> Array:
        h, _ = self.layer.step(self.table[[code]], self.layer.init_state(1))
        probabilities: Array = np.exp(_core.log_probabilities(h, self.parts)[0])
        return probabilities


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "mlstm", "slstm", "xlstm", "indrnn", "lstm1997"])
def test_the_most_probable_symbols(cell: str, adaptive: bool) -> None:
    writer = Writer(cell, adaptive=adaptive)
    texts = writer([5, 0, 5], 30, temperature=0)
    together = writer.state
    assert writer([0], 30, temperature=0)[0] == texts[1]
    assert texts[0] == texts[2] == writer.by_steps(5, 30)
    for name, value in writer.state.items():
        np.testing.assert_allclose(together[name][:, 2], value[:, 0], rtol=1e-9, atol=1e-12, err_msg=name)


def test_frequencies_are_the_probabilities() -> None:
    writer = Writer()
    count, code = 40_000, 3
    drawn = np.bincount([text[0] for text in writer([code] * count, 1, seed=7)], minlength=23)
    expected = writer.next(code)
    error = np.sqrt(count * expected * (1.0 - expected))
    assert (np.abs(drawn - count * expected) < 5 * error + 1).all()

    half = np.sqrt(expected) / np.sqrt(expected).sum()
    drawn = np.bincount([text[0] for text in writer([code] * count, 1, seed=8, temperature=2.0)], minlength=23)
    assert (np.abs(drawn - count * half) < 5 * np.sqrt(count * half) + 1).all()


def test_top_k_and_top_p() -> None:
    writer = Writer(dtype="float32")
    p = writer.next(2)
    order = np.argsort(-p)
    count = 20_000
    drawn = np.bincount([t[0] for t in writer([2] * count, 1, seed=1, top_k=3)], minlength=23)
    assert set(np.flatnonzero(drawn)) == set(order[:3])
    expected = count * p[order[:3]] / p[order[:3]].sum()
    assert (np.abs(drawn[order[:3]] - expected) < 5 * np.sqrt(expected)).all()
    for top_p in (0.2, 0.6, 0.9):
        kept = int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1
        drawn = np.bincount([t[0] for t in writer([2] * count, 1, seed=2, top_p=top_p)], minlength=23)
        assert set(np.flatnonzero(drawn)) == set(order[:kept]), top_p
    assert writer([2], 20, top_k=1) == writer([2], 20, temperature=0)
    assert writer([2], 20, top_p=1e-9) == writer([2], 20, temperature=0)
    assert writer([2], 20, top_k=100, seed=3) != writer([2], 20, temperature=0)
    # Nucleus of the k most probable ones: half of the two is the first.
    assert {t[0] for t in writer([2] * 300, 1, top_k=2, top_p=0.5)} == {int(order[0])}


def test_forbidden_symbols_and_stops() -> None:
    writer = Writer()
    best = writer([4], 12, temperature=0)[0]
    other = writer([4], 12, temperature=0, forbidden=[best[0]])[0]
    assert best[0] not in other
    drawn = {k for text in writer([4] * 200, 30, seed=5, forbidden=[0, 1, 2]) for k in text}
    assert drawn == set(range(3, 23))
    stop = best[3:5]
    first = next(n for n in range(len(best)) if best[n : n + 2] == stop)
    assert writer([4], 12, temperature=0, stops=[[22, 22, 22], stop]) == [best[: first + 2]]
    # One text that ends does not stop the others.
    texts = writer([4] * 50, 40, seed=1, stops=[[9]])
    assert all(9 not in text[:-1] for text in texts)
    assert len({len(text) for text in texts}) > 5
    assert writer([4, 5], 0) == [[], []]


def test_texts_do_not_depend_on_threads_or_on_calls() -> None:
    writer = Writer(dtype="float32")
    texts = writer([1, 2, 3], 50, seed=11)
    assert texts == writer([1, 2, 3], 50, seed=11)
    assert texts != writer([1, 2, 3], 50, seed=12)
    writer.layer.n_threads = 2
    assert texts == writer([1, 2, 3], 50, seed=11)
    writer.layer.parameters["b_l0"][:] += 1.0  # weights are those of the moment of the call
    assert texts != writer([1, 2, 3], 50, seed=11)


X, W_, B, LABELS = problem(4, 3, 5)
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: _core.embed(np.zeros((3, 2)), [3]), ValueError, r"codes\[0\].*0 … 2, got 3"),
    (lambda: _core.embed(np.zeros((3, 2)), [-1]), ValueError, r"codes\[0\].*got -1"),
    (lambda: _core.embed(np.zeros((3, 2)), [0.5]), ValueError, "codes.*integers"),
    (lambda: _core.embed(np.zeros(3), [0]), ValueError, "table.*two axes"),
    (lambda: _core.embed(None, [0]), TypeError, "table"),
    (lambda: _core.embed_backward([0, 1], np.zeros((3, 2)), 4), ValueError, "d_rows: expected 2 rows"),
    (lambda: _core.embed_backward([0, 9], np.zeros((2, 2)), 4), ValueError, r"codes\[1\]"),
    (lambda: _core.softmax_loss(X, W_, B, [0, 1, 2]), ValueError, "labels: expected 4"),
    (lambda: _core.softmax_loss(X, W_, B, [0, 1, 2, 5]), ValueError, r"labels\[3\].*0 … 4, got 5"),
    (lambda: _core.softmax_loss(X[:, :2], W_, B, LABELS), ValueError, r"x: expected \(R, 3\)"),
    (lambda: _core.softmax_loss(X, W_, B[:2], LABELS), ValueError, "b"),
    (lambda: _core.softmax_loss(X, W_, B, LABELS, np.nan), ValueError, "scale"),
    (lambda: _core.softmax_loss(X, W_, B, LABELS, n_threads=-1), ValueError, "n_threads"),
    (
        lambda: _core.sampled_softmax_loss(X, W_, B, LABELS, [1, 1], [0.0, 0.0], [0.0] * 4),
        ValueError,
        r"samples\[1\].*twice",
    ),
    (lambda: _core.sampled_softmax_loss(X, W_, B, LABELS, [], [], [0.0] * 4), ValueError, "samples"),
    (
        lambda: _core.sampled_softmax_loss(X, W_, B, LABELS, [1], [np.inf], [0.0] * 4),
        ValueError,
        r"log_expected\[0\]",
    ),
    (lambda: _core.log_probabilities(X, []), ValueError, "output"),
    (lambda: _core.log_probabilities(X, [(None, W_)]), TypeError, "output"),
    (lambda: _core.log_probabilities(X, [(None, np.zeros((5, 2)), B)]), ValueError, r"output\[0\].*expected 3 inputs"),
    (lambda: Writer()([0], -1), ValueError, "length"),
    (lambda: Writer()([0], 5, temperature=-1.0), ValueError, "temperature"),
    (lambda: Writer()([0], 5, temperature=np.nan), ValueError, "temperature"),
    (lambda: Writer()([0], 5, top_p=0.0), ValueError, "top_p"),
    (lambda: Writer()([0], 5, top_k=-2), ValueError, "top_k"),
    (lambda: Writer()([23], 5), ValueError, r"first\[0\]"),
    (lambda: Writer()([], 5), ValueError, "N: expected"),
    (lambda: Writer()([0], 5, forbidden=list(range(23))), ValueError, "forbidden"),
    (lambda: Writer()([0], 5, stops=[[]]), ValueError, "stops"),
    (lambda: Writer(bidirectional=True)([0], 5), ValueError, "bidirectional"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[str(k) for k in range(len(ERRORS))])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_weights_that_are_not_numbers_end_generation() -> None:
    for options in ({}, {"temperature": 0}, {"top_k": 3}, {"top_p": 0.5}):
        writer = Writer()
        writer.parts[0][1][:] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            writer([0], 5, **options)
