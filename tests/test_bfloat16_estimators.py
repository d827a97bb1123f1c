"""Estimators and model files with `precision="bfloat16"`."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
import model_bytes
from checking import assert_bitwise
from lstmcore import ModelFileError, SequenceClassifier, SequenceForecaster, SequenceRegressor
from lstmcore._core import Model
from sequences import FAST, last_value, ragged, three_classes, two_classes

X = ragged(60)
SETTINGS: dict[str, Any] = {**FAST, "precision": "bfloat16"}


def rounds(classifier: Any) -> bool:
    """Whether a fitted estimator's network has products in bf16."""
    config = classifier.model_.config
    return config.get("recurrent", config).get("precision") == "bfloat16"


# --- whole networks in C++ --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru", "slstm", "min_lstm"])
def test_classifier_learns_as_in_float32(cell: str) -> None:
    y = three_classes(X)
    exact = SequenceClassifier(cell, **FAST).fit(X, y)
    rounded = SequenceClassifier(cell, **SETTINGS).fit(X, y)
    assert rounds(rounded)
    assert not rounds(exact)
    assert rounded.score(X, y) >= exact.score(X, y) - 0.05
    difference = np.abs(rounded.predict_proba(X) - exact.predict_proba(X)).max()
    assert 1e-5 < difference < 0.3
    assert rounded.predict_proba(X).dtype == np.float32
    # The weights are float32, and it is they that are trained.
    W = rounded.model_.parameters["W_l0"]
    assert W.dtype == np.float32
    assert (W.view(np.uint32) & 0xFFFF).any()


def test_predictions_do_not_depend_on_threads() -> None:
    y = two_classes(X)
    one, three = (SequenceClassifier(**{**SETTINGS, "n_jobs": n}).fit(X, y) for n in (1, 3))
    assert_bitwise(three.model_.core.get_weights(), one.model_.core.get_weights(), "weights")
    assert_bitwise(three.predict_proba(X), one.predict_proba(X), "probabilities")


def test_steps_are_predictions() -> None:
    classifier = SequenceClassifier(**SETTINGS).fit(X, two_classes(X))
    state = None
    for x in X[0]:
        out, state = classifier.step(x, state)
    assert_bitwise(np.asarray(out).ravel(), classifier.predict_proba([X[0]])[0], "probabilities")


def test_files_and_copies(tmp_path: Path) -> None:
    regressor = SequenceRegressor(num_layers=2, bidirectional=True, **SETTINGS).fit(X, last_value(X))
    path = tmp_path / "model.safetensors"
    regressor.save(path)
    expected = regressor.predict(X)
    loaded = lstmcore.load(path)
    assert loaded.precision == "bfloat16"
    for other in (loaded, pickle.loads(pickle.dumps(regressor)), copy.deepcopy(regressor)):
        assert rounds(other)
        assert_bitwise(other.predict(X), expected, "predictions")
    model = lstmcore.load_model(path)
    assert "bfloat16" in repr(model)
    assert_bitwise(model.predict(X), expected, "predictions")
    tensors, metadata = model_bytes.read(path)
    assert metadata["format_version"] == "3"
    assert json.loads(metadata["model"])["recurrent"]["precision"] == "bfloat16"
    assert tensors["W_l0"].dtype == np.float32
    plain = tmp_path / "plain.safetensors"
    SequenceRegressor(**FAST).fit(X, last_value(X)).save(plain)
    metadata = model_bytes.read(plain)[1]
    assert metadata["format_version"] == "1"
    assert "precision" not in json.loads(metadata["model"])["recurrent"]


def test_going_on_with_a_model() -> None:
    y = two_classes(X)
    classifier = SequenceClassifier(warm_start=True, **SETTINGS).fit(X, y)
    before = classifier.model_.core.get_weights().copy()
    classifier.fit(X, y)
    assert rounds(classifier)
    assert not np.array_equal(classifier.model_.core.get_weights(), before)
    classifier.set_params(precision="float32")
    with pytest.raises(ValueError, match=r"precision='float32', but the model to go on with has 'bfloat16'"):
        classifier.fit(X, y)


def test_quantised_from_the_float32_weights() -> None:
    y = two_classes(X)
    rounded = SequenceClassifier(**SETTINGS).fit(X, y)
    exact = SequenceClassifier(**{**FAST, "max_iter": 1}).fit(X, y)
    exact.model_.core.set_weights(rounded.model_.core.get_weights())
    exact.model_.core.set_preprocessing(**rounded.model_.core.preprocessing)
    for options in ({"scheme": "dynamic_int8"}, {"scheme": "int8", "X_calibration": X}):
        found, expected = rounded.quantize(**options), exact.quantize(**options)
        assert_bitwise(np.asarray(found.predict_proba(X)), np.asarray(expected.predict_proba(X)), options["scheme"])
    flow = [lstmcore.gradient_flow(of, X[:3]).layers[0].jacobian["h"]["h"] for of in (rounded, exact)]
    np.testing.assert_array_equal(flow[0], flow[1])


def test_forecaster() -> None:
    series = np.sin(np.arange(80) / 3.0)
    forecaster = SequenceForecaster(8, 2, **SETTINGS).fit(series)
    assert rounds(forecaster)
    assert np.isfinite(forecaster.predict()).all()


# --- networks put together in Python ----------------------------------------------------------------------------------

WORDS, TAGS = lstmcore.datasets.make_tagged_sentences(40, random_state=0)
QUICK: dict[str, Any] = {"hidden_size": 12, "max_iter": 2, "random_state": 0, "n_jobs": 1}
TEXTS = ["abcabcabc", "bcabcabcab"] * 4
MADE: dict[str, Callable[[dict[str, Any]], tuple[Any, Callable[[Any], Any]]]] = {
    "SequenceTagger": lambda s: (
        lstmcore.SequenceTagger(**s).fit(WORDS, TAGS),
        lambda e: np.concatenate(e.predict_proba(WORDS[:5])),
    ),
    "SequenceTranscriber": lambda s: (
        lstmcore.SequenceTranscriber(**s).fit(X[:20], [["a", "b"][: 1 + len(x) % 2] for x in X[:20]]),
        lambda e: np.concatenate(e.predict_proba(X[:5])),
    ),
    "LanguageModel": lambda s: (
        lstmcore.LanguageModel(**s, bptt_steps=5, batch_size=2).fit(TEXTS),
        lambda e: e.score_samples(TEXTS[:2]),
    ),
    "SequenceAnomalyDetector": lambda s: (
        lstmcore.SequenceAnomalyDetector(**s).fit(X),
        lambda e: e.score_samples(X[:5]),
    ),
    "SequenceEncoder": lambda s: (lstmcore.SequenceEncoder(**s).fit(X), lambda e: e.transform(X[:5])),
}


@pytest.mark.parametrize("name", sorted(MADE))
def test_networks_put_together_in_python(tmp_path: Path, name: str) -> None:
    exact, outputs = MADE[name](QUICK)
    rounded, _ = MADE[name]({**QUICK, "precision": "bfloat16"})
    assert rounds(rounded)
    assert not rounds(exact)
    assert rounded.model_.dtype == "float32"
    expected = np.asarray(outputs(rounded))
    difference = np.abs(expected - outputs(exact)).max() / np.abs(expected).max()
    assert 1e-7 < difference < 0.1
    path = tmp_path / "model"
    rounded.save(path)
    loaded = lstmcore.load(path)
    assert rounds(loaded)
    assert loaded.precision == "bfloat16"
    assert_bitwise(np.asarray(outputs(loaded)), expected, "outputs")


def test_precisions_that_are_not_there() -> None:
    for estimator, fit in (
        (lstmcore.SequenceTranslator(precision="bfloat16"), (["ab"], ["ba"])),
        (lstmcore.FrameForecaster(precision="bfloat16"), (np.zeros((2, 6, 4, 4)),)),
    ):
        with pytest.raises(NotImplementedError, match=r"precision='bfloat16' is not implemented yet. Use 'float32'"):
            estimator.fit(*fit)


# --- hostile files ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("models") / "model"
    Model({"recurrent": {"input_size": 2, "hidden_size": 3, "precision": "bfloat16"}, "outputs": 1}).save(str(path))
    return path.read_bytes()


def with_model(data: bytes, version: str, change: Callable[[dict[str, Any]], object]) -> bytes:
    header, tensors = model_bytes.split(data)
    model = json.loads(header["__metadata__"]["model"])
    change(model["recurrent"])
    header["__metadata__"] |= {"model": json.dumps(model), "format_version": version}
    return model_bytes.sealed(header, tensors)


HOSTILE: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "the format of other models": ("1", lambda r: None, r"unknown entry 'precision'"),
    "the format of quantised models": ("2", lambda r: None, r"unknown entry 'precision'|'quantization' is missing"),
    "no precision": ("3", lambda r: r.pop("precision"), r"'precision' is missing"),
    "another precision": ("3", lambda r: r.update(precision="float32"), r"precision: expected one of 'bfloat16'"),
    "a number": ("3", lambda r: r.update(precision=16), r"precision: expected a string"),
    "float64": ("3", lambda r: r.update(dtype="float64"), r"expected dtype float32, got float64"),
    "a cell that cannot be": ("3", lambda r: r.update(cell="xlstm"), r"bfloat16 does not work with cell 'xlstm'"),
    "an unknown version": ("4", lambda r: None, r"format version '4' is unknown"),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_hostile_files(tmp_path: Path, small: bytes, case: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(with_model(small, "3", lambda r: None))
    assert Model.load(str(path)).config["recurrent"]["precision"] == "bfloat16"
    version, change, message = HOSTILE[case]
    path.write_bytes(with_model(small, version, change))
    with pytest.raises(ModelFileError, match=message):
        Model.load(str(path))


def test_not_with_eight_bits() -> None:
    config = {"recurrent": {"input_size": 2, "hidden_size": 3, "precision": "bfloat16"}, "outputs": 1}
    with pytest.raises(ValueError, match=r"dynamic_int8 takes the place of precision bfloat16"):
        Model({**config, "quantization": "dynamic_int8"})
