"""TreeRecurrent against its NumPy reference, numerical differentiation, other orders of nodes, other engines."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
from checking import assert_all_close, assert_bitwise, assert_close
from forests import chain, forests, joined, random_positions, random_tree, shuffled, star
from reference.tree_lstm import TreeLstm

KINDS: dict[str, tuple[str, int | None]] = {
    "child_sum": ("child_sum", None),
    "binary": ("nary", 2),
    "4-ary": ("nary", 4),
}
FORESTS = forests(most=2)
SIZES = {"odd": (5, 7), "one": (1, 1), "wide": (17, 40)}

each_kind = pytest.mark.parametrize("kind", KINDS)
each_forest = pytest.mark.parametrize("forest", FORESTS)
each_size = pytest.mark.parametrize("size", SIZES)


def make_layer(kind: str, I: int = 5, H: int = 7, dtype: str = "float64", **arguments: Any) -> lstmcore.TreeRecurrent:
    name, arity = KINDS[kind]
    layer = lstmcore.TreeRecurrent(name, input_size=I, hidden_size=H, arity=arity, dtype=dtype, **arguments)
    rng = np.random.default_rng(7)
    for values in layer.parameters.values():  # biases that are not all alike
        values += 0.3 * rng.standard_normal(values.shape)
    return layer


def reference_of(layer: lstmcore.TreeRecurrent) -> TreeLstm:
    return TreeLstm(layer.kind, layer.hidden_size, layer.arity, layer.parameters)


class Data:
    def __init__(
        self, layer: lstmcore.TreeRecurrent, parents: np.ndarray, positioned: bool = False, seed: int = 1
    ) -> None:
        rng = np.random.default_rng(seed)
        M = len(parents)
        self.parents = parents
        self.positions = random_positions(parents, layer.arity, rng) if positioned else None
        self.x = rng.standard_normal((M, layer.input_size)).astype(layer.dtype)
        self.dh, self.dc = (rng.standard_normal((M, layer.hidden_size)).astype(layer.dtype) for _ in range(2))

    def run(self, layer: lstmcore.TreeRecurrent) -> dict[str, np.ndarray]:
        h, state, tape = layer.forward(self.x, self.parents, self.positions, training=True)
        gradients = layer.backward(tape, self.dh, self.dc)
        return {"h": h, "c": state["c"], "x": gradients.x, **gradients.parameters}


def expected_of(layer: lstmcore.TreeRecurrent, data: Data) -> dict[str, np.ndarray]:
    reference = reference_of(layer)
    h, c = reference.forward(data.x, data.parents, data.positions)
    dx, gradients = reference.backward(data.dh, data.dc)
    return {"h": h, "c": c, "x": dx, **gradients}


def compare(layer: lstmcore.TreeRecurrent, data: Data, forward: float, backward: float) -> None:
    actual, expected = data.run(layer), expected_of(layer, data)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(actual[name], value, forward if name in ("h", "c") else backward, name)


# --- values ----------------------------------------------------------------------------------------------------------


@each_size
@each_forest
@each_kind
def test_forward_and_backward_against_the_reference(kind: str, forest: str, size: str) -> None:
    layer = make_layer(kind, *SIZES[size])
    compare(layer, Data(layer, FORESTS[forest]), 1e-13, 1e-12)


@each_forest
@pytest.mark.parametrize("kind", ["binary", "4-ary"])
def test_positions(kind: str, forest: str) -> None:
    layer = make_layer(kind)
    compare(layer, Data(layer, FORESTS[forest], positioned=True), 1e-13, 1e-12)


@each_forest
@each_kind
def test_float32(kind: str, forest: str) -> None:
    layer = make_layer(kind, 17, 40, dtype="float32")
    compare(layer, Data(layer, FORESTS[forest]), 2e-6, 1e-5)


def test_wide_stars() -> None:
    layer = make_layer("child_sum")
    compare(layer, Data(layer, joined(star(300), star(1))), 1e-13, 1e-12)
    layer = lstmcore.TreeRecurrent("nary", input_size=2, hidden_size=3, arity=40, dtype="float64")
    compare(layer, Data(layer, joined(star(40), star(7))), 1e-13, 1e-12)
    compare(layer, Data(layer, joined(star(40), star(7)), positioned=True), 1e-13, 1e-12)


def test_a_missing_left_child() -> None:
    """The right child alone is read through the weights of the right position."""
    layer = make_layer("binary")
    x = np.ones((2, 5))
    left, right = (layer.forward(x, [-1, 0], [-1, place])[0][0] for place in (0, 1))
    assert np.abs(left - right).max() > 0.01
    layer.parameters["U"][:, : layer.hidden_size] = np.nan  # what reads the left child
    assert_bitwise(np.isnan(layer.forward(x, [-1, 0], [-1, 0])[0]), np.array([[True] * 7, [False] * 7]), "left")


@each_kind
def test_gradients_against_finite_differences(kind: str) -> None:
    layer = make_layer(kind, I=3, H=4)
    data = Data(layer, FORESTS["forest in any order"], positioned=kind != "child_sum")

    def loss() -> float:
        h, state = layer.forward(data.x, data.parents, data.positions)
        return float((h * data.dh).sum() + (state["c"] * data.dc).sum())

    results = data.run(layer)
    rng = np.random.default_rng(3)
    for name, values in {"x": data.x, **layer.parameters}.items():
        direction = rng.standard_normal(values.shape)
        step = 1e-5
        values += step * direction
        above = loss()
        values -= 2 * step * direction
        below = loss()
        values += step * direction
        numerical = (above - below) / (2 * step)
        assert numerical == pytest.approx(float((results[name] * direction).sum()), rel=1e-7), name


@each_kind
def test_dh_and_dc_may_be_absent(kind: str) -> None:
    layer = make_layer(kind)
    data = Data(layer, FORESTS["tree"])
    zeros = np.zeros_like(data.dh)
    for dh, dc in ((data.dh, None), (None, data.dc), (None, None)):
        given = []
        for gradients in ((dh, dc), (zeros if dh is None else dh, zeros if dc is None else dc)):
            tape = layer.forward(data.x, data.parents, training=True)[2]
            given.append(layer.backward(tape, *gradients))
        assert_bitwise(given[0].x, given[1].x, "x")
        for name, value in given[0].parameters.items():
            assert_bitwise(value, given[1].parameters[name], name)


def test_gates_and_initial_weights() -> None:
    layer = lstmcore.TreeRecurrent(input_size=3, hidden_size=8, dtype="float64")
    assert layer.gates == ("i", "f", "u", "o")
    assert_bitwise(layer.parameters["b"].reshape(4, 8), np.outer([0.0, 1.0, 0.0, 0.0], np.ones(8)), "b")
    for block in layer.parameters["U"].reshape(4, 8, 8):
        assert_close(block @ block.T, np.eye(8), 1e-14, "U")
    nary = lstmcore.TreeRecurrent("nary", input_size=3, hidden_size=8, arity=2, dtype="float64")
    assert nary.parameters["U"].shape == (5 * 8, 2 * 8)
    blocks = nary.parameters["U"].reshape(5, 8, 2, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    assert len({block.tobytes() for block in blocks}) == 10
    for block in blocks:
        assert_close(block @ block.T, np.eye(8), 1e-14, "U")
    bound = np.sqrt(6 / (3 + 8))
    assert 0.8 * bound < np.abs(layer.parameters["W"]).max() <= bound
    other = lstmcore.TreeRecurrent(input_size=3, hidden_size=8, dtype="float64", seed=1)
    assert (other.parameters["W"] != layer.parameters["W"]).all()


# --- the order of nodes, the forest around a tree, threads -----------------------------------------------------------


@each_kind
def test_order_of_nodes(kind: str) -> None:
    layer = make_layer(kind)
    data = Data(layer, FORESTS["forest in any order"], positioned=kind != "child_sum")
    first = data.run(layer)
    order = np.random.default_rng(5).permutation(len(data.parents))
    other = Data(layer, shuffled(data.parents, order))
    other.positions = None if data.positions is None else data.positions[order]
    other.x, other.dh, other.dc = data.x[order], data.dh[order], data.dc[order]
    again = other.run(layer)
    for name in ("h", "c", "x"):
        if kind == "child_sum":  # siblings are added up in another order
            assert_close(again[name], first[name][order], 1e-13, name)
        else:
            assert_bitwise(again[name], first[name][order], name)
    for name in layer.parameters:
        assert_close(again[name], first[name], 1e-13, name)


@each_kind
def test_a_tree_does_not_depend_on_its_neighbours(kind: str) -> None:
    layer = make_layer(kind, 17, 40)
    tree = FORESTS["tree"]
    alone = Data(layer, tree)
    M = len(tree)
    among = Data(layer, joined(random_tree(150, 2, np.random.default_rng(2)), tree, chain(70)))
    for name in ("x", "dh", "dc"):
        getattr(among, name)[150 : 150 + M] = getattr(alone, name)
    one, several = alone.run(layer), among.run(layer)
    for name in ("h", "c", "x"):
        assert_bitwise(several[name][150 : 150 + M], one[name], name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_kind
def test_number_of_threads(kind: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    parents = joined(*(random_tree(int(n), 2, rng) for n in rng.integers(1, 90, size=60)), chain(200))
    parents = shuffled(parents, rng.permutation(len(parents)))
    one = make_layer(kind, 13, 45, dtype, n_threads=1)
    data = Data(one, parents)
    expected = data.run(one)
    for n_threads in (2, 3, None):
        layer = make_layer(kind, 13, 45, dtype, n_threads=n_threads)
        for _ in range(2):  # the second pass uses the first one's memory
            for name, value in data.run(layer).items():
                assert_bitwise(value, expected[name], f"{name}, n_threads={n_threads}")


@each_kind
def test_inference_equals_training(kind: str) -> None:
    layer = make_layer(kind, 17, 40)
    data = Data(layer, FORESTS["forest in any order"])
    recorded = data.run(layer)
    for parents in (data.parents, FORESTS["tree"], data.parents):  # memory of a smaller and a larger forest
        h, state = layer.forward(data.x[: len(parents)], parents)
    assert state["h"] is h
    assert_bitwise(h, recorded["h"], "h")
    assert_bitwise(state["c"], recorded["c"], "c")


@each_kind
def test_changed_weights_count(kind: str) -> None:
    """Weights are packed once and again when they change."""
    layer = make_layer(kind)
    data = Data(layer, FORESTS["tree"])
    layer.forward(data.x, data.parents)
    layer.parameters["U"][:] *= 0.5
    compare(layer, data, 1e-13, 1e-12)


@pytest.mark.parametrize("kind", ["child_sum", "binary"])
@pytest.mark.parametrize("upward", [True, False], ids=["leaf first", "root first"])
def test_depth_100000(kind: str, upward: bool) -> None:
    M = 100_000
    layer = make_layer(kind, 1, 3)
    parents = chain(M) if upward else np.arange(M) - 1
    rng = np.random.default_rng(0)
    x = rng.standard_normal((M, 1))
    h, _, tape = layer.forward(x, parents, training=True)
    dx = layer.backward(tape, np.ones_like(h)).x
    # The last 200 nodes of the chain forget what came before them, up to rounding.
    near = slice(M - 200, M) if upward else slice(0, 200)
    top = Data(layer, chain(200) if upward else np.arange(200) - 1)
    reference = reference_of(layer)
    expected, _ = reference.forward(x[near], top.parents, None)
    root = -1 if upward else 0
    assert_close(h[near][root], expected[root], 1e-12, "h")
    assert_close(dx[near][root], reference.backward(np.ones_like(expected), None)[0][root], 1e-12, "dx")


# --- tapes, pickling -------------------------------------------------------------------------------------------------


def test_a_tape_serves_once_and_its_own_layer() -> None:
    layer, other = make_layer("child_sum"), make_layer("child_sum")
    data = Data(layer, FORESTS["tree"])
    tape = layer.forward(data.x, data.parents, training=True)[2]
    assert tape.nodes == len(data.parents)
    with pytest.raises(ValueError, match="recorded by another TreeRecurrent"):
        other.backward(tape, data.dh)
    layer.backward(tape, data.dh)
    with pytest.raises(ValueError, match="used up by an earlier backward"):
        layer.backward(tape, data.dh)
    with pytest.raises(TypeError, match="tape: expected the TreeTape"):
        layer.backward(None, data.dh)


def test_the_input_may_change_after_forward() -> None:
    layer = make_layer("child_sum")
    data = Data(layer, FORESTS["tree"])
    expected = data.run(layer)["x"]
    x, parents = data.x.copy(), data.parents.copy()
    tape = layer.forward(x, parents, training=True)[2]
    x[:], parents[:] = np.nan, 0
    assert_bitwise(layer.backward(tape, data.dh, data.dc).x, expected, "x")


@each_kind
def test_pickling(kind: str) -> None:
    layer = make_layer(kind, n_threads=1)
    copy = pickle.loads(pickle.dumps(layer))
    assert type(copy) is lstmcore.TreeRecurrent
    assert repr(copy) == repr(layer)
    assert copy.n_threads == 1
    for name, values in layer.parameters.items():
        assert_bitwise(copy.parameters[name], values, name)
    with pytest.raises(TypeError, match="TreeTape cannot be pickled"):
        pickle.dumps(layer.forward(np.ones((1, 5)), [-1], training=True)[2])


@each_kind
def test_threads_share_a_layer(kind: str) -> None:
    """Passes of several Python threads at once, each with a tape of its own, and one tape that two of them want."""
    layer = make_layer(kind, 17, 40)
    sets = [Data(layer, forest, seed=k) for k, forest in enumerate(FORESTS.values())]
    expected = [data.run(layer) for data in sets]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, results in zip(pool.map(lambda data: data.run(layer), sets), expected, strict=True):
                for name, value in results.items():
                    assert_bitwise(found[name], value, name)
    big = Data(layer, joined(*[FORESTS["tree"]] * 200))
    tape = layer.forward(big.x, big.parents, training=True)[2]

    def back(_: int) -> str:
        try:
            layer.backward(tape, big.dh)
        except (RuntimeError, ValueError) as error:
            return str(error)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(back, range(2)))
    assert answers.count("done") == 1
    assert any("busy" in answer or "used up" in answer for answer in answers)


def test_the_number_of_threads_may_be_set() -> None:
    layer = make_layer("child_sum", n_threads=1)
    layer.n_threads = 2
    assert layer.n_threads == 2
    layer.n_threads = None
    assert layer.n_threads is None
    for wrong in (0, -1, 1.5, "2"):
        with pytest.raises((TypeError, ValueError), match="n_threads"):
            layer.n_threads = wrong


# --- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "binary"}, ValueError, "kind: expected 'child_sum' or 'nary', got 'binary'"),
        ({"kind": 2}, TypeError, "kind: expected"),
        ({"arity": 2}, ValueError, "arity: expected None with kind='child_sum'"),
        ({"kind": "nary"}, TypeError, "kind='nary' needs arity"),
        ({"kind": "nary", "arity": 0}, ValueError, "arity: expected"),
        ({"kind": "nary", "arity": 2.0}, TypeError, "arity: expected"),
        ({"input_size": 0}, ValueError, "input_size: expected"),
        ({"input_size": None}, TypeError, "missing required argument 'input_size'"),
        ({"hidden_size": -1}, ValueError, "hidden_size: expected"),
        ({"hidden_size": 2**32}, ValueError, "hidden_size: expected an integer from 1 to 2147483648"),
        ({"kind": "nary", "arity": 2**20, "hidden_size": 2**10}, ValueError, "more weights than can be addressed"),
        ({"dtype": "int32"}, ValueError, "dtype"),
        ({"n_threads": 0}, ValueError, "n_threads"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lstmcore.TreeRecurrent(**{"input_size": 2, "hidden_size": 3, **arguments})


@pytest.mark.parametrize(
    ("x", "parents", "message"),
    [
        (np.ones((2, 3)), [-1, 0], r"x: expected \(M, 5\).*got \(2, 3\)"),
        (np.ones((0, 5)), [], r"x: expected \(M, 5\) with M >= 1"),
        (np.ones(5), [-1], r"x: expected \(M, 5\)"),
        (np.ones((2, 5)), [-1], "parents"),
        (np.ones((2, 5)), [-1, 2], r"parents: node 1: expected -1 \(a root\) or a node from 0 to 1, got 2"),
        (np.ones((2, 5)), [-2, 0], "parents: node 0: expected -1"),
        (np.ones((2, 5)), [-1, 2**62], "parents: node 1"),
        (np.ones((2, 5)), [-1, 1], "parents: node 1 is its own parent"),
        (np.ones((2, 5)), [1, 0], "node 0 is its own ancestor: from it, 2 steps to parents come back"),
        (np.ones((6, 5)), [-1, 0, 3, 4, 5, 3], "node 3 is its own ancestor: from it, 3 steps"),
    ],
)
@each_kind
def test_wrong_forests(kind: str, x: np.ndarray, parents: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_layer(kind).forward(x, parents)


@pytest.mark.parametrize(
    ("parents", "positions", "message"),
    [
        ([-1, 0, 0, 0], None, "node 0 has more children than arity, which is 2; node 3 is one too many"),
        ([-1, 0, 0], [-1, 0, 0], "nodes 1 and 2 are both child 0 of node 0"),
        ([-1, 0, 0], [-1, 0, 2], "positions: node 2: expected 0 to 1"),
        ([-1, 0, 0], [-1, 0, -1], "positions: node 2: expected 0 to 1"),
        ([-1, 0, 0], [0, 0, 1], "positions: node 0 is a root: expected -1, got 0"),
        ([-1, 0, 0], [-1, 0], "positions"),
    ],
)
def test_wrong_positions(parents: list[int], positions: list[int] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_layer("binary").forward(np.ones((len(parents), 5)), parents, positions)


def test_child_sum_has_no_positions() -> None:
    with pytest.raises(ValueError, match="positions: children have none with kind child_sum"):
        make_layer("child_sum").forward(np.ones((2, 5)), [-1, 0], [-1, 0])


def test_a_long_cycle() -> None:
    parents = np.roll(np.arange(100_000), -1)
    with pytest.raises(ValueError, match="100000 steps to parents come back"):
        make_layer("child_sum").forward(np.ones((100_000, 5)), parents)


def test_types_of_parents_and_gradients() -> None:
    layer = make_layer("child_sum")
    x = np.ones((2, 5))
    for parents in ([-1.0, 0.0], ["-1", "0"], [None, 0], [[-1, 0]]):
        with pytest.raises((TypeError, ValueError), match="parents: expected"):
            layer.forward(x, parents)
    h = layer.forward(x, np.array([-1, 0], dtype=np.int8))[0]
    assert_bitwise(layer.forward(x, [-1, 0])[0], h, "h")
    tape = layer.forward(x, [-1, 0], training=True)[2]
    for dh, dc, name in (
        (np.ones((2, 6)), None, "dh"),
        (None, np.ones((1, 7)), "dc"),
        (np.ones((2, 7, 1)), None, "dh"),
    ):
        with pytest.raises(ValueError, match=name):
            layer.backward(tape, dh, dc)
    layer.backward(tape, np.ones((2, 7)))  # a refused call leaves the tape whole


# --- every engine ----------------------------------------------------------------------------------------------------


def all_results() -> dict[str, np.ndarray]:
    results = {"isa": np.array(lstmcore.build_info()["isa"])}
    for kind in KINDS:
        for dtype in ("float32", "float64"):
            layer = make_layer(kind, 17, 40, dtype, n_threads=2)
            data = Data(layer, FORESTS["forest in any order"], positioned=kind != "child_sum")
            results |= {f"{kind}/{dtype}/{name}": value for name, value in data.run(layer).items()}
    return results


@functools.cache
def results_of(isa: str) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.npz"
        code = f"import numpy, test_tree; numpy.savez({str(path)!r}, **test_tree.all_results())"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "LSTMCORE_ISA": isa},
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"engine {isa}: {done.stderr[-3000:]}"
        with np.load(path) as file:
            return dict(file)


@pytest.mark.parametrize("isa", lstmcore.build_info()["isas_usable"])
def test_every_engine(isa: str) -> None:
    results = results_of(isa)
    assert results["isa"] == isa
    for kind in KINDS:
        for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
            layer = make_layer(kind, 17, 40, dtype)
            expected = expected_of(layer, Data(layer, FORESTS["forest in any order"], positioned=kind != "child_sum"))
            assert_all_close(
                {name: results[f"{kind}/{dtype}/{name}"] for name in expected}, expected, tolerance, f"{kind} on {isa}"
            )
