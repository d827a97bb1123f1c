"""LanguageModel: what it learns, its measures, the texts that it makes up, vocabularies, ways of training."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from language_texts import FOX, NAMES, QUICK
from lstmcore import LanguageModel

Array = NDArray[Any]


# --- learning --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fox() -> LanguageModel:
    model = LanguageModel(hidden_size=32, bptt_steps=20, batch_size=4, max_iter=40, random_state=0, n_jobs=1)
    return model.fit(FOX * 40)


def test_learns_a_sentence(fox: LanguageModel) -> None:
    assert fox.loss_ == fox.loss_curve_[-1] < 0.1
    assert fox.n_iter_ == 40
    assert fox.perplexity(FOX * 5) < 1.3
    assert fox.generate("the quick ", 30, temperature=0) == "brown fox jumps over the lazy "
    assert fox.predict(["the quic", "the laz"]).tolist() == ["k", "y"]


def test_measures_agree(fox: LanguageModel) -> None:
    texts = [FOX, "the dog", "fox"]
    samples = fox.score_samples(texts)
    symbols = sum(map(len, texts)) + len(texts)
    assert fox.score(texts) == pytest.approx(samples.sum() / symbols, rel=1e-12)
    assert fox.perplexity(texts) == pytest.approx(np.exp(-fox.score(texts)), rel=1e-12)
    assert fox.bits_per_character(texts) == pytest.approx(-samples.sum() / np.log(2) / sum(map(len, texts)), rel=1e-12)
    codes = {label: k for k, label in enumerate(fox.classes_)}
    for text, expected in zip(texts, samples, strict=True):
        p = fox.predict_proba([text[:n] for n in range(len(text) + 1)])
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-5)
        following = [codes[c] for c in text] + [codes["<eod>"]]
        assert np.log(p[np.arange(len(p)), following]).sum() == pytest.approx(expected, rel=1e-4)
        state = None
        for symbol, row in zip(["<eod>", *text], p, strict=True):
            found, state = fox.step(symbol, state)
            np.testing.assert_allclose(found, row, rtol=1e-4, atol=1e-6)


def test_steps_of_several_streams(fox: LanguageModel) -> None:
    one, state = fox.step(["t", "q"])
    both, _ = fox.step(["h", "u"], state)
    assert both.shape == (2, len(fox.classes_))
    _, alone = fox.step("q")
    np.testing.assert_allclose(fox.step("u", alone)[0], both[1], rtol=1e-5, atol=1e-7)
    assert one.shape == both.shape


def test_generated_texts(fox: LanguageModel) -> None:
    several = fox.generate("the ", 30, n_texts=5, temperature=1.5, random_state=1)
    assert len(several) == 5
    assert len(set(several)) > 1
    assert several == fox.generate("the ", 30, n_texts=5, temperature=1.5, random_state=1)
    assert several == fox.generate(["the "] * 5, 30, temperature=1.5, random_state=1)
    assert fox.generate("the quick ", 100, stop="fox", temperature=0) == "brown fox"
    assert fox.generate("the quick ", 100, stop=["over", "jumps"], temperature=0) == "brown fox jumps"
    different = fox.generate(["the quick ", "", "the lazy "], 5, temperature=0)
    assert different[0] == "brown"
    assert different[2] == "dog. "
    assert len(different) == 3
    assert fox.generate("the", 0) == ""
    text = fox.generate("", 300, temperature=3.0, end=False, random_state=0)
    assert len(text) == 300
    assert set(text) <= set(FOX)
    assert fox.model_.generate("the quick ", 5, temperature=0) == "brown"


def test_documents_end() -> None:
    model = LanguageModel(**{**QUICK, "hidden_size": 32, "max_iter": 150, "learning_rate_init": 0.01}).fit(NAMES)
    texts = model.generate(n_texts=60, random_state=0)
    assert np.mean([text in NAMES for text in texts]) > 0.8
    assert set(model.generate(["ad", "fr"], temperature=0)) == {"a", "ida"}
    scores = model.score_samples(["ada", "adx", "zzz"])
    assert scores[0] > scores[1] > scores[2]


def test_tokens() -> None:
    texts = ["a b c d . ", "d c b a . "] * 30
    settings = {**QUICK, "unit": "token", "hidden_size": 24, "max_iter": 60, "learning_rate_init": 0.01}
    model = LanguageModel(**settings).fit(texts)
    assert model.generate("a b", temperature=0) == ["c", "d", "."]
    assert model.generate(["d", "c"], temperature=0) == ["b", "a", "."]
    assert model.generate([["d", "c"], ["a"]], 1, temperature=0) == [["b"], ["b"]]
    assert model.predict(["a b c", "d c b"]).shape == (1,)  # a list of str is one list of tokens
    assert model.predict([["a", "b"], ["d", "c"]]).tolist() == ["c", "b"]
    same = LanguageModel(**settings).fit([text.split() for text in texts])
    assert np.array_equal(same.model_.core.get_weights(), model.model_.core.get_weights())
    assert model.bits_per_character(texts) == pytest.approx(
        -model.score_samples(texts).sum() / np.log(2) / sum(map(len, texts)), rel=1e-12
    )
    with pytest.raises(ValueError, match="no characters"):
        model.bits_per_character([["a", "b"]])
    spaces = LanguageModel(**{**settings, "max_iter": 1}, tokenizer=str.split).fit("a.b c.d " * 9)
    assert "a.b" in spaces.classes_
    expression = LanguageModel(**{**settings, "max_iter": 1}, tokenizer=r"\S+").fit("a.b c.d " * 9)
    assert expression.classes_.tolist() == spaces.classes_.tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"tie_weights": True},
        {"tie_weights": True, "embedding_size": 5},
        {"softmax": "adaptive"},
        {"softmax": "adaptive", "cutoffs": [4, 9]},
        {"softmax": "sampled", "n_samples": 8},
        {"cell": "gru", "num_layers": 2, "dropout": 0.1},
        {"cell": "xlstm"},
        {"cell": "mlstm"},
        {"variational_dropout": 0.1},
        {"recurrent_dropout": 0.1},
        {"documents": "joined"},
        {"precision": "float64", "solver": "rmsprop", "learning_rate": "cosine"},
        {"cell_options": {"proj_size": 8}, "tie_weights": True, "embedding_size": None},
    ],
    ids=str,
)
def test_options_learn(options: dict[str, Any]) -> None:
    settings = {**QUICK, "hidden_size": 24, "bptt_steps": 16, "max_iter": 12, "learning_rate_init": 0.01, **options}
    text = [FOX] * 40 if options.get("documents") == "joined" else FOX * 40
    model = LanguageModel(**settings).fit(text)
    assert model.loss_ < 0.5 * model.loss_curve_[0]
    assert model.score(FOX) > -2.0
    assert isinstance(model.generate("the", 10, random_state=0), str)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(["the"]), model.predict_proba(["the"]))


def test_results_do_not_depend_on_threads() -> None:
    settings = {**QUICK, "hidden_size": 64, "bptt_steps": 32, "batch_size": 16, "max_iter": 1}
    for options in ({}, {"softmax": "adaptive"}, {"softmax": "sampled", "n_samples": 9}, {"dropout": 0.2}):
        one = LanguageModel(**{**settings, **options}).fit(FOX * 60)
        two = LanguageModel(**{**settings, **options, "n_jobs": 2}).fit(FOX * 60)
        assert np.array_equal(one.model_.core.get_weights(), two.model_.core.get_weights()), options


def test_random_state_decides() -> None:
    weights = [LanguageModel(**{**QUICK, "random_state": k}).fit(NAMES).model_.core.get_weights() for k in (1, 1, 2)]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_shuffle_changes_the_order_of_documents() -> None:
    ordered = LanguageModel(**QUICK, shuffle=False).fit(NAMES).model_.core.get_weights()
    assert not np.array_equal(ordered, LanguageModel(**QUICK).fit(NAMES).model_.core.get_weights())


# --- vocabularies ----------------------------------------------------------------------------------------------------


def test_vocabulary() -> None:
    texts = ["aaaa bbb cc d"] * 3
    model = LanguageModel(**QUICK).fit(texts)
    assert model.classes_.tolist() == ["<eod>", "<unk>", "a", " ", "b", "c", "d"]
    assert model.n_features_in_ == 1
    rare = LanguageModel(**QUICK, min_frequency=6).fit(texts)
    assert rare.classes_.tolist() == ["<eod>", "<unk>", "a", " ", "b", "c"]
    few = LanguageModel(**QUICK, max_vocabulary=2).fit(texts)
    assert few.classes_.tolist() == ["<eod>", "<unk>", "a", " "]
    assert "<unk>" not in few.generate("a", 50, n_texts=20)
    assert few.score(["ddd"]) == few.score(["xyz"])
    given = LanguageModel(**QUICK, vocabulary=["z", "a"]).fit(texts)
    assert given.classes_.tolist() == ["<eod>", "<unk>", "a", "z"]
    words = LanguageModel(**QUICK, unit="token").fit([["<unk>", "b", "<unk>", "b", "<unk>"]] * 4)
    assert words.classes_.tolist() == ["<eod>", "<unk>", "b"]


def test_characters_of_all_kinds() -> None:
    text = "naïve ☃ \U0001f600 \x00\n\t" * 20
    model = LanguageModel(**QUICK).fit(text)
    assert set(model.classes_[2:]) == set(text)
    assert set(model.generate("☃", 200, end=False, random_state=0)) <= set(text)


# --- early stopping, warm start, partial_fit -------------------------------------------------------------------------


@pytest.mark.parametrize("X", [FOX * 20, NAMES], ids=["one", "several"])
def test_early_stopping(X: Any) -> None:
    model = LanguageModel(**{**QUICK, "max_iter": 6}, early_stopping=True, validation_fraction=0.2).fit(X)
    assert model.validation_loss_curve_ is not None
    assert model.validation_scores_ is not None
    assert len(model.validation_loss_curve_) == model.n_iter_
    assert model.validation_scores_ == [-loss for loss in model.validation_loss_curve_]
    assert model.best_loss_ == min(model.validation_loss_curve_)


def test_eval_set() -> None:
    seen: list[Any] = []
    model = LanguageModel(**QUICK).fit(NAMES, eval_set=["ada", "bob"], callbacks=seen.append)
    assert [info.validation_loss for info in seen] == model.validation_loss_curve_
    # In one lane each document is read from its beginning, as for score.
    alone = LanguageModel(**{**QUICK, "batch_size": 1}).fit(NAMES, eval_set=["ada", "bob"])
    assert alone.validation_loss_curve_ is not None
    assert alone.validation_loss_curve_[-1] == pytest.approx(-alone.score(["ada", "bob"]), rel=1e-5)


def test_warm_start_and_partial_fit() -> None:
    model = LanguageModel(**QUICK, warm_start=True).fit(NAMES)
    loss = model.loss_
    model.fit(NAMES)
    assert model.n_iter_ == 6
    assert model.loss_ < loss
    with pytest.raises(ValueError, match="hidden_size=99"):
        model.set_params(hidden_size=99).fit(NAMES)
    stream = LanguageModel(**QUICK)
    for _ in range(5):
        stream.partial_fit(NAMES)
    assert stream.n_iter_ == 5
    assert stream.loss_curve_[-1] < stream.loss_curve_[0]
    stream.partial_fit(["new €"])  # new symbols are unknown
    assert "€" not in stream.classes_
    with pytest.raises(ValueError, match="early_stopping"):
        LanguageModel(**QUICK, early_stopping=True).partial_fit(NAMES)
