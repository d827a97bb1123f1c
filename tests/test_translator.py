"""SequenceTranslator: gradients, searches, what it learns, files, and what it refuses."""

from __future__ import annotations

import itertools
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import lstmcore
from checking import assert_all_bitwise
from lstmcore import ModelFileError, SequenceTranslator, _core, datasets
from lstmcore._steps import object_array
from lstmcore.metrics import label_error_rate
from lstmcore.plotting import plot_attention
from lstmcore.translation.network import TranslatorNetwork
from lstmcore.translation.search import beam_search, greedy_search, penalty

QUICK: dict[str, Any] = {"hidden_size": 12, "embedding_size": 6, "max_iter": 3, "random_state": 0, "n_jobs": 1}
WORDS = ["abc", "bca", "ca", "acb", "ba", "cab", "bac", "cb", "a", "bb"]
UPPER = [word.upper() for word in WORDS]

CONFIG: dict[str, Any] = {
    "cell": "lstm", "cell_options": {}, "inputs": 3, "hidden_size": 4, "num_layers": 2, "bidirectional": True,
    "outputs": 4, "dropout": 0.0, "variational_dropout": 0.0, "recurrent_dropout": 0.0, "vocabulary": None,
    "embedding_size": None, "dtype": "float64", "attention": "additive", "attention_size": 5, "input_feeding": False,
    "target_embedding_size": 2, "max_length": 20, "joined": False,
}  # fmt: skip


def network(seed: int = 3, **changes: Any) -> TranslatorNetwork:
    config = {**CONFIG, **changes}
    if config["attention"] != "additive":
        config["attention_size"] = None
    made = TranslatorNetwork(config, seed=seed)
    rng = np.random.default_rng(seed)
    for value in made.parameters.values():
        value[...] = 0.6 * rng.standard_normal(value.shape)
    return made


def batch(made: TranslatorNetwork) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    x = made.read([rng.standard_normal((n, 3)) for n in (5, 2, 4)], "X", "float64")
    return (
        x,
        object_array([np.array([0, 2, 1]), np.array([1]), np.array([], dtype=np.int64)]),
        np.array([1.0, 2.0, 0.5]),
    )


NETWORKS: list[dict[str, Any]] = [
    {},
    {"attention": None},
    {"attention": "general", "input_feeding": True},
    {"attention": "general"},
    {"attention": "dot", "bidirectional": False},
    {"attention": "additive", "input_feeding": True, "bidirectional": False, "cell": "gru"},
    {"cell": "slstm"},
    {"cell": "lstm", "cell_options": {"proj_size": 3}},
]


@pytest.mark.parametrize("changes", NETWORKS)
def test_gradient_of_the_loss(changes: dict[str, Any]) -> None:
    made = network(**changes)
    made.label_smoothing = 0.1
    x, y, weights = batch(made)
    _, share, gradients = made.loss_and_gradients(x, y, weights, 0)
    assert share == 4.0 + 2.0 * 2.0 + 0.5  # tokens and ends
    assert set(gradients) == set(made.parameters)

    def loss() -> float:
        total, share, _ = made.loss_and_gradients(x, y, weights, 0, training=True)
        return total / share

    rng = np.random.default_rng(1)
    for name, value in made.parameters.items():
        step, kept, eps = rng.standard_normal(value.shape), value.copy(), 1e-6
        sums = []
        for sign in (1.0, -1.0):
            value[...] = kept + sign * eps * step
            sums.append(loss())
        value[...] = kept
        slope = (sums[0] - sums[1]) / (2.0 * eps)
        found = float((gradients[name] * step).sum())
        assert abs(found - slope) <= 2e-8 + 1e-6 * abs(slope), name


@pytest.mark.parametrize("changes", NETWORKS)
def test_single_steps_say_what_the_loss_is(changes: dict[str, Any]) -> None:
    made = network(**changes)
    x, y, _ = batch(made)
    total, _, _ = made.loss_and_gradients(x, y, None, 0, training=False)
    expected = 0.0
    for n, tokens in enumerate(y):
        source, state = made.encode(x.subset(np.array([n])))
        read = 0
        for token in (*(tokens + 1).tolist(), 0):
            scores, state, _ = made.write_step(np.array([read]), state, source, np.zeros(1, np.int64))
            expected -= float(scores[0, token] - np.log(np.exp(scores[0]).sum()))
            read = token
    assert total == pytest.approx(expected, rel=1e-11)


def test_greedy_search_takes_the_most_probable() -> None:
    made = network()
    x, _, _ = batch(made)
    for n, item in enumerate(greedy_search(made, x, 6)):
        assert item.probabilities.shape == (len(item.tokens), 3)
        assert np.argmax(item.probabilities, axis=1).tolist() == item.tokens.tolist()
        alone = greedy_search(made, x.subset(np.array([n])), 6)[0]
        assert alone.tokens.tolist() == item.tokens.tolist()


@pytest.mark.parametrize("changes", NETWORKS)
@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_a_beam_that_is_wide_enough_finds_the_best(changes: dict[str, Any], alpha: float) -> None:
    made = network(**changes)
    x, _, _ = batch(made)
    longest = 3
    every = [p for length in range(longest + 1) for p in itertools.product(range(3), repeat=length)]
    found = beam_search(made, x, longest, len(every), alpha)
    for n, beams in enumerate(found):
        one = x.subset(np.array([n]))
        expected = []
        for tokens in every:
            loss, _, _ = made.loss_and_gradients(one, object_array([np.array(tokens, np.int64)]), None, 0, False)
            expected.append((-loss / penalty(len(tokens) + 1, alpha), tokens))
        expected.sort(key=lambda item: -item[0])
        assert len(beams) == len(every)
        assert [tuple(item.tokens.tolist()) for item in beams] == [tokens for _, tokens in expected]
        assert [item.score for item in beams] == pytest.approx([score for score, _ in expected], rel=1e-9)
        # A narrow one finds hypotheses with the right scores, never better ones.
        known = {tokens: score for score, tokens in expected}
        narrow = beam_search(made, one, longest, 2, alpha)[0]
        assert 1 <= len(narrow) <= 2
        for item in narrow:
            assert item.score == pytest.approx(known[tuple(item.tokens.tolist())], rel=1e-9)


def test_a_beam_does_not_depend_on_its_batch() -> None:
    made = network()
    x, _, _ = batch(made)
    together = beam_search(made, x, 10, 3, 0.6, attention=True)
    for n, beams in enumerate(together):
        alone = beam_search(made, x.subset(np.array([n])), 10, 3, 0.6, attention=True)[0]
        assert [item.tokens.tolist() for item in alone] == [item.tokens.tolist() for item in beams]
        for a, b in zip(alone, beams, strict=True):
            assert a.score == pytest.approx(b.score, rel=1e-12)
            assert a.attention.shape == (len(a.tokens), x.lengths[n])
            np.testing.assert_allclose(a.attention, b.attention, rtol=1e-10)
            np.testing.assert_allclose(a.attention.sum(axis=1), 1.0, rtol=1e-12)


def test_weights_that_are_not_finite_end_at_once() -> None:
    translator = SequenceTranslator(**QUICK).fit(WORDS, UPPER)
    for value in translator.model_.network.parameters.values():
        value[...] = np.nan
    for width in (1, 3):
        assert translator.set_params(beam_width=width).predict(WORDS).tolist() == [""] * 10
    found = translator.decode(WORDS[:1], return_attention=True)[0]
    assert [item.output for item in found] == [""]
    assert np.isnan(found[0].score)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.4] * 5),
        ("linear", [0.0, 0.1, 0.2, 0.3, 0.4]),
        ("inverse_sigmoid", [0.4 / (1.0 + np.exp(6.0 - 3.0 * k)) for k in range(5)]),
    ],
)
def test_schedules_of_sampling(schedule: str, expected: list[float]) -> None:
    settings = {**QUICK, "max_iter": 5, "scheduled_sampling": 0.4, "sampling_schedule": schedule}
    seen: list[float] = []
    translator = SequenceTranslator(n_iter_no_change=None, **settings)
    translator.fit(WORDS, UPPER, callbacks=lambda info: seen.append(info.estimator.model_.network.sampling))
    assert seen == pytest.approx(expected)


def test_columns_of_a_frame_and_scikit_learn_tools() -> None:
    pandas = pytest.importorskip("pandas")
    from sklearn.model_selection import GridSearchCV, cross_val_score

    frame = pandas.DataFrame({"text": WORDS, "upper": UPPER}, index=range(5, 15))
    translator = SequenceTranslator(**QUICK)
    found = translator.fit(frame["text"], frame["upper"]).predict(frame["text"])
    assert found.tolist() == translator.fit(WORDS, UPPER).predict(WORDS).tolist()
    assert translator.score(frame["text"], frame["upper"]) == translator.score(WORDS, UPPER)
    assert cross_val_score(translator, WORDS * 2, UPPER * 2, cv=2).shape == (2,)
    search = GridSearchCV(translator, {"attention": ["additive", None]}, cv=2).fit(WORDS * 2, UPPER * 2)
    assert search.best_estimator_.predict(WORDS).shape == (10,)


def test_scheduled_sampling_reads_its_own_tokens() -> None:
    made = network()
    x, y, weights = batch(made)
    plain = made.loss_and_gradients(x, y, weights, 0)[0]
    made.sampling = 1.0
    sampled = made.loss_and_gradients(x, y, weights, 0)
    assert sampled[0] != plain
    assert made.loss_and_gradients(x, y, weights, 0, training=False)[0] == plain
    # All tokens being its own, those of y do not matter but as targets: gradients of the table are of greedy tokens.
    first = greedy_search(made, x, 1)
    read = {0} | {1 + int(item.tokens[0]) if len(item.tokens) else 0 for item in first[:1]}
    assert set(np.flatnonzero(np.abs(sampled[2]["target_embedding"]).sum(axis=1))) >= read


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attention": "general", "input_feeding": True},
        {"attention": "dot", "bidirectional": False},
        {"attention": None},
        {"cell": "gru", "num_layers": 2, "dropout": 0.1},
        {"scheduled_sampling": 0.3, "label_smoothing": 0.05},
    ],
)
def test_learns_to_reverse(settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcde"), size=rng.integers(1, 6))) for _ in range(500)]
    back = [word[::-1] for word in words]
    quick = {"hidden_size": 40, "embedding_size": 16, "learning_rate_init": 1.5e-2, "random_state": 0, "max_iter": 15}
    translator = SequenceTranslator(learning_rate="cosine", n_jobs=1, **{**quick, **settings})
    translator.fit(words[:400], back[:400])
    least = 0.4 if settings.get("attention", "") is None else 0.8
    assert translator.score(words[400:], back[400:]) > least
    found = translator.predict(words[400:])
    assert translator.score(words[400:], back[400:]) == pytest.approx(np.mean(found == np.array(back[400:])))
    translator.set_params(beam_width=4)
    assert translator.score(words[400:], back[400:]) > least
    if translator.attention is None:
        return
    # The attention map of a reversal runs from the end to the beginning.
    best = translator.decode(["abcde"], return_attention=True)[0][0]
    assert best.output == "edcba"
    assert best.attention is not None
    assert best.attention.shape == (5, 5)
    axes = plot_attention("abcde", best.output, best.attention)
    assert [label.get_text() for label in axes.get_yticklabels()] == list("edcba")


def test_tokens_features_and_empty_outputs() -> None:
    sentences = [["we", "go"], ["go", "we", "go"], ["we"]] * 4
    answers: list[list[Any]] = [["x", "yy"], [], ["yy"]] * 4
    settings = {**QUICK, "max_iter": 80, "learning_rate_init": 0.03}
    translator = SequenceTranslator(**settings).fit(sentences, answers)
    assert [item.tolist() for item in translator.predict(sentences[:3])] == answers[:3]
    assert translator.predict([["unknown", "we"]])[0].dtype.kind == "U"
    rng = np.random.default_rng(0)
    X = [rng.standard_normal((n, 2)) for n in (3, 5, 4)] * 4
    y = [[7, 8], [9], [8, 8, 8]] * 4
    translator = SequenceTranslator(**settings).fit(X, y)
    assert [item.tolist() for item in translator.predict(X[:3])] == y[:3]
    assert translator.predict_proba(X[:3])[0].shape == (2, 3)
    ints = [[1, 2], [2, 1, 1], [3]] * 4
    translator = SequenceTranslator(inputs="tokens", **settings).fit(ints, UPPER[:3] * 4)
    assert translator.predict(ints[:3]).tolist() == UPPER[:3]
    assert translator.predict(np.array([[1, 2]])).tolist() == UPPER[:1]


def test_length_limits() -> None:
    translator = SequenceTranslator(**QUICK).fit(WORDS, UPPER)
    assert translator.model_.config["max_length"] == 16
    assert all(len(text) <= 16 for text in translator.predict(WORDS))
    translator.set_params(max_length=2)
    assert all(len(text) <= 2 for text in translator.predict(WORDS))
    assert all(len(item.output) <= 2 for beams in translator.decode(WORDS, beam_width=3, n_best=3) for item in beams)


def test_threads_weights_and_practice() -> None:
    settings = {**QUICK, "hidden_size": 40, "dropout": 0.2, "scheduled_sampling": 0.5, "sampling_schedule": "constant"}
    words, upper = WORDS * 8, UPPER * 8
    for attention in ("additive", "general", None):
        one = SequenceTranslator(**settings, attention=attention).fit(words, upper)
        two = SequenceTranslator(**{**settings, "n_jobs": 3}, attention=attention).fit(words, upper)
        assert_all_bitwise(one.model_.parameters, two.model_.parameters, "parameters")
        one.set_params(beam_width=3)
        two.set_params(beam_width=3)
        assert one.predict(words).tolist() == two.predict(words).tolist()
    exact = QUICK | {"precision": "float64", "batch_size": 1000, "shuffle": False, "singleton_dropout": 0.0}
    weights = np.arange(10) % 3
    weighted = SequenceTranslator(**exact).fit(WORDS, UPPER, sample_weight=weights)
    repeated = SequenceTranslator(**exact).fit(
        [x for x, w in zip(WORDS, weights, strict=True) for _ in range(w)],
        [y for y, w in zip(UPPER, weights, strict=True) for _ in range(w)],
    )
    assert weighted.loss_curve_ == pytest.approx(repeated.loss_curve_, rel=1e-10)
    stopped = SequenceTranslator(early_stopping=True, **QUICK).fit(WORDS, UPPER, eval_set=(WORDS[:4], UPPER[:4]))
    assert len(stopped.validation_scores_ or ()) == 3
    parts = SequenceTranslator(**QUICK)
    parts.partial_fit(WORDS[:5], UPPER[:5], classes=list("ABC")).partial_fit(WORDS[5:], UPPER[5:])
    assert len(parts.loss_curve_) == 2
    warm = SequenceTranslator(warm_start=True, **QUICK).fit(WORDS, UPPER).fit(WORDS, UPPER)
    assert warm.n_iter_ == 6
    with pytest.raises(ValueError, match="attention='general', but the model to go on with has 'additive'"):
        warm.set_params(attention="general").fit(WORDS, UPPER)


def test_clone_pickle_and_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for more in ({}, {"attention": None, "bidirectional": False}, {"attention": "general", "input_feeding": True}):
        translator = SequenceTranslator(**{**QUICK, **more}).fit(WORDS, UPPER)
        translator.set_params(beam_width=3)
        assert clone(translator).get_params() == translator.get_params()
        translator.save(path)
        expected = translator.decode(WORDS, n_best=2)
        for other in (lstmcore.load(path), pickle.loads(pickle.dumps(translator))):
            assert other.get_params() == translator.get_params()
            assert other.predict(WORDS).tolist() == translator.predict(WORDS).tolist()
            assert [[i.score for i in b] for b in other.decode(WORDS, n_best=2)] == [
                [i.score for i in b] for b in expected
            ]
            assert other.score(WORDS, UPPER) == translator.score(WORDS, UPPER)
            other.partial_fit(WORDS, UPPER)
        model = lstmcore.load_model(path)
        assert model.predict(WORDS).tolist() == translator.set_params(beam_width=1).predict(WORDS).tolist()
        with pytest.raises(ValueError, match="a translation starts from the whole sequence"):
            model.step("a")


CHANGES: list[tuple[str, Any, str]] = [
    ("attention", "luong", "attention"),
    ("attention", "general", "attention_size"),
    ("attention_size", 6, "attention_query"),
    ("attention_size", -1, "attention_size"),
    ("attention_size", None, "attention_size"),
    ("attention_size", 2**40, "attention_size"),
    ("input_feeding", True, "W_l0_decoder"),
    ("input_feeding", 1, "input_feeding"),
    ("target_embedding_size", 7, "W_l0_decoder|target_embedding"),
    ("max_length", 0, "max_length"),
    ("max_length", 2**20, "max_length"),
    ("joined", "yes", "joined"),
    ("cell", "mlstm", "one after the other"),
    ("outputs", 9, "head_b|target_embedding"),
    ("outputs", 1, "outputs"),
    ("bidirectional", False, "bridge|reverse|W_l0"),
]


def test_file_of_a_translator_that_writes_nothing(tmp_path: Path) -> None:
    translator = SequenceTranslator(**QUICK).fit(WORDS, UPPER)
    translator.model_.network.parameters["head_b"][0] = 1000.0  # of the end
    assert translator.predict(WORDS).tolist() == [""] * len(WORDS)
    translator.save(tmp_path / "m.safetensors")
    assert lstmcore.load(tmp_path / "m.safetensors").predict(WORDS).tolist() == [""] * len(WORDS)


@pytest.mark.parametrize(("name", "value", "message"), CHANGES)
def test_damaged_files_are_refused(name: str, value: Any, message: str, tmp_path: Path) -> None:
    translator = SequenceTranslator(**QUICK).fit(WORDS, UPPER)
    path = tmp_path / "m.safetensors"
    translator.save(path)
    tensors, texts = _core.read_tensors(str(path))
    document = json.loads(texts["network"])
    document["config"][name] = value
    _core.write_tensors(str(path), tensors, {**texts, "network": json.dumps(document)})
    with pytest.raises(ModelFileError, match=message):
        lstmcore.load(path)


REFUSED: list[tuple[dict[str, Any], Any, Any, str]] = [
    ({}, "abc", UPPER, "X is one text"),
    ({}, WORDS, "ABC", "y: expected N sequences of labels, got str"),
    ({}, WORDS, None, "requires y"),
    ({}, [], [], "X"),
    ({}, ["ab", ""], ["A", "B"], "X[1] is empty"),
    ({}, [""], ["A"], "X[0] is empty"),
    ({}, WORDS, list(range(10)), "y[0]: expected a sequence of labels"),
    ({}, WORDS, [["x", None]] * 10, "None and NaN are none"),
    ({}, ["ab", None], ["A", "B"], "X[1]: expected a text or a sequence of tokens, got None"),
    ({}, WORDS, UPPER[:-1], "y has 9"),
    ({}, WORDS, [*UPPER[:-1], 3], "texts do not mix"),
    ({}, WORDS, [*UPPER[:-1], ["B"]], "texts do not mix"),
    ({}, WORDS, [None] * 10, "y[0]"),
    ({}, WORDS, [[0.5]] * 10, "Unknown label type"),
    ({}, WORDS, [""] * 10, "no labels at all"),
    ({"attention": "luong"}, WORDS, UPPER, "'attention' parameter"),
    ({"attention": "dot"}, WORDS, UPPER, "Use attention='general' or 'additive', or bidirectional=False"),
    ({"attention": None, "attention_size": 3}, WORDS, UPPER, "attention_size=3 is of attention='additive' only"),
    ({"cell": "mlstm"}, WORDS, UPPER, "takes many steps at once"),
    ({"beam_width": 0}, WORDS, UPPER, "'beam_width' parameter"),
    ({"scheduled_sampling": 1.5}, WORDS, UPPER, "'scheduled_sampling' parameter"),
    ({"sampling_schedule": "step"}, WORDS, UPPER, "'sampling_schedule' parameter"),
    ({"length_penalty": -1}, WORDS, UPPER, "'length_penalty' parameter"),
    ({"max_length": 0}, WORDS, UPPER, "'max_length' parameter"),
    ({"max_length": 10**9}, WORDS, UPPER, "'max_length' parameter"),
    ({"inputs": "features"}, WORDS, UPPER, "inputs='features'"),
]


@pytest.mark.parametrize(("settings", "X", "y", "message"), REFUSED)
def test_refuses(settings: dict[str, Any], X: Any, y: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        SequenceTranslator(**{**QUICK, **settings}).fit(X, y)


def test_refuses_after_fit() -> None:
    with pytest.raises(NotFittedError):
        SequenceTranslator().predict(WORDS)
    translator = SequenceTranslator(**QUICK).fit(WORDS, UPPER)
    with pytest.raises(ValueError, match="label 'Z' is unknown"):
        translator.score(["ab"], ["AZ"])
    with pytest.raises(ValueError, match="model reads tokens that are text, got integers"):
        translator.predict([[1, 2]])
    with pytest.raises(ValueError, match="n_best=3 hypotheses need a beam_width"):
        translator.decode(WORDS, beam_width=2, n_best=3)
    for name in ("beam_width", "n_best"):
        with pytest.raises(ValueError, match=f"{name}: expected an int >= 1, got 0"):
            translator.decode(WORDS, **{name: 0})
    numbers = SequenceTranslator(**QUICK).fit(WORDS, [[1, 2]] * 10)
    with pytest.raises(TypeError, match="the model was trained on sequences of tokens"):
        numbers.score(WORDS, UPPER)
    plain = SequenceTranslator(attention=None, **QUICK).fit(WORDS, UPPER)
    with pytest.raises(ValueError, match="this model has attention=None"):
        plain.decode(WORDS, return_attention=True)
    best = translator.decode(["ab"], return_attention=True)[0][0]
    with pytest.raises(ValueError, match="attention: expected"):
        plot_attention("abc", best.output, best.attention)


def test_dates() -> None:
    X, y = datasets.make_dates(3000, random_state=0)
    assert datasets.make_dates(3000, random_state=0) == (X, y)
    assert len(set(y)) > 2500
    assert all(re.fullmatch(r"(19[5-9]\d|20[0-4]\d)-\d\d-\d\d", date) for date in y)
    for text, date in zip(X, y, strict=True):
        year, month, day = date.split("-")
        figures = [int(part) for part in re.findall(r"\d+", text)]
        assert int(day) in figures, text
        assert int(year) in figures or int(year) % 100 in figures, text
        if re.fullmatch(r"\d+/\d+/\d\d\d\d|\d+\.\d+\.\d+", text):
            assert figures[:2] == [int(day), int(month)]
    with pytest.raises(ValueError, match="n_samples must be an int of at least 1, got 0"):
        datasets.make_dates(0)
    assert label_error_rate(y[:2], y[:2]) == 0.0
