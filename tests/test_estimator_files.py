"""Model files of estimators: what is kept, and what a file that anyone may have written can do. Pickle, too."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

import lstmcore
from lstmcore import ModelFileError, SequenceClassifier, SequenceRegressor
from sequences import FAST, last_value, ragged, three_classes, two_classes

X = ragged(40)
Y = three_classes(X)
EVERYTHING: dict[str, Any] = {
    "cell": "elman", "cell_options": {"nonlinearity": "tanh"}, "num_layers": 2, "dropout": 0.1, "pooling": "mean",
    "early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": None, "clip_norm": None, "clip_value": 1.5,
    "bidirectional": True, "variational_dropout": 0.1, "zoneout_hidden": 0.05, "learn_initial_state": True,
    "label_smoothing": 0.1, "max_norm": 3.0, "gradient_noise": 1e-3, "bptt_steps": 4,
    "precision": "float64", "class_weight": {10: 2, 30: 0.5},
}  # fmt: skip


def assert_same(loaded: Any, estimator: Any) -> None:
    assert type(loaded) is type(estimator)
    assert loaded.get_params() == estimator.get_params()
    assert {name: type(value) for name, value in loaded.get_params().items()} == {
        name: type(value) for name, value in estimator.get_params().items()
    }
    skipped = {"model_", "_trainer", "classes_", "feature_names_in_"}
    np.testing.assert_equal(
        {name: value for name, value in vars(loaded).items() if name not in skipped},
        {name: value for name, value in vars(estimator).items() if name not in skipped},
    )
    for name in ("classes_", "feature_names_in_"):
        assert hasattr(loaded, name) == hasattr(estimator, name)
        if hasattr(loaded, name):
            ours, theirs = getattr(loaded, name), getattr(estimator, name)
            assert ours.dtype == theirs.dtype
            assert ours.tolist() == theirs.tolist()
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_classifier_and_back(tmp_path: Path, settings: dict[str, Any]) -> None:
    classifier = SequenceClassifier(**FAST | {"max_iter": 3} | settings).fit(X, Y)
    classifier.save(tmp_path / "model.safetensors")
    loaded = lstmcore.load(tmp_path / "model.safetensors")
    assert_same(loaded, classifier)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    loaded.partial_fit(X, Y) if not settings else loaded.set_params(warm_start=True).fit(X, Y)
    assert loaded.n_iter_ > classifier.n_iter_
    model = lstmcore.load_model(str(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(model.predict(X), classifier.predict(X))
    np.testing.assert_array_equal(model.predict_proba(X), classifier.predict_proba(X))
    assert model.classes.tolist() == [10, 20, 30]


@pytest.mark.parametrize("targets", [None, 1, 2])
def test_regressor_and_back(tmp_path: Path, targets: int | None) -> None:
    y = last_value(X)
    y = y if targets is None else np.tile(y[:, None], targets)
    regressor = SequenceRegressor(**FAST | {"max_iter": 2}, loss="huber", huber_delta=0.5).fit(X, y, eval_set=(X, y))
    regressor.save(tmp_path / "model")
    assert_same(lstmcore.load(tmp_path / "model"), regressor)
    np.testing.assert_array_equal(lstmcore.load_model(tmp_path / "model").predict(X), regressor.predict(X))


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["nö", "x" * 300]),
        np.array(["no", "yes"], dtype=object),
        np.array([False, True]),
        np.array([-(2**63), 2**63 - 1]),
        np.array([3, 200], dtype=np.uint8),
        np.array([0.0, 2.0], dtype=np.float32),
    ],
    ids=["text", "object", "bool", "int64", "uint8", "float32"],
)
def test_types_of_labels(tmp_path: Path, labels: np.ndarray) -> None:
    y = labels[(two_classes(X) == "up").astype(int)]
    settings = FAST | {"max_iter": 1, "class_weight": {labels[0]: 0.5}}
    classifier = SequenceClassifier(**settings).fit(X, y)
    classifier.save(tmp_path / "model")
    loaded = lstmcore.load(tmp_path / "model")
    assert loaded.classes_.dtype == labels.dtype
    assert loaded.predict(X).tolist() == classifier.predict(X).tolist()
    assert loaded.class_weight == {labels[0]: 0.5}


def test_table_with_names(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 4)), columns=list("abcd"))
    regressor = SequenceRegressor(**FAST | {"max_iter": 1}).fit(frame, np.arange(30.0))
    regressor.save(tmp_path / "model")
    loaded = lstmcore.load(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == list("abcd")
    np.testing.assert_array_equal(loaded.predict(frame), regressor.predict(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame[["a", "b", "d", "c"]])


def test_random_state_that_is_a_generator(tmp_path: Path) -> None:
    classifier = SequenceClassifier(**FAST | {"max_iter": 1, "random_state": np.random.RandomState(0)}).fit(X, Y)
    with pytest.warns(UserWarning, match="random_state is a RandomState, which a model file does not hold"):
        classifier.save(tmp_path / "model")
    assert lstmcore.load(tmp_path / "model").random_state is None


def test_numpy_scalars_as_parameters(tmp_path: Path) -> None:
    settings = FAST | {"hidden_size": np.int64(5), "alpha": np.float32(0.5), "bidirectional": np.True_, "max_iter": 1}
    SequenceClassifier(**settings).fit(X, Y).save(tmp_path / "model")
    assert lstmcore.load(tmp_path / "model").get_params()["hidden_size"] == 5


def test_load_model_needs_numpy_only(tmp_path: Path) -> None:
    SequenceClassifier(**FAST | {"max_iter": 1}).fit(X, Y).save(tmp_path / "model")
    program = """
import sys
for name in ("sklearn", "scipy", "pandas", "matplotlib", "tqdm", "joblib"):
    sys.modules[name] = None
import numpy as np, lstmcore
model = lstmcore.load_model(sys.argv[1])
X = [np.ones((4, 3)), np.zeros((2, 3))]
assert model.predict(X).shape == (2,)
state = None
for x in X[0]:
    output, state = model.step(x, state)
np.testing.assert_allclose(output, model.predict_proba(X)[0], rtol=1e-5)
try:
    lstmcore.SequenceClassifier
except ModuleNotFoundError as error:
    assert "needs scikit-learn" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "model")], check=True)


# --- files that are not what they say ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> Any:
    return SequenceClassifier(**FAST | {"max_iter": 1}).fit(X, Y)


def rewrite(fitted: Any, path: Path, /, **texts: str | None) -> Path:
    """The estimator's file with some of its metadata replaced, or taken out (None)."""
    fitted.save(path)
    metadata = lstmcore.load_model(path).metadata
    kept = {key: text for key, text in (metadata | texts).items() if text is not None}
    fitted.model_.core.save(str(path), kept)
    return path


def changed(estimator: Any, path: Path, *keys: str, value: Any) -> str:
    """The estimator's document with one entry changed."""
    estimator.save(path)
    document = json.loads(lstmcore.load_model(path).metadata["estimator"])
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("format",), 2, "format 2; this version reads 1"),
        (("class",), "os.system", "unknown estimator class 'os.system'"),
        (("class",), ["SequenceClassifier"], "unknown estimator class"),
        (("class",), "SequenceRegressor", "SequenceRegressor with classes|unknown parameter"),
        (("parameters",), [], "lacks 'parameters' or 'fitted'"),
        (("parameters", "__class__"), "x", "unknown parameter.*__class__"),
        (("parameters", "hidden_size"), "64", "The 'hidden_size' parameter"),
        (("parameters", "cell_options"), {"a": {"b": 1}}, "The 'cell_options' parameter"),
        (("parameters", "class_weight"), {"labels": [1], "weights": []}, "class_weight has not one weight"),
        (("parameters", "class_weight"), {"labels": [[1]], "weights": [1]}, "class_weight has labels"),
        (("fitted", "n_features_in_"), 4, "4 feature.* declared, but the network has 3"),
        (("fitted", "n_features_in_"), 1e300, "n_features_in_"),
        (("fitted", "table"), True, "1 feature.* declared, but the network has 3"),
        (("fitted", "table"), None, "'table' not true or false"),
        (("fitted", "feature_names_in_"), ["a"], "feature_names_in_ is not a list of 3 names"),
        (("fitted", "loss_curve_"), None, "loss_curve_ is not a list"),
        (("fitted", "loss_curve_"), ["high"], "loss_curve_ holds 'high'"),
        (("fitted", "validation_scores_"), {}, "validation_scores_ is not a list"),
        (("fitted", "best_loss_"), [], r"best_loss_ holds \[\]"),
    ],
)
def test_changed_documents(fitted: Any, tmp_path: Path, keys: tuple[str, ...], value: Any, message: str) -> None:
    path = tmp_path / "model"
    text = changed(fitted, path, *keys, value=value)
    with pytest.raises(ModelFileError, match=message):
        lstmcore.load(rewrite(fitted, path, estimator=text))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"estimator": None}, "holds a network but no estimator. Read it with lstmcore.load_model"),
        ({"estimator": "{"}, "metadata 'estimator' is not valid JSON"),
        ({"estimator": "[" * 100_000}, "metadata 'estimator' is not valid JSON"),
        ({"estimator": '{"format": NaN}'}, "metadata 'estimator' is not valid JSON: NaN is not JSON"),
        ({"estimator": "1" * 10_000}, "metadata 'estimator' is not valid JSON"),
        ({"estimator": "null"}, "format None"),
        ({"classes": None}, "SequenceClassifier without classes"),
        ({"classes": '{"dtype": "<i8", "values": [1, 2]}'}, "2 classes for a softmax head of 3 outputs"),
        ({"classes": '{"dtype": "<i8", "values": [1, 2, 2]}'}, "classes are not distinct"),
        ({"classes": '{"dtype": "<i8", "values": [1, 2, 1e400]}'}, "classes do not fit"),
        ({"classes": '{"dtype": "|u1", "values": [1, 2, 256]}'}, "classes do not fit"),
        ({"classes": '{"dtype": "<i8", "values": ["a", 2, 3]}'}, "classes do not fit"),
        ({"classes": '{"dtype": "O,O", "values": [1, 2, 3]}'}, "classes do not fit"),
        ({"classes": '{"dtype": "V9", "values": [1, 2, 3]}'}, "classes do not fit"),
        ({"classes": '{"dtype": 8, "values": [1, 2, 3]}'}, "no dtype"),
        ({"classes": "[1, 2, 3]"}, "not an object with 'dtype' and 'values'"),
        ({"target": "3"}, "metadata 'target' is not an object"),
        ({"target": '{"single": true}'}, "a single target is declared, but the head has 3 outputs"),
    ],
)
def test_changed_metadata(fitted: Any, tmp_path: Path, texts: dict[str, str | None], message: str) -> None:
    path = rewrite(fitted, tmp_path / "model", **texts)
    with pytest.raises(ModelFileError, match=message):
        lstmcore.load(path)


def test_wide_text_classes_claim_no_memory(fitted: Any, tmp_path: Path) -> None:
    text = json.dumps({"dtype": "<U99999999999", "values": ["a", "b", "c"]})
    path = rewrite(
        fitted, tmp_path / "model", classes=text, estimator=changed(fitted, tmp_path / "m", "format", value=1)
    )
    assert lstmcore.load(path).classes_.dtype == "<U1"


def test_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"not a model" * 10)
    for read in (lstmcore.load, lstmcore.load_model):
        with pytest.raises(ModelFileError):
            read(tmp_path / "model")
        with pytest.raises(OSError, match="nowhere"):
            read(tmp_path / "nowhere")


# --- pickle -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_pickle_copy_joblib(tmp_path: Path, settings: dict[str, Any]) -> None:
    classifier = SequenceClassifier(**FAST | {"max_iter": 2} | settings).fit(X, Y)
    joblib.dump(classifier, tmp_path / "joblib")
    for same in (
        pickle.loads(pickle.dumps(classifier)),
        copy.deepcopy(classifier),
        joblib.load(tmp_path / "joblib"),
        joblib.load(tmp_path / "joblib", mmap_mode="r"),
    ):
        assert_same(same, classifier)
        # Independent: training one leaves the other as it was.
        before = classifier.model_.core.get_weights()
        same.set_params(warm_start=True).fit(X, Y)
        np.testing.assert_array_equal(classifier.model_.core.get_weights(), before)
    model = pickle.loads(pickle.dumps(classifier.model_))
    np.testing.assert_array_equal(model.predict(X), classifier.predict(X))
    forward_only = SequenceClassifier(**FAST | {"max_iter": 1}).fit(X, Y)
    stream = forward_only.step(X[0][0])[1]
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(stream)


def test_subclasses_are_not_saved_as_what_they_are_not(tmp_path: Path) -> None:
    class Mine(SequenceClassifier):
        pass

    with pytest.raises(TypeError, match="Mine is not one of lstmcore's estimators"):
        Mine(**FAST | {"max_iter": 1}).fit(X, Y).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
