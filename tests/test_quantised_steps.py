"""Taggers and transcribers in integers: the device's sums against the float network, files, refusals."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
import lstmcore
from lstmcore import ModelFileError, QuantizedModel, SequenceTagger, SequenceTranscriber, _core
from test_edge_export import build_and_run

LABELS = np.array(["low", "middle", "high"])
QUICK: dict[str, Any] = {"hidden_size": 12, "max_iter": 10, "learning_rate_init": 0.02, "random_state": 0, "n_jobs": 1}


def make_tagged(count: int = 100, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Features of very different size; the label of a step depends on the steps before it."""
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(length, 3)) * [1.0, 5.0, 100.0] + 7.0 for length in rng.integers(4, 16, count)]
    return X, [LABELS[np.digitize(np.cumsum(x[:, 0] - 7.0), [-1.0, 1.0])] for x in X]


def make_spelled(count: int = 80, seed: int = 0) -> tuple[list[np.ndarray], list[list[str]]]:
    """Noisy marks of two steps each, and a step between."""
    rng = np.random.default_rng(seed)
    y = [rng.integers(3, size=rng.integers(1, 5)) for _ in range(count)]
    X = [np.eye(4)[[step for label in labels for step in (label, label, 3)]] for labels in y]
    return [x + rng.normal(0, 0.2, x.shape) for x in X], [LABELS[labels].tolist() for labels in y]


@pytest.fixture(scope="module", params=[False, True], ids=["one direction", "both directions"])
def tagger(request: pytest.FixtureRequest) -> SequenceTagger:
    return SequenceTagger(bidirectional=request.param, **QUICK).fit(*make_tagged())


@pytest.fixture(scope="module")
def transcriber() -> SequenceTranscriber:
    return SequenceTranscriber(**{**QUICK, "max_iter": 40}).fit(*make_spelled())


@pytest.mark.parametrize(("scheme", "worst"), [("float32", 1e-6), ("int8x16", 0.006), ("int8", 0.008)])
def test_a_tagger_keeps_its_probabilities(tagger: SequenceTagger, scheme: str, worst: float) -> None:
    X, y = make_tagged(seed=1)
    quantised = tagger.quantize(make_tagged()[0], scheme)
    assert isinstance(quantised, QuantizedModel)
    expected, found = tagger.predict_proba(X), quantised.predict_proba(X)
    errors = np.concatenate([a - b for a, b in zip(expected, found, strict=True)])
    assert 0.0 < np.sqrt(np.mean(np.square(errors))) < worst
    if scheme != "int8":
        assert abs(quantised.score(X, y) - tagger.score(X, y)) < 0.005
    assert abs(quantised.score(X, y) - tagger.score(X, y)) < 0.02
    labels = quantised.predict(X)
    assert labels.dtype == object
    assert [len(item) for item in labels] == [len(x) for x in X]
    right = np.concatenate([a == b for a, b in zip(labels, y, strict=True)])
    assert quantised.score(X, y) == pytest.approx(right.mean(), abs=1e-12)


def test_forms_of_a_tagger(tagger: SequenceTagger) -> None:
    quantised = tagger.quantize(make_tagged()[0])
    X = np.array([x[:4] for x in make_tagged(seed=2)[0]])
    assert quantised.predict(X).shape == tagger.predict(X).shape == (100, 4)
    assert quantised.predict_proba(X).shape == tagger.predict_proba(X).shape == (100, 4, 3)
    padded = X.copy()
    padded[0, 2:] = np.nan
    assert quantised.predict(padded)[0].tolist() == quantised.predict(X[:1, :2])[0].tolist()
    again = pickle.loads(pickle.dumps(quantised))
    np.testing.assert_array_equal(again.predict(X), quantised.predict(X))
    weights = np.zeros(100)
    weights[3] = 1.0
    y = tagger.predict(X)
    assert quantised.score(X, y, weights) == np.mean(quantised.predict(X)[3] == y[3])


def test_a_report_and_its_scores(tagger: SequenceTagger) -> None:
    X, y = make_tagged()
    report = tagger.quantize(X, y=y).report_
    quantised = tagger.quantize(X)
    agreement = np.concatenate([a == b for a, b in zip(quantised.predict(X), tagger.predict(X), strict=True)]).mean()
    assert report.agreement == pytest.approx(agreement, abs=1e-12)
    assert report.float_score == pytest.approx(tagger.score(X, y))
    assert report.score == pytest.approx(quantised.score(X, y))
    assert np.isnan(quantised.report_.score)


def test_streams() -> None:
    X, y = make_tagged()
    tagger = SequenceTagger("gru", **QUICK).fit(X, y)
    quantised = tagger.quantize(X)
    state, found = None, []
    for x in X[0]:
        probabilities, state = quantised.step(x, state)
        found.append(probabilities)
    np.testing.assert_array_equal(np.array(found), quantised.predict_proba(X[:1])[0])
    with pytest.raises(ValueError, match="bidirectional"):
        SequenceTagger(bidirectional=True, **QUICK).fit(X, y).quantize(X).step(X[0][0])


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_a_transcriber_reads_the_same(transcriber: SequenceTranscriber, decoder: str, tmp_path: Path) -> None:
    transcriber.set_params(decoder=decoder, beam_width=4)
    X, y = make_spelled(seed=1)
    quantised = transcriber.quantize(make_spelled()[0], y=make_spelled()[1])
    assert quantised.report_.score == pytest.approx(quantised.score(*make_spelled()))
    assert transcriber.score(X, y) > 0.9
    assert abs(quantised.score(X, y) - transcriber.score(X, y)) < 0.02
    exact = transcriber.quantize(scheme="float32")
    assert [item.tolist() for item in exact.predict(X)] == [item.tolist() for item in transcriber.predict(X)]
    assert exact.score(X, y) == pytest.approx(transcriber.score(X, y), abs=1e-12)
    for a, b in zip(exact.predict_proba(X), transcriber.predict_proba(X), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    probabilities, _ = exact.step(X[0][0])
    np.testing.assert_allclose(probabilities, transcriber.step(X[0][0])[0], atol=1e-5)
    quantised.save(tmp_path / "q.safetensors")
    loaded = lstmcore.load(tmp_path / "q.safetensors")
    assert (type(loaded), loaded.beam_width) == (type(quantised), 4 if decoder == "beam" else 0)
    assert [item.tolist() for item in loaded.predict(X)] == [item.tolist() for item in quantised.predict(X)]


def test_files(tagger: SequenceTagger, tmp_path: Path) -> None:
    X, _ = make_tagged(seed=1)
    saved = tagger.quantize(X)
    saved.save(tmp_path / "q.safetensors")
    for load in (lstmcore.load, lstmcore.load_model, QuantizedModel.load):
        loaded = load(tmp_path / "q.safetensors")
        assert (type(loaded), repr(loaded), str(loaded.report_)) == (type(saved), repr(saved), str(saved.report_))
        for a, b in zip(loaded.predict_proba(X), saved.predict_proba(X), strict=True):
            np.testing.assert_array_equal(a, b)


HOSTILE: dict[str, Any] = {
    "kind": "forecaster of the weather",
    "kind ": ["tagger"],
    "kind of one with more": "transcriber",
    "classes": {"dtype": "str", "values": ["a", "b"]},
    "classes ": None,
    "single": True,
    "more": 1,
    "beam_width": 3,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files(what: str, tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    SequenceTagger(**{**QUICK, "max_iter": 1}).fit(*make_tagged(20)).quantize(scheme="float32").save(path)
    tensors, texts = _core.read_tensors(path)
    document = json.loads(texts["quantized"])
    document[what.strip().removesuffix(" of one with more")] = HOSTILE[what]
    _core.write_tensors(path, tensors, {**texts, "quantized": json.dumps(document)})
    with pytest.raises(ModelFileError):
        lstmcore.load(path)


@pytest.mark.parametrize("width", [-1, 1.5, True, None, "3"])
def test_hostile_beam_width(width: Any, transcriber: SequenceTranscriber, tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    transcriber.quantize(scheme="float32").save(path)
    tensors, texts = _core.read_tensors(path)
    document = {**json.loads(texts["quantized"]), "beam_width": width}
    _core.write_tensors(path, tensors, {**texts, "quantized": json.dumps(document)})
    with pytest.raises(ModelFileError, match="beam_width"):
        lstmcore.load(path)


def test_c(transcriber: SequenceTranscriber, tmp_path: Path) -> None:
    """The exported program reproduces the outputs recorded at export, and names the labels."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    for name, model in (("tags", SequenceTagger(**QUICK).fit(*make_tagged())), ("marks", transcriber)):
        X = make_tagged()[0] if name == "tags" else make_spelled()[0]
        quantised = model.quantize(X)
        quantised.export_c(tmp_path / name, name, example=X[0])
        build_and_run(tmp_path / name, "gcc", "-std=c99", "-O1")
        text = (tmp_path / name / f"{name}.c").read_text()
        assert all(f'"{label}"' in text for label in LABELS)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "crf": ({"crf": True}, "crf=True does not run on the edge runtime.*crf=False"),
    "cell": ({"cell": "min_gru"}, "cell='min_gru' does not run.*Train one of"),
    "layer norm": ({"cell_options": {"layer_norm": True}}, "layer_norm=True does not run"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_networks(what: str) -> None:
    options, message = REFUSED[what]
    X, y = make_tagged(20)
    tagger = SequenceTagger(**{**QUICK, "max_iter": 1, **options}).fit(X, y)
    with pytest.raises(ValueError, match=message):
        tagger.quantize(X)


def test_refused_tokens() -> None:
    X, y = [["a", "b"], ["b"]] * 5, [["x", "y"], ["y"]] * 5
    with pytest.raises(ValueError, match=r"tokens does not run on the edge runtime.*inputs='features'"):
        SequenceTagger(**{**QUICK, "max_iter": 1}).fit(X, y).quantize(X)


def test_refused_arguments(tagger: SequenceTagger) -> None:
    X, y = make_tagged(20)
    quantised = tagger.quantize(X)
    for call, message in (
        (lambda: tagger.quantize(), "needs X_calibration"),
        (lambda: tagger.quantize(X, "int7"), "scheme='int7'"),
        (lambda: tagger.quantize(X, weights="int5"), "weights='int5'"),
        (lambda: tagger.quantize(X, weights="sparse"), "4×4 blocks are zero"),
        (lambda: tagger.quantize(scheme="float32", y=y), "y was given without X_calibration"),
        (lambda: tagger.quantize([x[:, :2] for x in X]), "2 features"),
        (lambda: tagger.quantize(X, y=y[:3]), "y has 3"),
        (lambda: quantised.predict([x[:, :2] for x in X]), "2 features"),
        (lambda: quantised.score(X, y[:3]), "y has 3"),
        (lambda: quantised.score(X, [labels[:1] for labels in y]), r"y\[0\] has 1 labels, but X\[0\] has"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="not fitted"):
        SequenceTagger().quantize(X)
