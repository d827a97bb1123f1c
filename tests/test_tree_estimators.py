"""TreeClassifier and TreeRegressor: training, targets of trees and of nodes, files, scikit-learn's habits, bad data."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import GridSearchCV

import lstmcore
from checking import assert_bitwise, assert_close
from forests import chain, random_tree, shuffled
from lstmcore import ModelFileError, TreeClassifier, TreeRegressor
from lstmcore._forest import read_trees
from lstmcore._layer_network import restore
from lstmcore._tree_network import NodeTargets, TreeNetwork
from lstmcore.datasets import make_expression_trees

Array = np.ndarray

X, Y = make_expression_trees(200, depth=(0, 3), random_state=0)
X_TEST, Y_TEST = make_expression_trees(80, depth=(0, 4), random_state=1)
NODES = make_expression_trees(200, depth=(0, 3), random_state=0, targets="nodes")[1]
NODES_TEST = make_expression_trees(80, depth=(0, 4), random_state=1, targets="nodes")[1]
SUMS = [np.array([float(len(parents)), float(features[0, 2])]) for features, parents in X]
SMALL: dict[str, Any] = {"hidden_size": 16, "max_iter": 4, "random_state": 0, "standardize": False}

EVERY = [
    pytest.param(TreeClassifier, "trees", Y, id="classifier-trees"),
    pytest.param(TreeClassifier, "nodes", NODES, id="classifier-nodes"),
    pytest.param(TreeRegressor, "trees", Y * 3.0 - 1.0, id="regressor-trees"),
    pytest.param(TreeRegressor, "nodes", [v * 3.0 - 1.0 for v in NODES], id="regressor-nodes"),
]
each = pytest.mark.parametrize(("kind", "targets", "y"), EVERY)


def weights_of(estimator: Any) -> Array:
    return estimator.model_.core.get_weights()


def flat(values: Any) -> Array:
    return np.concatenate([np.ravel(value) for value in values])


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("targets", ["trees", "nodes"])
@pytest.mark.parametrize("classifies", [True, False])
@pytest.mark.parametrize(("kind", "arity"), [("child_sum", None), ("nary", 2)])
def test_gradients(kind: str, arity: int | None, classifies: bool, targets: str, layers: int) -> None:
    """Of every parameter, against differences: weights, dropout, unlabelled nodes and standardisation included."""
    config = {"kind": kind, "inputs": 6, "hidden": 5, "layers": layers, "arity": arity, "outputs": 2}
    network = TreeNetwork(config | {"classifies": classifies, "targets": targets, "dtype": "float64"}, seed=3)
    network.constants["mean"][:], network.constants["scale"][:] = 0.2, 1.7
    network.dropout, network.label_smoothing = 0.3, 0.1
    x = TreeNetwork.read(X[:9], "X", "float64")
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2.0, size=9)
    y: Any
    if targets == "trees":
        y = rng.integers(0, 2, 9) if classifies else rng.normal(size=(9, 2))
    else:
        y = np.empty(9, dtype=object)
        for n, size in enumerate(x.sizes):
            values = rng.integers(-1, 2, size) if classifies else rng.normal(size=(size, 2))
            if not classifies:
                values[rng.random(size) < 0.3] = np.nan
            y[n] = NodeTargets(values, rng.uniform(0.5, 2.0, size))
    total, share, gradients = network.loss_and_gradients(x, y, weights, seed=11)
    assert gradients.keys() == network.parameters.keys()
    assert total > 0
    for name, values in network.parameters.items():
        direction = rng.normal(size=values.shape)
        losses = []
        for step in (1e-6, -2e-6):
            values += step * direction
            found, _, _ = network.loss_and_gradients(x, y, weights, seed=11)
            losses.append(found / share)
        values += 1e-6 * direction
        slope = float((gradients[name] * direction).sum())
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(slope, rel=1e-6, abs=1e-9), name


def test_loss_is_what_the_outputs_say() -> None:
    classifier = TreeClassifier(**SMALL, precision="float64").fit(X, Y, eval_set=(X_TEST, Y_TEST))
    assert classifier.validation_loss_curve_[-1] == pytest.approx(log_loss(Y_TEST, classifier.predict_proba(X_TEST)))
    assert classifier.validation_scores_[-1] == accuracy_score(Y_TEST, classifier.predict(X_TEST))
    assert classifier.score(X_TEST, Y_TEST) == accuracy_score(Y_TEST, classifier.predict(X_TEST))
    nodes = TreeClassifier(targets="nodes", **SMALL, precision="float64").fit(X, NODES, eval_set=(X_TEST, NODES_TEST))
    found = np.concatenate(list(nodes.predict_proba(X_TEST)))
    assert nodes.validation_loss_curve_[-1] == pytest.approx(log_loss(flat(NODES_TEST), found))
    assert nodes.score(X_TEST, NODES_TEST) == accuracy_score(flat(NODES_TEST), flat(nodes.predict(X_TEST)))


# --- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["child_sum", "nary"])
@pytest.mark.parametrize("targets", ["trees", "nodes"])
def test_expressions_are_learnt_and_deeper_ones_understood(kind: str, targets: str) -> None:
    trees, y = make_expression_trees(1500, depth=(1, 3), random_state=2, targets=targets)  # type: ignore[arg-type]
    classifier = TreeClassifier(kind, targets=targets, hidden_size=24, max_iter=25, standardize=False, random_state=0)
    classifier.fit(trees, y)
    deep, of_deep = make_expression_trees(200, depth=6, random_state=3)
    found = classifier.predict(deep)
    if targets == "nodes":
        found = np.array([values[0] for values in found])
    assert np.mean(found == of_deep) > 0.95


def test_regression() -> None:
    """How many nodes there are, and how many of the inputs' first feature."""
    rng = np.random.default_rng(0)
    trees = [(rng.normal(size=(m, 2)), random_tree(m, 3, rng)) for m in rng.integers(1, 15, size=400)]
    y = np.array([[len(p), x[:, 0].sum()] for x, p in trees])
    regressor = TreeRegressor(hidden_size=32, max_iter=40, random_state=0).fit(trees[:300], y[:300])
    assert regressor.predict(trees[300:]).shape == (100, 2)
    assert regressor.score(trees[300:], y[300:]) > 0.95
    assert regressor.score(trees, y) == pytest.approx(r2_score(y, regressor.predict(trees)))


def test_order_of_operands_needs_positions() -> None:
    """a − b: child-sum adds up its operands and cannot tell which is which."""
    trees, y = make_expression_trees(800, depth=1, kind="modular", modulus=3, random_state=0)
    scores = {
        kind: TreeClassifier(kind, hidden_size=24, max_iter=30, standardize=False, random_state=0)
        .fit(trees, y)
        .score(trees, y)
        for kind in ("child_sum", "nary")
    }
    assert scores["nary"] > 0.99
    assert scores["child_sum"] < 0.95


@each
def test_order_of_nodes(kind: Any, targets: str, y: Any) -> None:
    estimator = kind(targets=targets, precision="float64", **SMALL).fit(X, y)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(parents)) for _, parents in X]
    moved = [(x[order], shuffled(parents, order)) for (x, parents), order in zip(X, orders, strict=True)]
    before, after = estimator._outputs(X), estimator._outputs(moved)
    for n, order in enumerate(orders):
        expected = before[n][order] if targets == "nodes" else before[n]
        assert_close(after[n], expected, 1e-12, f"tree {n}")


@each
def test_seeds_decide_and_threads_do_not(kind: Any, targets: str, y: Any) -> None:
    settings = {**SMALL, "targets": targets, "dropout": 0.2, "num_layers": 2}
    first, again, other = (
        weights_of(kind(**{**settings, "random_state": seed, "n_jobs": jobs}).fit(X, y))
        for seed, jobs in ((4, 1), (4, 2), (5, 1))
    )
    assert_bitwise(first, again, "weights")
    assert not np.array_equal(first, other)


def test_depth_100000() -> None:
    M = 100_000
    deep = (np.ones((M, 1)), chain(M))
    trees = [deep, (np.zeros((1, 1)), [-1])] * 2
    classifier = TreeClassifier(hidden_size=2, max_iter=1, random_state=0).fit(trees, [0, 1, 0, 1])
    assert classifier.predict(trees).shape == (4,)
    nodes = TreeClassifier("nary", targets="nodes", hidden_size=2, max_iter=1, random_state=0)
    nodes.fit(trees, [np.arange(M) % 2, [0]] * 2)
    assert nodes.predict(trees)[2].shape == (M,)


# --- scikit-learn's habits -------------------------------------------------------------------------------------------


@each
def test_parameters_and_clone(kind: Any, targets: str, y: Any) -> None:
    estimator = kind("nary", arity=3, targets=targets, **SMALL)
    copied = clone(estimator.fit(X, y))
    assert copied.get_params() == estimator.get_params()
    assert not hasattr(copied, "model_")
    with pytest.raises(NotFittedError):
        copied.predict(X)
    assert estimator.model_.config["arity"] == 3
    assert estimator.n_features_in_ == 6
    assert len(estimator.loss_curve_) == estimator.n_iter_ == 4
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0]


def test_search_over_parameters() -> None:
    data = np.empty(len(X), dtype=object)
    data[:] = X
    search = GridSearchCV(TreeClassifier(**SMALL), {"kind": ["child_sum", "nary"]}, cv=2).fit(data, Y)
    assert search.best_score_ > 0.5


def test_labels_of_any_kind() -> None:
    names = np.array(["no", "yes"])
    classifier = TreeClassifier(**SMALL).fit(X, names[Y])
    assert classifier.classes_.tolist() == ["no", "yes"]
    assert set(classifier.predict(X)) <= {"no", "yes"}
    assert_close(np.exp(classifier.predict_log_proba(X)), classifier.predict_proba(X), 1e-6, "log")
    nodes = TreeClassifier(targets="nodes", **SMALL).fit(X, [names[v].tolist() for v in NODES])
    assert set(flat(nodes.predict(X))) <= {"no", "yes"}
    assert_close(np.exp(flat(nodes.predict_log_proba(X))), flat(nodes.predict_proba(X)), 1e-6, "log")


def test_nodes_without_labels() -> None:
    """They are not learnt from, and not scored: any label there gives the same weights."""
    rng = np.random.default_rng(0)
    known = [rng.random(len(v)) < 0.5 for v in NODES]
    none = [[int(v) if k else None for v, k in zip(*p, strict=True)] for p in zip(NODES, known, strict=True)]
    nan = [np.where(k, v, np.nan) for v, k in zip(NODES, known, strict=True)]
    fitted = [TreeClassifier(targets="nodes", **SMALL).fit(X, y) for y in (none, nan)]
    assert_bitwise(weights_of(fitted[0]), weights_of(fitted[1]), "weights")
    assert not np.array_equal(weights_of(fitted[0]), weights_of(TreeClassifier(targets="nodes", **SMALL).fit(X, NODES)))
    kept = np.concatenate(known)
    right = flat(fitted[0].predict(X)) == flat(NODES)
    assert fitted[0].score(X, none) == pytest.approx(right[kept].mean())
    regressor = TreeRegressor(targets="nodes", **SMALL).fit(X, nan)
    assert regressor.predict(X)[0].shape == NODES[0].shape
    assert regressor.score(X, nan) == pytest.approx(r2_score(flat(NODES)[kept], flat(regressor.predict(X))[kept]))
    two = TreeRegressor(targets="nodes", **SMALL).fit(X, [np.c_[v, -v] for v in nan])
    assert two.predict(X)[0].shape == (len(NODES[0]), 2)


@each
def test_sample_weights(kind: Any, targets: str, y: Any) -> None:
    """Weight 0 leaves a tree out, weight 2 counts it twice."""
    settings = {**SMALL, "targets": targets, "precision": "float64", "batch_size": 1000, "shuffle": False}
    some = np.r_[np.zeros(50), np.ones(150)]
    settings["standardize"] = True
    weighted, left_out = kind(**settings).fit(X, y, some), kind(**settings).fit(X[50:], y[50:])
    assert_close(weights_of(weighted), weights_of(left_out), 1e-9, "weights")
    twice = kind(**settings).fit(X + X[:50], list(y) + list(y[:50]))
    weighted = kind(**settings).fit(X, y, np.r_[np.full(50, 2.0), np.ones(150)])
    assert_close(weights_of(weighted), weights_of(twice), 1e-9, "weights")
    assert weighted.score(X, y, some) == pytest.approx(weighted.score(X[50:], y[50:]))


@pytest.mark.parametrize("targets", ["trees", "nodes"])
def test_class_weights(targets: str) -> None:
    y = Y if targets == "trees" else NODES
    settings = {**SMALL, "targets": targets, "precision": "float64"}
    plain = weights_of(TreeClassifier(**settings).fit(X, y))
    assert_close(weights_of(TreeClassifier(**settings, class_weight={0: 1, 1: 1}).fit(X, y)), plain, 1e-12, "ones")
    counts = np.bincount(flat(y))
    factors = {k: len(flat(y)) / (2 * counts[k]) for k in range(2)}
    balanced = weights_of(TreeClassifier(**settings, class_weight="balanced").fit(X, y))
    assert_close(balanced, weights_of(TreeClassifier(**settings, class_weight=factors).fit(X, y)), 1e-9, "balanced")
    assert not np.array_equal(balanced, plain)
    with pytest.raises(ValueError, match="class_weight names the unknown label 7"):
        TreeClassifier(**settings, class_weight={7: 1.0}).fit(X, y)


@each
def test_early_stopping_callbacks_and_warm_start(kind: Any, targets: str, y: Any) -> None:
    settings = {**SMALL, "targets": targets}
    estimator = kind(**{**settings, "max_iter": 60}, early_stopping=True, n_iter_no_change=3).fit(X, y)
    assert len(estimator.validation_loss_curve_) == estimator.n_iter_
    assert estimator.best_loss_ == min(estimator.validation_loss_curve_)
    estimator = kind(**settings, warm_start=True).fit(X, y, callbacks=lambda info: info.epoch == 2)
    assert estimator.n_iter_ == 2
    assert estimator.fit(X, y).n_iter_ == 6
    with pytest.raises(ValueError, match="hidden_size=17, but the model to go on with has 16"):
        estimator.set_params(hidden_size=17).fit(X, y)


def test_partial_fit() -> None:
    classifier = TreeClassifier(targets="nodes", **SMALL)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        classifier.partial_fit(X, NODES)
    for _ in range(30):
        classifier.partial_fit(X, NODES, classes=[0, 1])
    assert classifier.n_iter_ == 30
    assert classifier.score(X, NODES) > 0.9
    assert TreeRegressor(**SMALL).partial_fit(X, Y).partial_fit(X, Y).n_iter_ == 2


# --- files -----------------------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize(("form", "layers"), [("child_sum", 1), ("nary", 2)])
def test_files_and_pickle(kind: Any, targets: str, y: Any, form: str, layers: int, tmp_path: Path) -> None:
    estimator = kind(form, targets=targets, num_layers=layers, **SMALL).fit(X, y)
    path = tmp_path / "model.safetensors"
    estimator.save(path)
    loaded = lstmcore.load(path)
    assert type(loaded) is kind
    assert loaded.get_params() == estimator.get_params()
    model = lstmcore.load_model(path)
    for other in (loaded, model, pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        for found, expected in zip(other.predict(X_TEST[:9]), estimator.predict(X_TEST[:9]), strict=True):
            assert np.array_equal(found, expected)
    assert_bitwise(flat(loaded._outputs(X_TEST)), flat(estimator._outputs(X_TEST)), "outputs")
    assert loaded.score(X, y) == estimator.score(X, y)
    assert loaded.set_params(warm_start=True).fit(X, y).n_iter_ == 8


def test_hostile_files(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    TreeClassifier("nary", **SMALL).fit(X, Y).save(path)
    good = TreeNetwork.from_config(lstmcore.load_model(path).config).config
    TreeNetwork.shapes(good)
    for changes, message in (
        ({"arity": 0}, "arity"),
        ({"arity": 2.0}, "arity"),
        ({"arity": None}, "arity"),
        ({"arity": 2**40}, "arity"),
        ({"kind": "child_sum"}, "arity"),
        ({"kind": ["nary"]}, "kind"),
        ({"hidden": 0}, "hidden"),
        ({"hidden": True}, "hidden"),
        ({"inputs": "6"}, "inputs"),
        ({"layers": 2**30}, "layers"),
        ({"classifies": 1}, "classifies"),
        ({"targets": None}, "targets"),
        ({"dtype": "float16"}, "dtype"),
        ({"extra": 1}, "entries"),
    ):
        with pytest.raises(ValueError, match=f"config: .*{message}"):
            TreeNetwork.shapes({**good, **changes})
    # A large claim is compared with the tensors before anything of its size is made.
    model = lstmcore.load_model(path)
    with pytest.raises(ValueError, match="expected float32 of shape"):
        restore(TreeNetwork, {**good, "hidden": 2**31}, model.parameters, model.network.constants)
    whole = path.read_bytes()
    for cut in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelFileError):
            lstmcore.load(path)


# --- bad data --------------------------------------------------------------------------------------------------------

GOOD = (np.ones((3, 6)), [-1, 0, 0])


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        (np.ones((3, 6)), TypeError, r"X\[1\]: expected \(features, parents\)"),
        ((np.ones((3, 6)),), TypeError, r"X\[1\]: expected \(features, parents\).*got 1 parts"),
        ((np.ones(6), [-1]), ValueError, r"X\[1\]: features: expected \(M, I\)"),
        ((np.ones((0, 6)), []), ValueError, r"X\[1\]: features: expected \(M, I\).*got \(0, 6\)"),
        ((np.ones((3, 5)), [-1, 0, 0]), ValueError, r"X\[1\]: 5 features, but X\[0\] has 6"),
        ((np.ones((3, 6), complex), [-1, 0, 0]), TypeError, r"X\[1\]: features: expected real numbers"),
        ((np.array([["a"] * 6]), [-1]), TypeError, r"X\[1\]: features: expected real numbers"),
        ((np.ones((3, 6)), [-1, 0]), ValueError, r"X\[1\]: parents: expected shape \(3,\)"),
        ((np.ones((3, 6)), [-1.0, 0.0, 0.0]), TypeError, r"X\[1\]: parents: expected integers"),
        ((np.ones((3, 6)), [-1, 0, 3]), ValueError, r"X\[1\]: node 2 has parent 3; expected -1 .* from 0 to 2"),
        ((np.ones((3, 6)), [-1, 0, -2]), ValueError, r"X\[1\]: node 2 has parent -2"),
        ((np.ones((3, 6)), [-1, 0, -1]), ValueError, r"X\[1\]: 2 nodes have parent -1; a tree has exactly one root"),
        ((np.ones((3, 6)), [1, 0, 0]), ValueError, r"X\[1\]: 0 nodes have parent -1"),
        ((np.ones((3, 6)), [-1, 1, 0]), ValueError, r"X\[1\]: node 1 is its own ancestor"),
        ((np.ones((4, 6)), [-1, 2, 3, 2]), ValueError, r"X\[1\]: node 2 is its own ancestor"),
        ((np.full((3, 6), np.nan), [-1, 0, 0]), ValueError, r"X\[1\]: node 0, feature 0: NaN"),
        ((np.full((3, 6), 1e300), [-1, 0, 0]), ValueError, r"X\[1\]: node 0, feature 0: NaN, infinity or .*float32"),
        ((*GOOD, [-1, 0]), ValueError, r"X\[1\]: positions: expected shape \(3,\)"),
        ((*GOOD, [-1, 0, 0]), ValueError, r"X\[1\]: node 2 has position 0, as a sibling"),
        ((*GOOD, [0, 0, 1]), ValueError, r"X\[1\]: node 0 has position 0; expected -1"),
        ((*GOOD, [-1, 0, -1]), ValueError, r"X\[1\]: node 2 has position -1; expected 0 or more"),
    ],
)
def test_bad_trees(tree: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TreeClassifier("nary").fit([GOOD, tree], [0, 1])


def test_bad_X_and_y() -> None:
    for bad, error, message in (
        (None, TypeError, "X: expected a list of trees"),
        (np.ones((2, 3)), TypeError, "X: expected a list of trees"),
        ([], ValueError, "X: empty list"),
    ):
        with pytest.raises(error, match=message):
            TreeClassifier().fit(bad, [])
    with pytest.raises(ValueError, match="y has 199 entries, but X has 200"):
        TreeClassifier().fit(X, Y[1:])
    with pytest.raises(ValueError, match="only one class"):
        TreeClassifier().fit(X, np.zeros(200))
    nodes = TreeClassifier(targets="nodes", **SMALL)
    with pytest.raises(TypeError, match="with targets='nodes' expected a list of one array a tree"):
        nodes.fit(X, 3)
    with pytest.raises(ValueError, match=r"y\[0\]: expected one label a node"):
        nodes.fit(X, list(Y))
    with pytest.raises(ValueError, match=rf"y\[3\] has 1 entries, but X\[3\] has {len(NODES[3])} nodes"):
        nodes.fit(X, [*NODES[:3], [0], *NODES[4:]])
    with pytest.raises(ValueError, match="no node has a label"):
        nodes.fit(X, [[None] * len(v) for v in NODES])
    with pytest.raises(ValueError, match="no node has a target"):
        TreeRegressor(targets="nodes").fit(X, [[None] * len(v) for v in NODES])
    with pytest.raises(ValueError, match=r"y\[0\] is not numeric"):
        TreeRegressor(targets="nodes").fit(X, [["a"] * len(v) for v in NODES])
    with pytest.raises(ValueError, match="NaN"):
        TreeRegressor(targets="nodes").fit(X, [np.c_[v, np.full(len(v), np.nan)] for v in NODES])
    with pytest.raises(ValueError, match="y contains the unknown label 2"):
        nodes.partial_fit(X, [v + 1 for v in NODES], classes=[0, 1])


def test_what_does_not_fit_the_model() -> None:
    binary = TreeClassifier("nary", **SMALL).fit(X, Y)
    assert binary.model_.config["arity"] == 2
    wide = (np.ones((4, 6)), [-1, 0, 0, 0])
    with pytest.raises(ValueError, match=r"X\[1\]: node 0 has 3 children; arity allows 2"):
        binary.predict([GOOD, wide])
    with pytest.raises(ValueError, match=r"X\[0\]: node 2 has position 2; expected 0 to 1"):
        binary.predict([(*GOOD, [-1, 0, 2])])
    with pytest.raises(ValueError, match="X has 5 features, but TreeClassifier is expecting 6"):
        binary.predict([(np.ones((1, 5)), [-1])])
    with pytest.raises(ValueError, match=r"node 0 has 3 children; arity allows 2"):
        TreeClassifier("nary", arity=2).fit([GOOD, wide], [0, 1])
    assert TreeClassifier("nary", max_iter=1).fit([GOOD, (*GOOD, [-1, 4, 2])], [0, 1]).model_.config["arity"] == 5
    with pytest.raises(ValueError, match="positions, which kind='child_sum' does not read"):
        TreeClassifier().fit([GOOD, (*GOOD, [-1, 0, 1])], [0, 1])
    with pytest.raises(ValueError, match="arity=2 has no meaning for kind='child_sum'"):
        TreeClassifier(arity=2).fit(X, Y)
    for settings, message in (
        ({"kind": "binary"}, "'kind' parameter of TreeClassifier must be one of 'child_sum', 'nary'"),
        ({"targets": "roots"}, "'targets' parameter"),
        ({"arity": 0}, "'arity' parameter"),
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"num_layers": 0}, "'num_layers' parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            TreeClassifier(**settings).fit(X, Y)


def test_trees_with_and_without_positions() -> None:
    """Where positions are left out, siblings stand in the order of their indices."""
    trees = [(np.ones((5, 2)), [1, -1, 1, 0, 0]), (np.ones((3, 2)), [-1, 0, 0], [-1, 1, 0])]
    forest = read_trees(trees, "X", "float32")
    assert forest.positions is not None
    assert forest.positions.tolist() == [0, -1, 1, 0, 1, -1, 1, 0]
    assert forest.forest_parents().tolist() == [1, -1, 1, 0, 0, -1, 5, 5]
    turned = forest.subset(np.array([1, 0, 1]))
    assert turned.forest_parents().tolist() == [-1, 0, 0, 4, -1, 4, 3, 3, -1, 8, 8]
    assert turned.sizes.tolist() == [3, 5, 3]


def test_a_model_needs_numpy_only(tmp_path: Path) -> None:
    TreeClassifier(**SMALL).fit(X, Y).save(tmp_path / "model")
    code = (
        f"import sys, lstmcore; m = lstmcore.load_model({str(tmp_path / 'model')!r});"
        "m.predict([([[0.0] * 6], [-1])]); sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_damaged_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model"
    TreeClassifier(**SMALL).fit(X, Y).save(path)
    data = bytearray(path.read_bytes())
    data[-9] ^= 0x40
    path.write_bytes(bytes(data))
    with pytest.raises(ModelFileError):
        lstmcore.load(path)
