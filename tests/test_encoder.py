"""SequenceEncoder: its gradients, features, mixes of layers, pretrained layers, files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import lstmcore
from lstmcore import (
    FrameForecaster,
    ModelFileError,
    SequenceAnomalyDetector,
    SequenceClassifier,
    SequenceEncoder,
    SequenceForecaster,
    SequenceTagger,
    _core,
)
from lstmcore.unsupervised.encoder_model import EncoderModel
from lstmcore.unsupervised.encoder_network import EncoderNetwork
from lstmcore.unsupervised.pieces import cut_steps
from lstmcore.unsupervised.probe import fit_mix

Array = NDArray[Any]

QUICK: dict[str, Any] = {"hidden_size": 5, "max_iter": 3, "random_state": 0, "n_jobs": 1, "precision": "float64"}
RNG = np.random.default_rng(0)
X = [RNG.standard_normal((n, 3)) for n in (6, 3, 1, 8, 4, 5)]
TOKENS = [["a", "b", "c", "a"], ["c", "a"], ["b", "b", "a"], ["c"]]
Y = np.array(["u", "v", "u", "v", "u", "v"])


def config(**changes: Any) -> dict[str, Any]:
    return {
        "cell": "lstm", "cell_options": {}, "inputs": 3, "hidden_size": 4, "num_layers": 2, "bidirectional": False,
        "outputs": 3, "dropout": 0.0, "variational_dropout": 0.0, "recurrent_dropout": 0.0, "vocabulary": None,
        "embedding_size": None, "dtype": "float64", "task": "autoencoder", "separate": False, "layer_mix": "last",
        "pooling": "last", **changes,
    }  # fmt: skip


VOCABULARY = {
    "vocabulary": {"dtype": "<U1", "values": ["a", "b", "c"]}, "embedding_size": 3, "outputs": 4,
}  # fmt: skip
VARIANTS = [
    config(),
    config(bidirectional=True),
    config(task="next_step"),
    config(task="next_step", separate=True),
    config(**VOCABULARY),
    config(task="next_step", separate=True, **VOCABULARY),
]


def random_network(made: dict[str, Any]) -> EncoderNetwork:
    network = EncoderNetwork(made, seed=3)
    rng = np.random.default_rng(0)
    for value in network.parameters.values():
        value[...] = 0.5 * rng.standard_normal(value.shape)
    if made["vocabulary"] is None:
        network.constants["mean"][:] = [0.3, -0.2, 0.1]
        network.constants["scale"][:] = [1.5, 0.7, 1.0]
    return network


def plain_loss(network: EncoderNetwork, items: list[Any], weights: Array) -> float:
    """One sequence and one step at a time."""
    p, c = network.parameters, network.config
    total = share = 0.0
    for item, w in zip(items, weights, strict=True):
        if c["vocabulary"] is None:
            z = (np.asarray(item) - network.constants["mean"]) * network.constants["scale"]
            goal: Any = z
        else:
            goal = np.array([" abc".index(token) for token in item])
            z = p["embedding"][goal]
        T = len(z)
        if c["task"] == "autoencoder":
            _, state = network._layer.forward(z[None])
            h, _ = network._decoder.forward(np.ones((1, T, 1)), state=state)
            pairs = [(h[0, t] @ p["head_W"].T + p["head_b"], goal[T - 1 - t]) for t in range(T)]
        else:
            h, _ = network._layer.forward(z[None])
            pairs = [(h[0, t] @ p["head_W"].T + p["head_b"], goal[t + 1]) for t in range(T - 1)]
            if c["separate"]:
                back, _ = network._second.forward(z[None])
                pairs += [
                    (back[0, t] @ p["head_from_end_W"].T + p["head_from_end_b"], goal[t - 1]) for t in range(1, T)
                ]
        for scores, target in pairs:
            if c["vocabulary"] is None:
                total += w * float(np.mean((scores - target) ** 2))
            else:
                total += w * float(np.log(np.exp(scores).sum()) - scores[target])
            share += w
    return total / share


@pytest.mark.parametrize("made", VARIANTS)
def test_loss_and_gradient(made: dict[str, Any]) -> None:
    network = random_network(made)
    items: list[Any] = X[:4] if made["vocabulary"] is None else TOKENS
    x, weights = network.read(items, "X", "float64"), np.array([1.0, 2.0, 0.5, 1.0])
    total, share, gradients = network.loss_and_gradients(x, None, weights, 0)
    assert total / share == pytest.approx(plain_loss(network, items, weights), rel=1e-11)
    assert set(gradients) == set(network.parameters)
    step = 1e-6
    for name, value in network.parameters.items():
        for at in list(np.ndindex(value.shape))[::7]:
            kept = value[at]
            value[at] = kept + step
            above = network.loss_and_gradients(x, None, weights, 0, training=False)[0]
            value[at] = kept - step
            below = network.loss_and_gradients(x, None, weights, 0, training=False)[0]
            value[at] = kept
            assert gradients[name][at] == pytest.approx((above - below) / (2 * step * share), rel=1e-6, abs=1e-9), name


def test_pieces_of_steps() -> None:
    x = EncoderNetwork(config()).read(X, "X", "float64")
    pieces, owner = cut_steps(x, 3)
    assert owner.tolist() == [0, 0, 1, 2, 3, 3, 3, 4, 4, 5, 5]
    assert pieces.lengths.tolist() == [3, 3, 3, 1, 2, 3, 3, 2, 2, 2, 3]
    np.testing.assert_array_equal(
        np.concatenate([x.values[p : p + n] for p, n in zip(pieces.starts, pieces.lengths, strict=True)]), x.values
    )


@pytest.mark.parametrize("cell", [name for name in lstmcore.cells() if name != "xlstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_features_of_every_layer(cell: str, bidirectional: bool) -> None:
    encoder = SequenceEncoder(
        None, cell=cell, num_layers=2, layer_mix="concat", output="steps", bidirectional=bidirectional, **QUICK
    ).fit(X)
    network: Any = encoder.model_.network
    expected, _ = network._layer.forward([(x - network.constants["mean"]) * network.constants["scale"] for x in X])
    found = encoder.transform(X)
    width = network.features // 2
    for item, steps in zip(found, expected, strict=True):
        np.testing.assert_allclose(item[:, width:], steps, rtol=1e-11, atol=1e-13)
    last = SequenceEncoder(None, cell=cell, num_layers=2, bidirectional=bidirectional, **QUICK).fit(X)
    ends = np.stack([steps[-1] for steps in expected])
    if bidirectional:
        ends[:, width // 2 :] = [steps[0, width // 2 :] for steps in expected]
    np.testing.assert_allclose(last.transform(X), ends, rtol=1e-11, atol=1e-13)


def test_mixes_and_poolings() -> None:
    settings: dict[str, Any] = {"num_layers": 3, **QUICK}
    parts = SequenceEncoder(layer_mix="concat", output="steps", **settings).fit(X).transform(X)
    layers = [np.split(item, 3, axis=1) for item in parts]
    means = SequenceEncoder(layer_mix="mean", pooling="mean", **settings).fit(X).transform(X)
    np.testing.assert_allclose(means, [np.mean([h.mean(axis=0) for h in item], axis=0) for item in layers], rtol=1e-10)
    highest = SequenceEncoder(pooling="max", **settings).fit(X).transform(X)
    np.testing.assert_allclose(highest, [item[2].max(axis=0) for item in layers], rtol=1e-10)
    learned = SequenceEncoder(layer_mix="learned", pooling="mean", **settings).fit(X, Y)
    weights = learned.layer_weights_
    assert weights is not None
    expected = [sum(w * h.mean(axis=0) for w, h in zip(weights, item, strict=True)) for item in layers]
    np.testing.assert_allclose(learned.transform(X), expected, rtol=1e-10)
    assert SequenceEncoder(layer_mix="concat", **settings).fit(X).layer_weights_ is None


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_mix_finds_the_layer_that_knows(kind: str) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((300, 3, 4))
    target: Any = features[:, 1, :1] - 0.5 * features[:, 1, 1:2]
    if kind == "classes":
        target = (target[:, 0] > 0).astype(np.int64)
    mix, gain = fit_mix(features, target, np.ones(300))
    assert mix.sum() == pytest.approx(1.0)
    assert mix[1] > 0.85
    assert gain > 0
    copies = np.array([2, 0, 1] * 100)
    found = fit_mix(features, target, copies.astype(float))
    expected = fit_mix(np.repeat(features, copies, axis=0), np.repeat(target, copies, axis=0), np.ones(300))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-3)
    assert found[1] == pytest.approx(expected[1], rel=1e-2)


@pytest.mark.parametrize("pretraining", ["autoencoder", "next_step"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_learns_and_repeats(pretraining: str, bidirectional: bool) -> None:
    t = np.arange(40)
    waves = [np.sin(t * rate + phase)[: 30 + phase] for rate in (0.3, 0.6) for phase in range(8)]
    settings: dict[str, Any] = {
        **QUICK,
        "hidden_size": 16,
        "max_iter": 25,
        "n_iter_no_change": None,
        "bidirectional": bidirectional,
    }
    encoder = SequenceEncoder(pretraining, bptt_steps=20, **settings).fit(waves, eval_set=waves[:3])
    assert encoder.loss_ < 0.7 * encoder.loss_curve_[0]
    assert len(encoder.validation_loss_curve_) == 25
    assert encoder.validation_scores_[-1] == -encoder.validation_loss_curve_[-1]
    features = encoder.transform(waves)
    two = SequenceEncoder(pretraining, bptt_steps=20, **{**settings, "n_jobs": 2}).fit(waves, eval_set=waves[:3])
    np.testing.assert_array_equal(two.transform(waves), features)
    stopped = SequenceEncoder(pretraining, early_stopping=True, **settings).fit(waves)
    assert stopped.best_validation_score_ == max(stopped.validation_scores_)


def test_tokens() -> None:
    encoder = SequenceEncoder("next_step", output="steps", bidirectional=True, **QUICK).fit(TOKENS)
    found = encoder.transform([["a", "never seen"], ["b"]])
    assert [item.shape for item in found] == [(2, 10), (1, 10)]
    numbers = SequenceEncoder(inputs="tokens", **QUICK).fit([[0, 1, 2], [2, 1]])
    assert numbers.transform([[1, 1], [2, 7]]).shape == (2, 5)
    with pytest.raises(ValueError, match="reads tokens that are text"):
        encoder.transform([[1, 2]])
    with pytest.raises(ValueError, match="X holds text"):
        SequenceEncoder(inputs="features", **QUICK).fit(TOKENS)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("layer_mix", ["last", "concat", "mean"])
def test_step_gives_the_features_of_the_whole(layers: int, layer_mix: str) -> None:
    encoder = SequenceEncoder("next_step", output="steps", num_layers=layers, layer_mix=layer_mix, **QUICK).fit(X)
    both = np.stack([X[0][:5], X[3][:5]])
    expected = encoder.transform(both)
    state = None
    for t in range(5):
        kept = state
        found, state = encoder.step(both[:, t], state)
        np.testing.assert_allclose(found, expected[:, t], rtol=1e-11, atol=1e-14)
    np.testing.assert_array_equal(encoder.step(both[:, 4], kept)[0], found)
    assert encoder.step(both[0, 0])[0].shape == expected.shape[2:]
    with pytest.raises(ValueError, match=r"state: it is of 2 stream\(s\), x has 1"):
        encoder.step(both[0, 0], state)
    with pytest.raises(ValueError, match="bidirectional=False"):
        SequenceEncoder(bidirectional=True, **QUICK).fit(X).step(both[0, 0])


@pytest.mark.parametrize("cell", [*(cell for cell in lstmcore.cells() if cell != "xlstm"), "lstm-projected"])
def test_step_mixes_the_layers_of_every_cell(cell: str) -> None:
    """step takes each layer's output from the state h, transform from layers on their own."""
    options = {"proj_size": 3} if cell == "lstm-projected" else None
    settings = QUICK | {"cell": cell.split("-")[0], "cell_options": options, "hidden_size": 4, "max_iter": 1}
    encoder = SequenceEncoder("next_step", output="steps", num_layers=3, layer_mix="concat", **settings).fit(X)
    expected, state = encoder.transform([X[0]])[0], None
    for t, x in enumerate(X[0]):
        found, state = encoder.step(x, state)
        np.testing.assert_allclose(found, expected[t], rtol=1e-10, atol=1e-13)


def test_pretrained_classifier_and_tagger() -> None:
    classifier = SequenceClassifier(num_layers=2, bidirectional=True, **QUICK).fit(X, Y)
    encoder = SequenceEncoder(pretrained=classifier).fit(X)
    features = encoder.transform(X)
    parameters = classifier.model_.parameters
    scores = features @ parameters["head_W"].T + parameters["head_b"]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), classifier.predict_proba(X), rtol=1e-10)

    labels = [["x" if token == "a" else "y" for token in item] for item in TOKENS]
    tagger = SequenceTagger(**QUICK).fit(TOKENS, labels)
    steps = SequenceEncoder(pretrained=tagger, output="steps").fit(TOKENS).transform(TOKENS)
    parameters = tagger.model_.parameters
    scores = steps[0] @ parameters["head_W"].T + parameters["head_b"]
    odds = np.exp(scores)
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), tagger.predict_proba(TOKENS)[0], rtol=1e-10)

    for other in (
        SequenceEncoder("next_step", bidirectional=True, **QUICK).fit(X),
        SequenceAnomalyDetector(**QUICK).fit(X),
    ):
        again = SequenceEncoder(pretrained=other, output="steps").fit(X).transform(X)
        network: Any = other.model_.network
        inputs = [(x - network.constants["mean"]) * network.constants["scale"] for x in X]
        np.testing.assert_allclose(again[3][:, :5], network._layer.forward(inputs)[0][3], rtol=1e-11)


@pytest.mark.skipif("LanguageModel" not in lstmcore.__all__, reason="there is no LanguageModel yet")
@pytest.mark.parametrize("unit", ["character", "token"])
def test_pretrained_language_model(unit: str) -> None:
    text = "the cat sat on the mat . the dog sat on the log . " * 5
    sequences = [list("the cat"), list("a dogz")] if unit == "character" else [["the", "cat"], ["zebra"]]
    model = lstmcore.LanguageModel(unit=unit, num_layers=2, **QUICK).fit(text)
    found = SequenceEncoder(pretrained=model, output="steps").fit(sequences).transform(sequences)
    network: Any = model.model_.network
    for tokens, features in zip(sequences, found, strict=True):
        codes = np.array([network.vocabulary.code(token) for token in tokens], dtype=np.int32)
        expected, _, _ = network.layer_outputs(codes, np.array([len(codes)]), None, False)
        np.testing.assert_allclose(features, expected, rtol=1e-11)


def test_pretrained_language_model_reads_text(tmp_path: Path) -> None:
    texts = ["the cat", "a dogz"]
    model = lstmcore.LanguageModel(num_layers=2, **QUICK).fit("the cat sat on the mat . the dog sat on the log . " * 5)
    encoder = SequenceEncoder(pretrained=model, layer_mix="concat").fit(texts)
    expected = encoder.transform([list(text) for text in texts])
    for same in (texts, tuple(texts), np.array(texts), np.array(texts, dtype=object)):
        np.testing.assert_array_equal(encoder.transform(same), expected)
    encoder.save(tmp_path / "e.safetensors")
    np.testing.assert_array_equal(lstmcore.load(tmp_path / "e.safetensors").transform(texts), expected)
    np.testing.assert_array_equal(lstmcore.load_model(tmp_path / "e.safetensors").encode(texts), expected)
    for bad, message in (("the cat", "X is one text. Expected a sequence"), (["a", ""], r"X\[1\] is empty")):
        with pytest.raises((TypeError, ValueError), match=message):
            encoder.transform(bad)
    words = SequenceEncoder(**QUICK).fit([["the", "cat"], ["a", "dog"]])
    with pytest.raises(TypeError, match=r"X\[0\] is one text, 'the cat'.*split"):
        words.transform(texts)


def test_pretrained_in_scikit_learn_and_in_files(tmp_path: Path) -> None:
    source = SequenceEncoder("next_step", **QUICK).fit(X)
    encoder = SequenceEncoder(pretrained=source)
    copied = clone(encoder)
    assert copied.pretrained is source
    assert copied is not encoder
    model = make_pipeline(encoder, LogisticRegression(max_iter=1000))
    search = GridSearchCV(model, {"sequenceencoder__pooling": ["last", "mean"]}, cv=3).fit(X, Y)
    assert search.predict(X).shape == (6,)
    encoder.fit(X).save(tmp_path / "e.safetensors")
    loaded = lstmcore.load(tmp_path / "e.safetensors")
    assert loaded.pretrained is None
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))


def test_in_a_pipeline() -> None:
    t = np.arange(20)
    waves = [np.sin(t * rate + phase) for rate in (0.3, 0.6) for phase in range(20)]
    y = np.repeat([0, 1], 20)
    encoder = SequenceEncoder(layer_mix="learned", num_layers=2, **{**QUICK, "max_iter": 10, "hidden_size": 12})
    model = make_pipeline(encoder, LogisticRegression(C=100.0, max_iter=5000)).fit(waves, y)
    assert model.score(waves, y) > 0.9
    pandas = pytest.importorskip("pandas")
    frame = encoder.set_output(transform="pandas").transform(waves)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == [f"sequenceencoder{k}" for k in range(12)]


def test_warm_start_and_partial_fit() -> None:
    encoder = SequenceEncoder(warm_start=True, **QUICK).fit(X)
    assert encoder.fit(X).n_iter_ == 6
    with pytest.raises(ValueError, match="pooling='max', but the model to go on with has 'last'"):
        encoder.set_params(pooling="max").fit(X)
    fresh = SequenceEncoder(**QUICK).partial_fit(X)
    assert fresh.partial_fit(X).n_iter_ == 2
    with pytest.raises(ValueError, match="nothing is trained"):
        SequenceEncoder(None, **QUICK).partial_fit(X)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pretraining": "next_step", "bidirectional": True, "layer_mix": "learned", "num_layers": 2},
        {"pretraining": None},
    ],
)
def test_file(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    encoder = SequenceEncoder(**settings, **QUICK).fit(X, Y)
    encoder.save(path)
    loaded = lstmcore.load(path)
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))
    assert loaded.get_params() == encoder.get_params()
    assert loaded.get_feature_names_out().tolist() == encoder.get_feature_names_out().tolist()
    model = lstmcore.load_model(path)
    assert isinstance(model, EncoderModel)
    np.testing.assert_array_equal(model.encode(X), encoder.transform(X))
    tokens = SequenceEncoder(**QUICK).fit(TOKENS)
    tokens.save(path)
    np.testing.assert_array_equal(lstmcore.load(path).transform(TOKENS), tokens.transform(TOKENS))


@pytest.mark.parametrize(("pooling", "bidirectional"), [("last", True), ("mean", False)])
def test_quantize(pooling: str, bidirectional: bool) -> None:
    encoder = SequenceEncoder(pooling=pooling, bidirectional=bidirectional, num_layers=2, **QUICK).fit(X)
    exact = encoder.quantize(scheme="float32")
    np.testing.assert_allclose(exact.predict(X), encoder.transform(X), atol=1e-5)
    np.testing.assert_allclose(encoder.quantize(X).predict(X), encoder.transform(X), atol=0.05)
    steps = encoder.set_params(output="steps").quantize(scheme="float32").outputs(X)
    for found, expected in zip(steps, encoder.transform(X), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_quantize_refuses() -> None:
    with pytest.raises(ValueError, match="tokens"):
        SequenceEncoder(**QUICK).fit(TOKENS).quantize()
    with pytest.raises(ValueError, match="layer_mix='last'"):
        SequenceEncoder(layer_mix="concat", num_layers=2, **QUICK).fit(X).quantize(X)
    with pytest.raises(ValueError, match="two separate stacks"):
        SequenceEncoder("next_step", bidirectional=True, **QUICK).fit(X).quantize(X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, f: c.update(task="all"), "task"),
        (lambda c, f: c.update(outputs=2), "outputs"),
        (lambda c, f: c.update(separate=1), "separate"),
        (lambda c, f: c.update(separate=True, bidirectional=True), "separate"),
        (lambda c, f: c.update(task="next_step", bidirectional=True), "bidirectional"),
        (lambda c, f: c.update(layer_mix=None), "layer_mix"),
        (lambda c, f: c.update(pooling="attention"), "pooling"),
        (lambda c, f: c.update(num_layers=10**9), "num_layers"),
        (lambda c, f: c.pop("task"), "config"),
        (lambda c, f: c.update(layer_mix="mean"), "layer_mix"),
        (lambda c, f: f["fitted"].update(table=None), "table"),
        (lambda c, f: f["parameters"].update(pretrained="x"), "pretrained"),
        (lambda c, f: f["parameters"].update(pretraining="x"), "pretraining"),
    ],
)
def test_hostile_file(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    SequenceEncoder(**QUICK).fit(X).save(path)
    tensors, texts = _core.read_tensors(str(path))
    documents = {name: json.loads(texts[name]) for name in ("network", "estimator")}
    change(documents["network"]["config"], documents["estimator"])
    _core.write_tensors(str(path), tensors, {**texts, **{k: json.dumps(v) for k, v in documents.items()}})
    with pytest.raises(ModelFileError, match=message):
        lstmcore.load(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "X is empty"),
        (None, "X: expected sequences"),
        ("text", "X: expected sequences|X is one text"),
        (["one text", "another"], "one text"),
        ([[1.0, np.nan, 2.0], [1.0]], "X: sequence 0, step 1"),
        ([["a", 1.0]], "expected text"),
    ],
)
def test_refuses_data(data: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        SequenceEncoder(**QUICK).fit(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pretraining", "bert"), ("pretraining", 1), ("pretrained", "model.safetensors"), ("output", "both"),
        ("pooling", "attention"), ("layer_mix", "first"), ("inputs", "words"), ("class_weight", "balanced"),
        ("embedding_size", 0), ("bptt_steps", 0),
    ],
)  # fmt: skip
def test_refuses_parameters(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        SequenceEncoder(**{**QUICK, name: value}).fit(X)


def test_other_refusals() -> None:
    encoder = SequenceEncoder(**QUICK)
    with pytest.raises(NotFittedError):
        encoder.transform(X)
    with pytest.raises(ValueError, match="layer_mix='learned' needs y"):
        SequenceEncoder(layer_mix="learned", **QUICK).fit(X)
    with pytest.raises(ValueError, match="only one label"):
        SequenceEncoder(layer_mix="learned", **QUICK).fit(X, ["u"] * 6)
    with pytest.raises(ValueError, match="y has 2 entries, but X has 6"):
        SequenceEncoder(layer_mix="learned", **QUICK).fit(X, ["u", "v"])
    with pytest.raises(ValueError, match="every sequence has 1 step"):
        SequenceEncoder("next_step", **QUICK).fit([[1.0], [2.0]])
    with pytest.raises(ValueError, match="bptt_steps=1"):
        SequenceEncoder("next_step", bptt_steps=1, **QUICK).fit(X)
    with pytest.raises(ValueError, match="xlstm"):
        SequenceEncoder(cell="xlstm", num_layers=2, layer_mix="mean", **QUICK).fit(X)
    with pytest.warns(UserWarning, match="no effect with num_layers=1"):
        SequenceEncoder(dropout=0.5, **QUICK).fit(X)
    with pytest.raises(ValueError, match="is not fitted"):
        SequenceEncoder(pretrained=SequenceClassifier()).fit(X)
    with pytest.raises(TypeError, match="LogisticRegression"):
        SequenceEncoder(pretrained=LogisticRegression()).fit(X)
    series = SequenceForecaster(window=4, max_iter=1, random_state=0).fit(np.arange(20.0))
    frames = FrameForecaster(hidden_channels=2, horizon=1, max_iter=1).fit(np.zeros((2, 3, 4, 4)))
    for estimator in (series, frames):
        with pytest.raises(ValueError, match="no recurrent layers that read sequences"):
            SequenceEncoder(pretrained=estimator).fit(X)
    dropped = SequenceClassifier(zoneout_hidden=0.1, **QUICK).fit(X, Y)
    with pytest.raises(ValueError, match="zoneout_hidden"):
        SequenceEncoder(pretrained=dropped).fit(X)
    with pytest.raises(ValueError, match="gives no table"):
        SequenceEncoder(output="steps").set_output(transform="pandas")
    encoder.fit(X)
    with pytest.raises(ValueError, match="2 features, but SequenceEncoder is expecting 3"):
        encoder.transform([np.zeros((4, 2))])
