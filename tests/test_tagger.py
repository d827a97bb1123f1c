"""SequenceTagger: what it learns, its gradient, tokens, constraints, weights, streams, files, and what it refuses."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

import lstmcore
from checking import assert_all_bitwise
from lstmcore import ModelFileError, SequenceTagger, _core, datasets, metrics
from lstmcore._steps import Steps, object_array
from lstmcore._tagger_network import StepTargets, TaggerNetwork
from reference import crf as reference

Array = NDArray[Any]

WORDS, TAGS = datasets.make_tagged_sentences(120, random_state=0)
QUICK: dict[str, Any] = {"hidden_size": 12, "embedding_size": 10, "max_iter": 3, "random_state": 0, "n_jobs": 1}
BOTH = pytest.mark.parametrize("crf", [False, True], ids=["softmax", "crf"])


def signals(n: int = 40, seed: int = 0) -> tuple[list[Array], list[Array]]:
    """Label: whether the first feature has been positive more often than not so far."""
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((rng.integers(2, 12), 3)) for _ in range(n)]
    return X, [np.where(np.cumsum(np.sign(x[:, 0])) > 0, "up", "down") for x in X]


X, Y = signals()


# --- the network -----------------------------------------------------------------------------------------------------

CONFIG: dict[str, Any] = {
    "cell": "lstm", "cell_options": {}, "inputs": 3, "hidden_size": 4, "num_layers": 1, "bidirectional": True,
    "outputs": 3, "dropout": 0.0, "variational_dropout": 0.0, "recurrent_dropout": 0.0, "vocabulary": None,
    "embedding_size": None, "dtype": "float64", "crf": True,
}  # fmt: skip
TOKENS = {"vocabulary": {"dtype": "<U3", "values": ["a", "be", "see"]}, "embedding_size": 3}


def network_and_data(changes: dict[str, Any], seed: int = 0) -> tuple[TaggerNetwork, Steps, Array]:
    network = TaggerNetwork({**CONFIG, **changes}, seed=3)
    rng = np.random.default_rng(seed)
    for value in network.parameters.values():
        value[...] = 0.5 * rng.standard_normal(value.shape)
    if network.config["vocabulary"]:
        x = network.read([["a", "be", "zz", "a"], ["see"], ["be", "be"]], "X", "float64")
    else:
        x = network.read([rng.standard_normal((n, 3)) for n in (4, 1, 2)], "X", "float64")
        network.standardise(x, None)
    y = object_array(StepTargets(rng.integers(0, 3, n).astype(np.int32), rng.uniform(0.5, 2.0, n)) for n in (4, 1, 2))
    return network, x, y


VARIANTS = [
    {}, {"crf": False}, TOKENS, {**TOKENS, "crf": False}, {"num_layers": 2, "bidirectional": False, "cell": "gru"},
]  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS)
def test_gradient_equals_finite_differences(changes: dict[str, Any]) -> None:
    network, x, y = network_and_data(changes)
    weights = np.array([1.0, 2.0, 0.5])
    _, share, gradients = network.loss_and_gradients(x, y, weights, 0)
    assert list(gradients) == sorted(gradients, key=list(gradients).index)
    assert set(gradients) == set(network.parameters)
    assert share == pytest.approx(sum(w * item.weights.sum() for w, item in zip(weights, y, strict=True)))
    for name, value in network.parameters.items():
        found = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            kept, sums = value[index], []
            for h in (1e-4, -1e-4, 2e-4, -2e-4):
                value[index] = kept + h
                loss, share, _ = network.loss_and_gradients(x, y, weights, 0, training=False)
                sums.append(loss / share)
            value[index] = kept
            found[index] = (8 * (sums[0] - sums[1]) - (sums[2] - sums[3])) / 12e-4
        np.testing.assert_allclose(gradients[name], found, rtol=1e-6, atol=1e-10, err_msg=name)


def test_crf_loss_equals_brute_force() -> None:
    network, x, y = network_and_data({})
    for item in y:
        item.weights[:] = 1.0
    loss, share, _ = network.loss_and_gradients(x, y, None, 0, training=False)
    parameters = network.parameters
    chain = [parameters["crf_" + name] for name in ("transitions", "start", "end")]
    scores = network._forward(x, 0, training=False).scores
    expected = sum(
        reference.loss(scores[n, : len(item.values)], item.values, *chain, item.weights) for n, item in enumerate(y)
    )
    assert share == 7.0
    assert loss == pytest.approx(expected, rel=1e-12)
    for n, (probabilities, path) in enumerate(zip(network.outputs(x), network.decode(x), strict=True)):
        e = scores[n, : len(path)]
        np.testing.assert_allclose(probabilities, reference.marginals(e, *chain), atol=1e-12)
        np.testing.assert_array_equal(path, reference.best(e, *chain)[0])


def test_shapes_are_those_of_the_network() -> None:
    for changes in VARIANTS:
        network, _, _ = network_and_data(changes)
        shapes, constants, dtype = TaggerNetwork.shapes(json.loads(json.dumps(network.config)))
        assert {name: value.shape for name, value in network.parameters.items()} == shapes
        assert {name: value.shape for name, value in network.constants.items()} == constants
        assert dtype == "float64"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 0}, "hidden_size: expected an integer"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": 10**12}, "hidden_size"),
        ({"num_layers": 10**6}, "num_layers: expected at most 1000"),
        ({"cell": "nope"}, "cell"),
        ({"cell": 3}, "cell"),
        ({"cell_options": []}, "cell_options: expected an object"),
        ({"cell_options": {"seed": 3}}, "seed"),
        ({"cell_options": {"input_size": 3}}, "input_size"),
        ({"dropout": 1.5}, "dropout"),
        ({"dtype": "float16"}, "dtype"),
        ({"dtype": None}, "dtype"),
        ({"bidirectional": 3}, "bidirectional"),
        ({"crf": 1}, "crf: expected true or false"),
        ({"more": 1}, "expected the entries"),
        ({"vocabulary": ["a"], "embedding_size": 3}, "classes"),
        ({"vocabulary": TOKENS["vocabulary"]}, "expected both or neither"),
        ({**TOKENS, "embedding_size": 4}, "embedding_size: expected inputs, 3"),
        ({"vocabulary": {"dtype": "<U1", "values": ["a", "a"]}, "embedding_size": 3}, "distinct"),
    ],
)
def test_hostile_configs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaggerNetwork.shapes({**CONFIG, **change})


# --- what it learns --------------------------------------------------------------------------------------------------


@BOTH
def test_learns_features(crf: bool) -> None:
    tagger = SequenceTagger(crf=crf, hidden_size=24, max_iter=60, learning_rate_init=0.02, random_state=0)
    tagger.fit(*signals(300))
    Xt, Yt = signals(100, seed=1)
    assert tagger.score(Xt, Yt) > 0.93
    found = tagger.predict(Xt)
    assert tagger.score(Xt, Yt) == pytest.approx(metrics.flat_accuracy_score(Yt, found))
    assert found.shape == (100,)
    assert [len(f) for f in found] == [len(x) for x in Xt]


def test_crf_beats_softmax_on_whole_entities() -> None:
    words, tags = datasets.make_tagged_sentences(1200, random_state=1)
    settings: dict[str, Any] = {"bidirectional": True, "hidden_size": 48, "max_iter": 10, "random_state": 0}
    f1 = {}
    for crf in (False, True):
        tagger = SequenceTagger(crf=crf, dropout=0.3, constraints="bio" if crf else None, **settings)
        f1[crf] = metrics.entity_f1_score(tags[800:], tagger.fit(words[:800], tags[:800]).predict(words[800:]))
    assert f1[True] > f1[False] + 0.02
    assert f1[True] > 0.45


def test_constraints_are_kept_by_every_path() -> None:
    tagger = SequenceTagger(crf=True, constraints="bio", **QUICK).fit(WORDS, TAGS)
    forbidden = set(metrics.bio_constraints(tagger.classes_.tolist()))
    paths = tagger.predict([list(np.random.default_rng(k).permutation(WORDS[k])) for k in range(100)])
    for path in paths:
        pairs = set(zip([None, *path.tolist()], [*path.tolist(), None], strict=True))
        assert not pairs & forbidden
    probabilities = tagger.predict_proba(WORDS[:1])[0]
    inside = [k for k, label in enumerate(tagger.classes_) if label.startswith("I-")]
    assert (probabilities[0, inside] == 0.0).all()
    pairs = [["O", "B-PER"], (None, "O"), ("B-ORG", None)]
    free = SequenceTagger(crf=True, constraints=pairs, **QUICK)
    random = np.random.default_rng(0)
    tags = [["B-LOC", *random.choice(["O", "B-LOC", "B-ORG"], len(y) - 2), "B-LOC"] for y in TAGS]
    tags[0][1:3] = ["B-LOC", "B-PER"]
    free.fit(WORDS, tags)
    for path in free.predict(WORDS):
        assert ("O", "B-PER") not in set(pairwise(path))
        assert path[0] != "O"
        assert path[-1] != "B-ORG"


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_integer_tokens_are_text_tokens() -> None:
    numbers = {word: k for k, word in enumerate(sorted({w for s in WORDS for w in s}))}
    coded = [[numbers[word] for word in sentence] for sentence in WORDS]
    one = SequenceTagger(**QUICK).fit(WORDS, TAGS)
    two = SequenceTagger(inputs="tokens", **QUICK).fit(coded, TAGS)
    assert_all_bitwise(one.model_.parameters, two.model_.parameters, "parameters")
    assert two.n_features_in_ == 1
    for a, b in zip(one.predict_proba(WORDS), two.predict_proba([np.array(c) for c in coded]), strict=True):
        np.testing.assert_array_equal(a, b)
    # The same integers are features without being told.
    assert SequenceTagger(**QUICK).fit(coded, TAGS).model_.config["vocabulary"] is None


def test_unknown_tokens_share_a_row_that_is_learnt() -> None:
    tagger = SequenceTagger(singleton_dropout=0.9, **QUICK).fit(WORDS, TAGS)
    one, two = (tagger.predict_proba([[word, *WORDS[0][1:]]])[0] for word in ("never-seen", "neither"))
    np.testing.assert_array_equal(one, two)
    counts: dict[str, int] = {}
    for word in (word for sentence in WORDS for word in sentence):
        counts[word] = counts.get(word, 0) + 1
    network = tagger.model_.network
    rare = set(network._vocabulary.tokens[network.constants["rare"][1:] > 0].tolist())
    assert rare == {word for word, count in counts.items() if count == 1}
    assert rare
    start = TaggerNetwork(network.config, seed=0).parameters["embedding"][0]
    without = SequenceTagger(singleton_dropout=0.0, **QUICK).fit(WORDS, TAGS)
    assert not np.array_equal(start, network.parameters["embedding"][0])
    frequent = SequenceTagger(min_frequency=3, **QUICK).fit(WORDS, TAGS)
    assert set(frequent.model_.network._vocabulary.tokens.tolist()) == {w for w, c in counts.items() if c >= 3}
    assert len(frequent.model_.parameters["embedding"]) < len(without.model_.parameters["embedding"])


def test_vocabulary_is_that_of_the_training_part() -> None:
    tagger = SequenceTagger(**QUICK)
    tagger.fit(WORDS, TAGS, sample_weight=[1.0] * 60 + [0.0] * 60)
    expected = sorted({word for sentence in WORDS[:60] for word in sentence})
    assert tagger.model_.network._vocabulary.tokens.tolist() == expected


@BOTH
def test_padding_of_tokens_and_features(crf: bool) -> None:
    longest = max(len(sentence) for sentence in WORDS)
    padded = np.array([s + [""] * (longest - len(s)) for s in WORDS])
    tags = [t + ["O"] * (longest - len(t)) for t in TAGS]
    plain = SequenceTagger(crf=crf, **QUICK).fit(WORDS, TAGS)
    with_padding = SequenceTagger(crf=crf, **QUICK).fit(padded, np.array(tags))
    assert_all_bitwise(plain.model_.parameters, with_padding.model_.parameters, "parameters")
    none = [[*s, None] for s in WORDS]
    for a, b, c in zip(plain.predict(WORDS), plain.predict(padded), plain.predict(none), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert plain.score(padded, tags) == plain.score(WORDS, TAGS)

    steps = max(len(x) for x in X)
    features = np.full((len(X), steps, 3), np.nan)
    for n, x in enumerate(X):
        features[n, : len(x)] = x
    one = SequenceTagger(crf=crf, **QUICK).fit(X, Y)
    two = SequenceTagger(crf=crf, **QUICK).fit(features, [[*y, *["up"] * (steps - len(y))] for y in Y])
    assert_all_bitwise(one.model_.parameters, two.model_.parameters, "parameters")


def test_arrays_in_arrays_out() -> None:
    rng = np.random.default_rng(0)
    cube, tags = rng.standard_normal((20, 6, 2)), rng.integers(0, 3, (20, 6))
    tagger = SequenceTagger(**QUICK).fit(cube, tags)
    assert tagger.predict(cube).shape == (20, 6)
    assert tagger.predict_proba(cube).shape == (20, 6, 3)
    assert tagger.predict(list(cube)).shape == (20,)
    np.testing.assert_allclose(tagger.predict_proba(cube).sum(axis=2), 1.0, rtol=1e-5)
    assert tagger.predict(cube).dtype.kind == "i"
    table = SequenceTagger(**QUICK).fit(cube[:, :, 0], tags)
    assert (table.n_features_in_, table.predict(cube[:, :, 0]).shape) == (1, (20, 6))


# --- weights ---------------------------------------------------------------------------------------------------------

EXACT = QUICK | {"precision": "float64", "batch_size": 1000, "shuffle": False}


@BOTH
def test_weights_count_as_repeats_and_zeros_as_absent(crf: bool) -> None:
    weights = np.arange(40) % 3
    X2 = [x for x, w in zip(X, weights, strict=True) for _ in range(w)]
    Y2 = [y for y, w in zip(Y, weights, strict=True) for _ in range(w)]
    one = SequenceTagger(crf=crf, **EXACT).fit(X, Y, sample_weight=weights)
    two = SequenceTagger(crf=crf, **EXACT).fit(X2, Y2)
    assert one.loss_curve_ == pytest.approx(two.loss_curve_, rel=1e-12)
    for name, value in two.model_.parameters.items():
        np.testing.assert_allclose(one.model_.parameters[name], value, rtol=1e-7, atol=1e-9, err_msg=name)


@BOTH
def test_class_weights(crf: bool) -> None:
    flat = np.concatenate(Y)
    share = {label: float(np.mean(flat == label)) for label in ("up", "down")}
    balanced = SequenceTagger(crf=crf, class_weight="balanced", **EXACT).fit(X, Y)
    by_hand = {label: 0.5 / value for label, value in share.items()}
    named = SequenceTagger(crf=crf, class_weight=by_hand, **EXACT).fit(X, Y)
    assert balanced.loss_curve_ == pytest.approx(named.loss_curve_, rel=1e-12)
    only = SequenceTagger(crf=crf, class_weight={"down": 0.0}, hidden_size=4, max_iter=30, random_state=0).fit(X, Y)
    assert (np.concatenate(only.predict(X)) == "up").all()
    with pytest.raises(ValueError, match="class_weight names the unknown label 'left'"):
        SequenceTagger(crf=crf, class_weight={"left": 2.0}, **QUICK).fit(X, Y)


# --- training --------------------------------------------------------------------------------------------------------


@BOTH
def test_threads_and_seeds(crf: bool) -> None:
    settings = {**QUICK, "hidden_size": 40, "bidirectional": True, "dropout": 0.2, "crf": crf}
    one = SequenceTagger(**settings).fit(WORDS, TAGS)
    two = SequenceTagger(**{**settings, "n_jobs": 3}).fit(WORDS, TAGS)
    assert_all_bitwise(one.model_.parameters, two.model_.parameters, "parameters")
    assert one.loss_curve_ == two.loss_curve_
    other = SequenceTagger(**{**settings, "random_state": 1}).fit(WORDS, TAGS)
    assert other.loss_curve_ != one.loss_curve_
    for a, b in zip(one.predict_proba(WORDS), two.set_params(n_jobs=2).predict_proba(WORDS), strict=True):
        np.testing.assert_array_equal(a, b)


@BOTH
def test_early_stopping_eval_set_partial_fit_warm_start(crf: bool) -> None:
    held_out = signals(20, seed=5)
    tagger = SequenceTagger(crf=crf, **{**QUICK, "max_iter": 8, "early_stopping": True})
    tagger.fit(X, Y, eval_set=held_out)
    assert tagger.validation_loss_curve_ is not None
    assert len(tagger.validation_loss_curve_) == tagger.n_iter_ == 8
    assert tagger.best_loss_ == min(tagger.validation_loss_curve_)
    tagger.set_params(early_stopping=True).fit(X, Y)
    assert len(tagger.validation_scores_ or ()) == tagger.n_iter_

    again = SequenceTagger(crf=crf, warm_start=True, **QUICK).fit(X, Y)
    first = again.loss_
    again.fit(X, Y)
    assert again.n_iter_ == 6
    assert again.loss_ < first
    with pytest.raises(ValueError, match="hidden_size=5, but the model to go on with has 12"):
        again.set_params(hidden_size=5).fit(X, Y)

    parts = SequenceTagger(crf=crf, **QUICK)
    with pytest.raises(ValueError, match="classes must be passed"):
        parts.partial_fit(X, Y)
    parts.partial_fit(X[:20], Y[:20], classes=["down", "up"])
    parts.partial_fit(X[20:], Y[20:])
    assert parts.n_iter_ == 2
    with pytest.raises(ValueError, match="'sideways' is unknown"):
        parts.partial_fit(X[:1], [["sideways"] * len(X[0])])


def test_entity_scorer_in_grid_search() -> None:
    search = GridSearchCV(
        SequenceTagger(crf=True, **QUICK), {"hidden_size": [4, 8]}, scoring=metrics.entity_f1_scorer, cv=2
    ).fit(WORDS, TAGS)
    assert search.best_params_["hidden_size"] in (4, 8)
    assert 0.0 <= search.best_score_ <= 1.0
    assert search.score(WORDS, TAGS) == metrics.entity_f1_score(TAGS, search.predict(WORDS))
    GridSearchCV(SequenceTagger(**QUICK), {"hidden_size": [4]}, cv=2).fit(X, Y)


# --- streams ---------------------------------------------------------------------------------------------------------


def test_step_gives_what_predict_proba_gives() -> None:
    tagger = SequenceTagger(num_layers=2, **QUICK).fit(X, Y)
    expected = tagger.predict_proba(X[:1])[0]
    state = None
    for t, x in enumerate(X[0]):
        found, state = tagger.step(x, state)
        assert found.shape == (2,)
        np.testing.assert_allclose(found, expected[t], rtol=1e-5)
    both = np.stack([X[0][0], X[1][0]])
    found, _ = tagger.step(both)
    np.testing.assert_allclose(found[1], tagger.predict_proba(X[1:2])[0][0], rtol=1e-5)

    words = SequenceTagger(**QUICK).fit(WORDS, TAGS)
    state = None
    for t, word in enumerate(WORDS[3]):
        found, state = words.step(word, state)
        np.testing.assert_allclose(found, words.predict_proba(WORDS[3:4])[0][t], rtol=1e-5)
    assert words.step(["unheard", WORDS[0][0]])[0].shape == (2, 7)


def test_step_refuses() -> None:
    with pytest.raises(NotFittedError):
        SequenceTagger().step([1.0])
    with pytest.raises(ValueError, match=r"later steps. Fit with crf=False"):
        SequenceTagger(crf=True, **QUICK).fit(X, Y).step(X[0][0])
    with pytest.raises(ValueError, match="Fit with bidirectional=False"):
        SequenceTagger(bidirectional=True, **QUICK).fit(X, Y).step(X[0][0])
    tagger = SequenceTagger(**QUICK).fit(X, Y)
    for bad, error, message in (
        ([1.0, 2.0], ValueError, r"x: expected shape \(3,\) or \(N, 3\), got \(2,\)"),
        ([np.nan, 0.0, 0.0], ValueError, "NaN"),
        (["a", "b", "c"], TypeError, "x: expected numbers"),
    ):
        with pytest.raises(error, match=message):
            tagger.step(bad)
    _, state = tagger.step(X[0][0])
    with pytest.raises(ValueError, match=r"state: it is of 1 stream\(s\), x has 2"):
        tagger.step(X[0][:2], state)
    with pytest.raises(TypeError, match="state: expected what step returned"):
        tagger.step(X[0][0], "start")


# --- files, pickles --------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("tokens", [False, True], ids=["features", "tokens"])
def test_files_and_pickles(crf: bool, tokens: bool, tmp_path: Path) -> None:
    data, labels = (WORDS, TAGS) if tokens else (X, Y)
    constraints = "bio" if crf and tokens else None
    tagger = SequenceTagger(crf=crf, constraints=constraints, class_weight={labels[0][0]: 2.0}, **QUICK)
    tagger.fit(data, labels)
    tagger.save(tmp_path / "m.safetensors")
    model = lstmcore.load_model(tmp_path / "m.safetensors")
    for other in (lstmcore.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(tagger)), model):
        for a, b in zip(other.predict(data), tagger.predict(data), strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(other.predict_proba(data), tagger.predict_proba(data), strict=True):
            np.testing.assert_array_equal(a, b)
        if other is not model:
            assert other.get_params() == tagger.get_params()
            assert other.loss_curve_ == tagger.loss_curve_
            assert other.score(data, labels) == tagger.score(data, labels)
    pickle.loads(pickle.dumps(model)).predict(data)
    assert not hasattr(clone(tagger), "model_")
    loaded = lstmcore.load(tmp_path / "m.safetensors")
    loaded.set_params(warm_start=True).fit(data, labels)
    assert loaded.n_iter_ == 6


def test_hostile_files(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    SequenceTagger(crf=True, **QUICK).fit(WORDS, TAGS).save(path)
    tensors, texts = _core.read_tensors(str(path))
    texts = {k: v for k, v in texts.items() if k not in ("format", "format_version", "lstmcore_version", "checksum")}

    def broken(tensors: dict[str, Any], texts: dict[str, str], what: Any) -> None:
        _core.write_tensors(str(path), tensors, texts)
        with pytest.raises(ModelFileError):
            pytest.fail(f"{what}: {lstmcore.load(path)}")

    document = json.loads(texts["network"])
    for change in (
        {"outputs": 2**31}, {"hidden_size": 10**9}, {"inputs": -1}, {"crf": False}, {"vocabulary": None},
        {"vocabulary": {"dtype": "<U9", "values": ["a"]}}, {"cell": "gru"}, {"bidirectional": True},
        {"dtype": "float64"},
    ):  # fmt: skip
        changed = {**document, "config": {**document["config"], **change}}
        broken(tensors, {**texts, "network": json.dumps(changed)}, change)
    for name in ("embedding", "crf_transitions", "allowed_end", "rare", "head_b"):
        broken({k: v for k, v in tensors.items() if k != name}, texts, name)
        broken({**tensors, name: np.zeros((2, 3, 4))}, texts, name)
    broken(
        {**tensors, "crf_transitions": tensors["crf_transitions"] * 2.0 + np.eye(7, dtype="float32")}, texts, "scores"
    )
    estimator = json.loads(texts["estimator"])
    for change in ({"class": "SequenceClassifier"}, {"class": "TreeClassifier"}):
        broken(tensors, {**texts, "estimator": json.dumps({**estimator, **change})}, change)
    for change in ({"constraints": "any"}, {"constraints": [["a"]]}, {"hidden_size": "8"}, {"inputs": 3}):
        parameters = {**estimator["parameters"], **change}
        broken(tensors, {**texts, "estimator": json.dumps({**estimator, "parameters": parameters})}, change)


# --- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "labels", "error", "message"),
    [
        ([], [], ValueError, "X"),
        ([["a"], []], [["x"], []], ValueError, r"X\[1\] has no token"),
        (["the cat"], [["x", "y"]], TypeError, r"X\[0\] is one text, 'the cat'.*split"),
        ("the cat", ["x", "y"], TypeError, "X is one text"),
        ([["a", 3]], [["x", "y"]], TypeError, r"X\[0\], step 1: expected text"),
        ([["a", None, "b"]], [["x", "y", "x"]], TypeError, r"X\[0\], step 1"),
        ([["a", "b"], ["a"]], [["x"], ["y"]], ValueError, r"y\[0\] has 1 labels, but X\[0\] has 2 steps"),
        ([["a", "b"]], [["x", "y"], ["x"]], ValueError, "y has 2 entries, but X has 1"),
        ([["a", "b"]], ["xy"], ValueError, r"y\[0\]: expected one label a step"),
        ([["a", "b"]], "xy", TypeError, "y: expected N sequences of labels"),
        ([["a", "b"]], [["x", None]], ValueError, "every step needs a label"),
        ([["a", "b"]], [["x", 1]], ValueError, "does not mix"),
        ([["a", "b"]], [["x", "x"]], ValueError, "only one label"),
        ([["a", "b"]], [[0.5, 0.7]], ValueError, "Unknown label type"),
        ([["a", "b"]], [[0.0, np.nan]], ValueError, "every step needs a label"),
        ([["a", "b"]], None, ValueError, "y"),
        ([np.array([[1.0], [np.nan], [2.0]])], [["x", "y", "x"]], ValueError, "sequence 0, step 1"),
        ([np.array([[1e300], [2.0]])], [["x", "y"]], ValueError, "too large for dtype"),
        ([np.ones((2, 3)), np.ones((2, 4))], [["x", "y"]] * 2, ValueError, r"X\[1\] has 4 feature"),
    ],
)
def test_refused_data(data: Any, labels: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        SequenceTagger(**QUICK).fit(data, labels)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"constraints": "bio"}, ValueError, "constraints need crf=True"),
        ({"crf": True, "constraints": "iob"}, ValueError, "'constraints' parameter of SequenceTagger must be None"),
        ({"crf": True, "constraints": [("O", "nope")]}, ValueError, "label 'nope' does not occur in y"),
        ({"crf": True, "constraints": [(None, None)]}, ValueError, "names no label"),
        (
            {"crf": True, "constraints": [(None, "O")]},
            ValueError,
            r"y\[\d+\] begins with 'O', which",
        ),
        ({"crf": True, "constraints": [("I-PER", None)]}, ValueError, r"y\[\d+\] ends with 'I-PER'"),
        ({"crf": True, "constraints": [("O", "B-PER")]}, ValueError, r"y\[\d+\], step \d+: 'B-PER' after 'O'"),
        ({"crf": "yes"}, ValueError, "'crf' parameter"),
        ({"inputs": "words"}, ValueError, "'inputs' parameter"),
        ({"inputs": "features"}, ValueError, "X holds text"),
        ({"embedding_size": 0}, ValueError, "'embedding_size' parameter"),
        ({"min_frequency": 10**6}, ValueError, "min_frequency=1000000: no token"),
        ({"singleton_dropout": 1.0}, ValueError, "'singleton_dropout' parameter"),
        ({"pooling": "last"}, ValueError, "'pooling' parameter of SequenceTagger must be None"),
        ({"bptt_steps": 5}, NotImplementedError, "bptt_steps=5"),
        ({"device": "cuda"}, NotImplementedError, "device"),
        ({"precision": "bfloat16", "cell": "xlstm"}, ValueError, "precision: bfloat16 does not work with cell"),
        ({"cell": "nope"}, ValueError, "cell='nope' is unknown"),
        ({"max_iter": 0}, ValueError, "'max_iter' parameter"),
    ],
)
def test_refused_parameters(parameters: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        SequenceTagger(**{**QUICK, **parameters}).fit(WORDS, TAGS)


def test_refused_in_prediction() -> None:
    features, words = SequenceTagger(**QUICK).fit(X, Y), SequenceTagger(crf=True, **QUICK).fit(WORDS, TAGS)
    with pytest.raises(NotFittedError):
        SequenceTagger().predict(X)
    with pytest.raises(ValueError, match=r"X holds text, '.*', but the model reads numbers: 3 features"):
        features.predict(WORDS)
    with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting 3"):
        features.predict([np.ones((4, 2))])
    with pytest.raises(ValueError, match=r"X has 3 features a step. Tokens are one a step"):
        words.predict(X)
    with pytest.raises(ValueError, match="tokens that are text, got integers"):
        words.predict([[1, 2]])
    with pytest.raises(ValueError, match=r"y\[0\], step 1: the label 'left' is unknown. Known labels: 'down', 'up'"):
        features.score([np.ones((2, 3))], [["up", "left"]])
    with pytest.raises(ValueError, match=r"eval_set y\[0\]"):
        SequenceTagger(**QUICK).fit(X, Y, eval_set=(X[:1], [["left"] * len(X[0])]))
    with pytest.raises(ValueError, match="integers >= 0"):
        SequenceTagger(inputs="tokens", **QUICK).fit([[1, -2]], [["x", "y"]])


def test_impossible_length_is_named() -> None:
    constraints = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
    tagger = SequenceTagger(crf=True, constraints=constraints, **QUICK).fit([[1.0], [2.0]] * 4, [["a"], ["b"]] * 4)
    with pytest.raises(ValueError, match="they allow no sequence of 3 labels"):
        tagger.predict([[1.0, 2.0, 3.0]])


def test_divergence_is_reported() -> None:
    with pytest.raises(ValueError, match="Training diverged"):
        SequenceTagger(crf=True, solver="sgd", learning_rate_init=1e39, clip_norm=None, **QUICK).fit(X, Y)


# --- scores of label sequences ---------------------------------------------------------------------------------------


def test_entities() -> None:
    assert metrics.entities([]) == []
    assert metrics.entities(["I-a", "I-a", "I-b", "B-b", "O", "B-a"]) == [
        (0, 2, "a"),
        (2, 3, "b"),
        (3, 4, "b"),
        (5, 6, "a"),
    ]
    assert metrics.entities(["S-a", "B-a", "I-a", "E-a", "E-a", "B-a-c"]) == [
        (0, 1, "a"), (1, 4, "a"), (4, 5, "a"), (5, 6, "a-c"),
    ]  # fmt: skip
    for label in ("B", "X-a", "I-", "", 3):
        with pytest.raises(ValueError, match="is none of 'O'"):
            metrics.entities([label])  # type: ignore[list-item]


def test_entity_f1() -> None:
    true = [["B-a", "I-a", "O"], ["B-b", "O", "B-a"]]
    found = [np.array(["B-a", "I-a", "O"]), ["B-b", "I-b", "B-a"]]
    assert metrics.entity_f1_score(true, found) == pytest.approx(2 * 2 / 6)
    assert metrics.entity_f1_score(true, found, sample_weight=[1.0, 0.0]) == 1.0
    assert metrics.entity_f1_score([["O"]], [["O"]]) == 1.0
    assert metrics.entity_f1_score([["O"]], [["B-a"]]) == 0.0
    assert metrics.flat_accuracy_score(true, found) == pytest.approx(5 / 6)
    for arguments, error in (
        ((true, found[:1]), ValueError),
        (([], []), ValueError),
        ((["O"], ["O"]), TypeError),
        (([["O"]], [["O", "O"]]), ValueError),
    ):
        with pytest.raises(error, match="y_true"):
            metrics.entity_f1_score(*arguments)


def test_bio_constraints() -> None:
    labels = ["O", "B-a", "I-a", "E-a", "S-a"]
    forbidden = set(metrics.bio_constraints(labels, "bioes"))
    allowed = {
        (p, q) for p in [None, *labels] for q in [None, *labels] if (p, q) != (None, None) and (p, q) not in forbidden
    }
    after_entity = {"O", "B-a", "S-a", None}
    expected = {(p, q) for p in ("O", "E-a", "S-a", None) for q in after_entity} - {(None, None)}
    assert allowed == expected | {("B-a", "I-a"), ("B-a", "E-a"), ("I-a", "I-a"), ("I-a", "E-a")}
    assert metrics.bio_constraints(["O", "B-a", "I-a", "B-b"]) == [("O", "I-a"), ("B-b", "I-a"), (None, "I-a")]
    with pytest.raises(ValueError, match="scheme: expected 'bio' or 'bioes'"):
        metrics.bio_constraints(labels, "iob")
    with pytest.raises(ValueError, match="'E-a' is none of"):
        metrics.bio_constraints(labels)


# --- data ------------------------------------------------------------------------------------------------------------


def test_make_tagged_sentences() -> None:
    again = datasets.make_tagged_sentences(120, random_state=0)
    assert again == (WORDS, TAGS)
    assert datasets.make_tagged_sentences(120, random_state=1) != again
    for words, tags in zip(WORDS, TAGS, strict=True):
        assert len(words) == len(tags)
        assert metrics.entities(tags)
    assert not {w for s in datasets.make_tagged_sentences(50, ambiguity=1.0)[0] for w in s if w.startswith("per")}
    for arguments in ({"n_sentences": 0}, {"ambiguity": 1.5}, {"ambiguity": "x"}, {"vocabulary_size": 5}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            datasets.make_tagged_sentences(**arguments)
