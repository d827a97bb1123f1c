"""The tasks of Hochreiter & Schmidhuber (1997) against what the paper says of them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lstmcore import datasets

SYMBOLS = "BTPSXVE"

# The grammar a second time, as a regular expression: T S* X or P T* V lead to the two nodes that the loop joins.
_LOOP = "(?:XT*VP)*(?:S|XT*VV)"
_REBER = f"B(?:TS*X{_LOOP}|PT*V(?:V|P{_LOOP}))E"
EMBEDDED = re.compile(f"B(?:T{_REBER}T|P{_REBER}P)E")


def text(x, last):
    return "".join(SYMBOLS[k] for k in [*x.argmax(axis=1).tolist(), last])


def one_hot(string):
    return np.eye(7)[[SYMBOLS.index(symbol) for symbol in string]]


@pytest.fixture(scope="module")
def reber():
    return datasets.embedded_reber(4000, random_state=0)


def test_reber_strings_are_of_the_grammar(reber):
    X, y = reber
    strings = [text(x, int(labels[-1])) for x, labels in zip(X, y, strict=True)]
    assert all(EMBEDDED.fullmatch(string) for string in strings)
    assert min(map(len, strings)) == 9
    assert abs(np.mean([len(string) for string in strings]) - 12.0) < 0.25
    assert {string[1] for string in strings} == {"T", "P"}
    assert abs(np.mean([string[1] == "T" for string in strings]) - 0.5) < 0.03
    for x, labels in zip(X, y, strict=True):
        np.testing.assert_array_equal(x[1:].argmax(axis=1), labels[:-1])
        assert labels.dtype == np.int64


def test_reber_successors_are_what_the_regular_expression_allows(reber):
    X, y = reber
    strings = {text(x, int(labels[-1])) for x, labels in zip(X, y, strict=True)}
    # A symbol may follow a beginning if and only if some completion matches; completions of up to 8 symbols suffice.
    prefixes = {string[:k] for string in strings for k in range(1, len(string) + 1) if len(string) <= 11}
    tails = {string[k:] for string in strings for k in range(len(string))} | {""}
    tails = {tail for tail in tails if len(tail) <= 8}
    for prefix in sorted(prefixes)[::7]:
        possible = {s for s in SYMBOLS if any(EMBEDDED.fullmatch(prefix + s + tail) for tail in tails)}
        legal = datasets.embedded_reber_successors([one_hot(prefix)])[0][-1]
        assert {SYMBOLS[k] for k in np.flatnonzero(legal)} == possible, prefix


def test_both_successors_are_equally_likely(reber):
    X, y = reber
    legal = datasets.embedded_reber_successors(X)
    rows, labels = np.concatenate(legal), np.concatenate(y)
    assert rows[np.arange(len(labels)), labels].all()
    choices = rows.sum(axis=1)
    assert set(choices.tolist()) == {1, 2}
    first = labels[choices == 2] == rows[choices == 2].argmax(axis=1)
    assert abs(first.mean() - 0.5) < 0.01


def test_excluded_strings_do_not_come():
    training, _ = datasets.embedded_reber(256, random_state=1)
    test, _ = datasets.embedded_reber(256, exclude=training, random_state=2)
    seen = {x.tobytes() for x in training}
    assert not any(x.tobytes() in seen for x in test)
    unfiltered, _ = datasets.embedded_reber(256, random_state=2)
    assert any(x.tobytes() in seen for x in unfiltered)  # so that the line above says something


def test_reber_criterion():
    X, _ = datasets.embedded_reber(50, random_state=3)
    legal = datasets.embedded_reber_successors(X)
    good = [np.where(rows, 0.2, 0.1) for rows in legal]
    assert datasets.embedded_reber_correct(good, X).all()
    for spoil in ("one step", "tie", "nan"):
        outputs = [rows.copy() for rows in good]
        t = len(outputs[7]) - 2  # where T or P is to be told from the second symbol
        if spoil == "one step":
            outputs[7][t] = outputs[7][t, ::-1]
        else:
            outputs[7][t, SYMBOLS.index("S")] = 0.2 if spoil == "tie" else np.nan
        correct = datasets.embedded_reber_correct(outputs, X)
        np.testing.assert_array_equal(np.flatnonzero(~correct), [7])


def test_what_breaks_the_grammar_is_refused():
    for string, where in (("T", "step 0: T where B"), ("BTBTXSEPE", "step 7: P where T"), ("BTBTXSETEB", "the end")):
        with pytest.raises(ValueError, match=re.escape(where) if "step" in where else where):
            datasets.embedded_reber_successors([one_hot("BTBTXSETE"), one_hot(string)])
    with pytest.raises(ValueError, match=r"X\[0\] must be one-hot"):
        datasets.embedded_reber_successors([np.full((3, 7), 0.5)])
    with pytest.raises(ValueError, match=r"X\[0\] must be one-hot"):
        datasets.embedded_reber_successors([np.ones((3, 7))])
    with pytest.raises(ValueError, match=r"X\[0\] must be numbers of shape \(T_i, 7\), got float64 of shape \(3, 6\)"):
        datasets.embedded_reber_successors([np.ones((3, 6))])
    with pytest.raises(ValueError, match="X must be a list of arrays"):
        datasets.embedded_reber_successors("BTBTXSETE")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"exclude\[0\] breaks"):
        datasets.embedded_reber(2, exclude=[one_hot("BB")])
    X, _ = datasets.embedded_reber(2, random_state=0)
    with pytest.raises(ValueError, match="outputs has 1 sequences, X has 2"):
        datasets.embedded_reber_correct(X[:1], X)
    with pytest.raises(ValueError, match=r"outputs\[1\] has shape"):
        datasets.embedded_reber_correct([X[0], X[1][1:]], X)


@pytest.mark.parametrize("regular", [True, False])
def test_noise_free_lag(regular):
    X, y = datasets.noise_free_lag(300, 12, regular=regular, random_state=0)
    assert X.shape == (300, 12, 13)
    np.testing.assert_array_equal(X.sum(axis=2), 1.0)
    symbols = X.argmax(axis=2)
    np.testing.assert_array_equal(symbols[:, 1:], y[:, :-1])
    np.testing.assert_array_equal(symbols[:, 0], y[:, -1])  # 12 steps later
    assert set(symbols[:, 0].tolist()) == {11, 12}
    between = y[:, :-1]
    if regular:
        np.testing.assert_array_equal(between, np.broadcast_to(np.arange(11), (300, 11)))
    else:
        assert set(between.ravel().tolist()) == set(range(11))
        assert len({row.tobytes() for row in between}) == 300


@pytest.mark.parametrize(("lag", "n_distractors"), [(30, None), (30, 5), (1, 2)])
def test_distractor_lag(lag, n_distractors):
    X, y = datasets.distractor_lag(3000, lag, n_distractors=n_distractors, random_state=0)
    p = n_distractors or lag
    more = np.array([len(x) - lag - 3 for x in X])
    assert more.min() == 0
    assert abs(more.mean() - 9.0) < 0.6
    assert abs(np.mean(more == 0) - 0.1) < 0.02
    counts = np.zeros(p + 4)
    for x, label in zip(X, y, strict=True):
        assert x.shape[1] == p + 4
        np.testing.assert_array_equal(x.sum(axis=1), 1.0)
        symbols = x.argmax(axis=1)
        assert symbols[0] == p + 1
        assert symbols[1] == p + 2 + label
        assert symbols[-1] == p
        assert symbols[2:-1].max() < p
        counts += np.bincount(symbols, minlength=p + 4)
    assert counts[:p].min() > 0.8 * counts[:p].mean()
    assert abs(y.mean() - 0.5) < 0.04


def test_two_sequence_with_noise_on_the_signal():
    X, y = datasets.two_sequence(4000, 20, n_signal=2, variant="3b", random_state=0)
    first = np.array([x[:2, 0] for x in X])
    noise = first - (2.0 * y[:, None] - 1.0)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.var() - 0.2) < 0.01
    assert y.dtype == np.int64


def test_two_sequence_with_noisy_targets():
    X, y = datasets.two_sequence(6000, 20, n_signal=1, variant="3c", random_state=0)
    signal = np.array([x[0, 0] for x in X])
    assert set(signal.tolist()) == {-1.0, 1.0}
    noise = y - np.where(signal > 0, 0.2, 0.8)
    assert abs(noise.mean()) < 0.015
    assert abs(noise.var() - 0.1) < 0.006
    same, _ = datasets.two_sequence(6000, 20, n_signal=1, random_state=0)
    np.testing.assert_array_equal(X[5], same[5])  # the inputs of 3a


def test_multiplication_problem():
    X, y = datasets.multiplication_problem(3000, 100, random_state=0)
    assert {len(x) for x in X} == set(range(100, 111))
    first_was_marked = 0
    for x, target in zip(X, y, strict=True):
        marked = np.flatnonzero(x[:, 1] == 1.0)
        assert len(marked) == 2
        assert marked[0] < 10
        assert marked[1] < 49
        assert x[:, 0].min() >= 0.0
        assert x[:, 0].max() <= 1.0
        assert x[-1, 1] == -1.0
        if marked[0] == 0:
            first_was_marked += 1
            assert x[0, 0] == 1.0
        else:
            assert x[0, 1] == -1.0
        assert np.count_nonzero(x[1:-1, 1] == -1.0) == 0
        assert target == x[marked[0], 0] * x[marked[1], 0]
    assert first_was_marked > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: datasets.embedded_reber(20, random_state=seed),
        lambda seed: datasets.noise_free_lag(20, 9, random_state=seed),
        lambda seed: datasets.noise_free_lag(20, 9, regular=False, random_state=seed),
        lambda seed: datasets.distractor_lag(20, 9, random_state=seed),
        lambda seed: datasets.multiplication_problem(20, 30, random_state=seed),
        lambda seed: datasets.two_sequence(20, 30, variant="3b", random_state=seed),
        lambda seed: datasets.two_sequence(20, 30, variant="3c", random_state=seed),
    ],
)
def test_same_seed_same_data(make):
    (X1, y1), (X2, y2), (X3, _) = (make(seed) for seed in (5, np.random.default_rng(5), 6))
    for a, b in zip([*X1, *y1], [*X2, *y2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(X1, X3, strict=True))


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: datasets.embedded_reber(0), "n_sequences"),
        (lambda: datasets.embedded_reber(True), "n_sequences"),
        (lambda: datasets.embedded_reber(5, random_state=-1), "random_state"),
        (lambda: datasets.embedded_reber(5, random_state="1"), "random_state"),
        (lambda: datasets.noise_free_lag(5, 1), "lag"),
        (lambda: datasets.noise_free_lag(5, 10.0), "lag"),
        (lambda: datasets.noise_free_lag(5, 10, regular="2b"), "regular"),
        (lambda: datasets.distractor_lag(-1), "n_sequences"),
        (lambda: datasets.distractor_lag(5, 0), "lag"),
        (lambda: datasets.distractor_lag(5, 4, n_distractors=0), "n_distractors"),
        (lambda: datasets.multiplication_problem(5, 21), "length"),
        (lambda: datasets.multiplication_problem(None), "n_sequences"),
        (lambda: datasets.two_sequence(5, variant="3d"), "variant"),
        (lambda: datasets.two_sequence(5, 30, random_state=1.5), "random_state"),
    ],
)
def test_wrong_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=f"^{argument} must be"):
        call()
