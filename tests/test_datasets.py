"""The data sets: shapes, official splits, and that the answers of the synthetic tasks are the ones they claim."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from lstmcore import datasets


@pytest.fixture(scope="module")
def vowels():
    if importlib.util.find_spec("sktime") is None:
        pytest.skip("sktime carries the files")
    return datasets.load_japanese_vowels("train"), datasets.load_japanese_vowels("test")


def test_japanese_vowels_is_the_official_split(vowels):
    (X_train, y_train), (X_test, y_test) = vowels
    assert (len(X_train), len(X_test)) == (270, 370)
    assert np.bincount(y_train, minlength=10).tolist() == [0] + [30] * 9
    # Test counts a speaker as documented with the set (UCI machine learning repository, "Japanese Vowels").
    assert np.bincount(y_test, minlength=10).tolist() == [0, 31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = [len(x) for x in X_train + X_test]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert all(x.shape == (len(x), 12) and x.dtype == np.float64 and np.isfinite(x).all() for x in X_train + X_test)
    # First and last coefficient of the first frame, as printed in the file.
    assert X_train[0][0, 0] == 1.860936
    assert X_train[0].shape == (20, 12)


def test_japanese_vowels_does_not_import_sktime(vowels):
    code = (
        "import sys; from lstmcore import datasets; datasets.load_japanese_vowels('train');"
        "sys.exit(any(name in sys.modules for name in ('sktime', 'sklearn', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_japanese_vowels_whole_is_train_then_test(vowels):
    (_, y_train), (X_test, y_test) = vowels
    X, y = datasets.load_japanese_vowels()
    np.testing.assert_array_equal(y, np.concatenate([y_train, y_test]))
    np.testing.assert_array_equal(X[270], X_test[0])


def test_japanese_vowels_without_sktime_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "lstmcore\[demo\]"'):
        datasets.load_japanese_vowels("train")


def test_japanese_vowels_refuses_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match="split"):
        datasets.load_japanese_vowels("TRAIN")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="folder"):
        datasets.load_japanese_vowels("train", folder=tmp_path)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_read_ts_reads_labels_missing_values_and_ragged_lengths(tmp_path):
    path = write(
        tmp_path / "a.ts",
        "# comment\n@problemName a\n@timeStamps false\n@dimensions 2\n@classLabel true up down\n@data\n"
        "1,2,3:4,5,6:up\n\n7,?:8,9.5:down\n",
    )
    X, y = datasets.read_ts(path)
    np.testing.assert_array_equal(X[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(X[1], [[7, 8], [np.nan, 9.5]])
    assert y is not None
    assert y.tolist() == ["up", "down"]


def test_read_ts_regression_targets_and_no_targets(tmp_path):
    X, y = datasets.read_ts(write(tmp_path / "r.ts", "@classLabel false\n@targetLabel true\n@data\n1,2:0.5\n"))
    assert X[0].shape == (2, 1)
    assert y is not None
    assert y.tolist() == [0.5]
    X, y = datasets.read_ts(write(tmp_path / "n.ts", "@classLabel false\n@data\n1,2:3,4\n"))
    assert X[0].shape == (2, 2)
    assert y is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2:a\n", "line 1.*@"),
        ("@classLabel true a\n", "no @data"),
        ("@classLabel true a\n@data\n", "no sequences"),
        ("@timeStamps true\n@data\n(0,1),(1,2):a\n", "timeStamps"),
        ("@classLabel true a\n@data\n1,2:3,4,5:a\n", "line 3.*differ in length"),
        ("@classLabel true a\n@data\n1,2:b\n", "line 3.*'b'"),
        ("@classLabel true a\n@data\n1,oops:a\n", "line 3.*oops"),
        ("@dimensions 2\n@classLabel true a\n@data\n1,2:a\n", "line 4.*1 dimensions, expected 2"),
    ],
)
def test_read_ts_refuses_broken_files_by_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        datasets.read_ts(write(tmp_path / "broken.ts", text))


def test_digits_as_sequences():
    pytest.importorskip("sklearn")
    X, y = datasets.digits_as_sequences()
    assert X.shape == (1797, 8, 8)
    assert y.shape == (1797,)
    assert X.min() == 0.0
    assert X.max() == 1.0
    assert set(y.tolist()) == set(range(10))


def test_adding_problem_sum():
    X, y = datasets.adding_problem(400, 50, random_state=3)
    assert isinstance(X, np.ndarray)
    assert X.shape == (400, 50, 2)
    np.testing.assert_array_equal(X[:, :25, 1].sum(axis=1), 1.0)
    np.testing.assert_array_equal(X[:, 25:, 1].sum(axis=1), 1.0)
    np.testing.assert_allclose((X[:, :, 0] * X[:, :, 1]).sum(axis=1), y, rtol=0, atol=1e-15)
    assert abs(np.mean((y - 1.0) ** 2) - 1 / 6) < 0.03  # the documented error of a constant answer


def test_adding_problem_original():
    X, y = datasets.adding_problem(3000, 100, variant="original", random_state=0)
    assert {len(x) for x in X} == set(range(100, 111))
    first_was_marked = 0
    for x, target in zip(X, y, strict=True):
        marked = np.flatnonzero(x[:, 1] == 1.0)
        assert len(marked) == 2
        assert marked[0] < 10
        assert marked[1] < 49
        assert x[-1, 1] == -1.0
        assert x[0, 1] in (-1.0, 1.0)
        if marked[0] == 0:
            first_was_marked += 1
            assert x[0, 0] == 0.0
        assert np.count_nonzero(x[1:-1, 1] == -1.0) == 0
        assert target == 0.5 + x[marked, 0].sum() / 4.0
    assert first_was_marked > 0
    assert y.min() >= 0.0
    assert y.max() <= 1.0
    assert abs(np.mean((y - 0.5) ** 2) - 1 / 24) < 0.004


@pytest.mark.parametrize("n_symbols", [2, 3])
def test_temporal_order_class_is_the_word_of_relevant_symbols(n_symbols):
    X, y = datasets.temporal_order(500, 100, n_symbols=n_symbols, random_state=1)
    assert {len(x) for x in X} == set(range(100, 111))
    windows = [(10, 20), (50, 60)] if n_symbols == 2 else [(10, 20), (33, 43), (66, 76)]
    for x, word in zip(X, y, strict=True):
        assert x.shape[1] == 8
        np.testing.assert_array_equal(x.sum(axis=1), 1.0)
        symbols = "".join("EBabcdXY"[i] for i in x.argmax(axis=1))
        assert symbols[0] == "E"
        assert symbols[-1] == "B"
        relevant = [(t, s) for t, s in enumerate(symbols) if s in "XY"]
        assert "".join(s for _, s in relevant) == word
        assert all(low <= t <= high for (t, _), (low, high) in zip(relevant, windows, strict=True))
        assert "E" not in symbols[1:]
        assert "B" not in symbols[:-1]
    assert len(set(y.tolist())) == 2**n_symbols


def test_temporal_order_windows_never_overlap_at_the_shortest_length():
    X, _ = datasets.temporal_order(300, 20, n_symbols=3, random_state=1)
    assert all(x[:, 6:].sum() == 3 for x in X)


def test_two_sequence():
    X, y = datasets.two_sequence(500, 60, random_state=2)
    assert {len(x) for x in X} == set(range(60, 67))
    for x, label in zip(X, y, strict=True):
        np.testing.assert_array_equal(x[:3], 1.0 if label else -1.0)
    noise = np.concatenate([x[3:] for x in X])
    assert abs(noise.mean()) < 0.01
    assert abs(noise.var() - 0.2) < 0.01
    assert set(y.tolist()) == {0, 1}


def test_parity():
    X, y = datasets.make_parity(500, 40, random_state=0)
    assert isinstance(X, np.ndarray)
    assert X.shape == (500, 40, 1)
    assert set(np.unique(X)) == {0.0, 1.0}
    np.testing.assert_array_equal(X.sum(axis=(1, 2)) % 2, y)
    assert abs(X.mean() - 0.5) < 0.02
    assert abs(y.mean() - 0.5) < 0.1
    ragged, y = datasets.make_parity(500, (1, 5), random_state=0)
    assert isinstance(ragged, list)
    assert {x.shape for x in ragged} == {(T, 1) for T in range(1, 6)}
    assert [int(x.sum()) % 2 for x in ragged] == y.tolist()


@pytest.mark.parametrize(("modulus", "operators"), [(5, "+-*"), (3, "-+"), (7, "*")])
def test_modular_arithmetic_is_what_python_computes(modulus, operators):
    X, y = datasets.make_modular_arithmetic(300, (1, 15), modulus=modulus, operators=operators, random_state=1)
    assert {len(x) for x in X} == set(range(1, 16, 2))
    characters = "".join(str(n) for n in range(modulus)) + operators
    for x, answer in zip(X, y, strict=True):
        assert x.shape[1] == modulus + len(operators)
        np.testing.assert_array_equal(x.sum(axis=1), 1.0)
        assert eval("".join(characters[k] for k in x.argmax(axis=1))) % modulus == answer
    assert set(y.tolist()) == set(range(modulus))
    assert datasets.make_modular_arithmetic(4, 9)[0].shape == (4, 9, 8)


@pytest.mark.parametrize("together", [False, True])
def test_associative_recall(together):
    X, y = datasets.make_associative_recall(400, (1, 6), n_keys=6, n_values=3, together=together, random_state=2)
    assert {len(x) for x in X} == {(1 if together else 2) * pairs + 1 for pairs in range(1, 7)}
    asked = []
    for x, answer in zip(X, y, strict=True):
        keys, values = x[:-1, :6], x[:-1, 6:]
        pairs = (len(x) - 1) // (1 if together else 2)
        where = np.arange(pairs) * (1 if together else 2)
        np.testing.assert_array_equal(keys[where].sum(axis=1), 1.0)
        np.testing.assert_array_equal(values[where + (not together)].sum(axis=1), 1.0)
        assert x[:-1].sum() == 2 * pairs
        assert x[-1].sum() == x[-1, :6].sum() == 1.0
        memory = dict(zip(keys[where].argmax(axis=1), values[where + (not together)].argmax(axis=1), strict=True))
        assert len(memory) == pairs  # keys are distinct
        assert memory[x[-1].argmax()] == answer
        asked.append(list(memory).index(x[-1].argmax()))
    assert set(y.tolist()) == {0, 1, 2}
    assert set(asked) == set(range(6))
    assert datasets.make_associative_recall(4, 5)[0].shape == (4, 11, 40)


@pytest.mark.parametrize(
    "make",
    [
        datasets.adding_problem,
        datasets.temporal_order,
        datasets.two_sequence,
        datasets.make_parity,
        lambda n, T, random_state: datasets.make_modular_arithmetic(n, (T - 1, T + 9), random_state=random_state),
        datasets.make_associative_recall,
    ],
)
def test_same_seed_same_data(make):
    (X1, y1), (X2, y2), (X3, _) = (make(20, 30, random_state=seed) for seed in (5, np.random.default_rng(5), 6))
    np.testing.assert_array_equal(y1, y2)
    for a, b in zip(X1, X2, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(X1, X3, strict=True))


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: datasets.adding_problem(0), "n_sequences"),
        (lambda: datasets.adding_problem(5, 1), "length"),
        (lambda: datasets.adding_problem(5, 20, variant="original"), "length"),
        (lambda: datasets.adding_problem(5, 50, variant="both"), "variant"),
        (lambda: datasets.temporal_order(5, 10), "length"),
        (lambda: datasets.temporal_order(5.0), "n_sequences"),
        (lambda: datasets.temporal_order(5, n_symbols=4), "n_symbols"),
        (lambda: datasets.two_sequence(5, 3), "length"),
        (lambda: datasets.two_sequence(5, n_signal=0), "n_signal"),
        (lambda: datasets.make_parity(0), "n_sequences"),
        (lambda: datasets.make_parity(5, 0), "length"),
        (lambda: datasets.make_parity(5, (4, 3)), "length"),
        (lambda: datasets.make_parity(5, (4, 5, 6)), "length"),
        (lambda: datasets.make_parity(5, 4.0), "length"),
        (lambda: datasets.make_modular_arithmetic(5.0), "n_sequences"),
        (lambda: datasets.make_modular_arithmetic(5, 8), "length must be odd"),
        (lambda: datasets.make_modular_arithmetic(5, (3, 8)), "length must be odd"),
        (lambda: datasets.make_modular_arithmetic(5, modulus=1), "modulus"),
        (lambda: datasets.make_modular_arithmetic(5, operators="+/"), "operators"),
        (lambda: datasets.make_modular_arithmetic(5, operators=""), "operators"),
        (lambda: datasets.make_associative_recall(5, 0), "pairs"),
        (lambda: datasets.make_associative_recall(5, 33), "pairs must be at most n_keys=32"),
        (lambda: datasets.make_associative_recall(5, n_values=1), "n_values"),
        (lambda: datasets.make_associative_recall(5, n_keys=0), "n_keys"),
    ],
)
def test_wrong_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=argument):
        call()


def expression_text(features, parents, node, tokens):
    """The expression under a node, as Python reads it."""
    token = tokens[int(features[node].argmax())]
    below = [expression_text(features, parents, k, tokens) for k in range(len(parents)) if parents[k] == node]
    if not below:
        return token
    if len(below) == 1:
        return f"(1 - {below[0]})"
    return f"({below[0]} {token} {below[1]})"


@pytest.mark.parametrize(("kind", "modulus"), [("boolean", 2), ("modular", 2), ("modular", 7)])
def test_expression_trees_have_the_values_that_python_gives(kind, modulus):
    X, y = datasets.make_expression_trees(60, depth=(0, 5), kind=kind, modulus=modulus, random_state=0)
    again, nodes = datasets.make_expression_trees(
        60, depth=(0, 5), kind=kind, modulus=modulus, targets="nodes", random_state=0
    )
    boolean = ("0", "1", "not", "&", "|", "^")
    tokens = boolean if kind == "boolean" else (*map(str, range(modulus)), "+", "-", "*")
    shown = ("0", "1", "not", "and", "or", "xor") if kind == "boolean" else tokens
    for n, (features, parents) in enumerate(X):
        np.testing.assert_array_equal(features, again[n][0])
        np.testing.assert_array_equal(parents, again[n][1])
        assert features.shape == (len(parents), len(tokens))
        assert (features.sum(axis=1) == 1).all()
        assert parents[0] == -1
        assert (parents[1:] < np.arange(1, len(parents))).all()
        for node in range(len(parents)):
            assert nodes[n][node] == eval(expression_text(features, parents, node, tokens)) % modulus
        assert y[n] == nodes[n][0]
        written = datasets.expression_tokens((features, parents), kind, modulus)
        assert written.shape[1] == len(tokens) + 2
        text = " ".join((*shown, "(", ")")[k] for k in written.argmax(axis=1))
        for name, sign in zip(shown, tokens, strict=True):
            text = text.replace(f" {name} ", f" {sign} ")
        assert eval(text.replace("not ", "1 - ")) % modulus == y[n]


def test_expression_trees_have_their_depth():
    for depth in (0, 1, 4, 9):
        for features, parents in datasets.make_expression_trees(30, depth=depth, branching=0.3, random_state=1)[0]:
            depths = np.zeros(len(parents), dtype=int)
            for node in range(1, len(parents)):
                depths[node] = depths[parents[node]] + 1
            assert depths.max() == depth
            assert len(features) == len(parents)
    sizes = {len(p) for _, p in datasets.make_expression_trees(50, depth=(1, 3), branching=1.0, random_state=1)[0]}
    assert len(sizes) > 3
    deep = datasets.make_expression_trees(1, depth=20_000, branching=0.0, random_state=0)[0][0]
    assert datasets.expression_tokens(deep).shape[1] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_trees": 0}, "n_trees must be an integer of at least 1. Got 0"),
        ({"depth": -1}, "depth must be an integer of at least 0"),
        ({"depth": (3, 2)}, "depth must be an integer of at least 3. Got 2"),
        ({"depth": 1.5}, "depth"),
        ({"kind": "octal"}, "kind must be 'boolean' or 'modular'"),
        ({"modulus": 1}, "modulus must be an integer of at least 2"),
        ({"branching": 1.5}, "branching must lie in"),
        ({"targets": "leaves"}, "targets must be 'trees' or 'nodes'"),
    ],
)
def test_expression_trees_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.make_expression_trees(**arguments)
