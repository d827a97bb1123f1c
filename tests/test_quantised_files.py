"""Files of quantised models, fine-tuning, and both on estimators."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
from lstmcore import ModelFileError, QuantizedModel, SequenceClassifier, SequenceRegressor, _core
from lstmcore.edge.rounding import rounded
from quantised import each_cell, groups_of, make_data, make_model

KEY = "edge_program"


def make_file(path: Path, **more: Any) -> QuantizedModel:
    quantised = make_model("lstm", head_sizes=[4], learn_initial_state=True).quantize(make_data(), **more)
    quantised.save(path)
    return quantised


# ---- files


@pytest.mark.parametrize("scheme", ["int8", "int8x16", "float32"])
@each_cell
def test_a_file_holds_the_model_to_the_last_bit(
    cell: str, options: dict[str, Any], scheme: str, tmp_path: Path
) -> None:
    X = make_data()
    model = make_model(cell, options, bidirectional=True, num_layers=2, head_sizes=[4])
    saved = model.quantize(X, scheme)
    saved.save(tmp_path / "q.safetensors")
    for load in (lstmcore.load, lstmcore.load_model, QuantizedModel.load):
        loaded = load(tmp_path / "q.safetensors")
        assert isinstance(loaded, QuantizedModel)
        np.testing.assert_array_equal(loaded.predict_raw(X), saved.predict_raw(X))
        np.testing.assert_array_equal(loaded.predict(X), saved.predict(X))
        assert repr(loaded) == repr(saved)
        assert str(loaded.report_) == str(saved.report_)
        assert loaded.classes_.tolist() == saved.classes_.tolist()


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_regression_and_storages(weights: str, tmp_path: Path) -> None:
    X = make_data()
    model = make_model("slstm", {"heads": 4}, hidden_size=32, activation="identity", outputs=1)
    saved = lstmcore.Model(model.core, None, single_target=True).quantize(X, weights=weights)
    saved.save(str(tmp_path / "q.safetensors"))
    loaded = lstmcore.load(str(tmp_path / "q.safetensors"))
    assert loaded.predict(X).shape == (len(X),)
    np.testing.assert_array_equal(loaded.predict(X), saved.predict(X))
    storages = [layer.matrices[0].storage for layer in loaded.program.layers]
    assert storages == ["int4" if weights == "int4" else "sparse"]


def _damage(path: Path, change: Callable[[dict[str, Any], dict[str, Any], dict[str, str]], None]) -> None:
    """The same file with other contents and a checksum that is right."""
    tensors, texts = _core.read_tensors(path)
    document = json.loads(texts[KEY])
    change(document, tensors, texts)
    if texts.get(KEY) is not None and texts[KEY] == texts.get(KEY):
        texts.setdefault(KEY, "")
    texts = {**texts, KEY: texts["raw"] if "raw" in texts else json.dumps(document)}
    texts.pop("raw", None)
    _core.write_tensors(path, tensors, texts)


def _set(*where: Any, to: Any) -> Callable[[Any, Any, Any], None]:
    def change(document: Any, tensors: Any, texts: Any) -> None:
        for key in where[:-1]:
            document = document[key]
        document[where[-1]] = to

    return change


def _tensor(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any, Any, Any], None]:
    def change(document: Any, tensors: Any, texts: Any) -> None:
        tensors[name] = np.asarray(value(tensors[name]))

    return change


def _text(value: str) -> Callable[[Any, Any, Any], None]:
    def change(document: Any, tensors: Any, texts: Any) -> None:
        texts["quantized"] = value

    return change


DAMAGE: dict[str, Callable[[Any, Any, Any], None]] = {
    "no object": lambda d, t, x: x.update(raw="[]"),
    "no JSON": lambda d, t, x: x.update(raw="{"),
    "version": _set("version", to=2),
    "kind": _set("kind", to="int7"),
    "kind of other width": _set("kind", to="int16"),
    "pooling": _set("pooling", to="median"),
    "directions": _set("directions", to=2),
    "directions 0": _set("directions", to=0),
    "limit": _set("input_limit", to=128),
    "limit beyond any": _set("input_limit", to=10**30),
    "limit as text": _set("input_limit", to="127"),
    "softmax": _set("softmax", to=1),
    "unknown field": _set("more", to=1),
    "no layers": _set("layers", to=[]),
    "layers no list": _set("layers", to={}),
    "layer no object": _set("layers", 0, to=3),
    "cell": _set("layers", 0, "cell", to="gru"),
    "cell unknown": _set("layers", 0, "cell", to="transformer"),
    "options": _set("layers", 0, "options", to=["coupled"]),
    "options of numbers": _set("layers", 0, "options", to=[1]),
    "hidden": _set("layers", 0, "hidden", to=9),
    "hidden huge": _set("layers", 0, "hidden", to=2**40),
    "hidden 0": _set("layers", 0, "hidden", to=0),
    "inputs": _set("layers", 0, "inputs", to=9),
    "layer limit": _set("layers", 0, "limit", to=32767),
    "multiplier": _set("layers", 0, "output_multiplier", to=2**20),
    "shift of outputs": _set("layers", 0, "output_shift", to=70),
    "cell_bits": _set("layers", 0, "cell_bits", to=16),
    "no matrices": _set("layers", 0, "matrices", to=[]),
    "shift": _set("layers", 0, "matrices", 0, "shift", to=31),
    "shift negative": _set("layers", 0, "matrices", 0, "shift", to=-1),
    "shift overflowing": _set("layers", 0, "matrices", 0, "shift", to=20),
    "storage": _set("layers", 0, "matrices", 0, "storage", to="float32"),
    "storage int4": _set("layers", 0, "matrices", 0, "storage", to="int4"),
    "types": _set("layers", 0, "matrices", 0, "types", "weights", to="int64"),
    "types unhashable": _set("layers", 0, "matrices", 0, "types", "weights", to=[]),
    "types missing": _set("layers", 0, "matrices", 0, "types", to={}),
    "head": _set("dense", to=[]),
    "head activation": _set("dense", 0, "activation", to="linear"),
    "head without matrix": _set("dense", 0, "matrix", to=None),
    "last activation": _set("dense", 1, "activation", to="relu"),
    "outputs": _set("dense", 1, "outputs", to=9),
    "weights beyond int8": _tensor("layers.0.0.weights", lambda w: w * 2),
    "weights not whole": _tensor("layers.0.0.weights", lambda w: w + 0.5),
    "weights of other shape": _tensor("layers.0.0.weights", lambda w: w[:, :-4]),
    "weights flat": _tensor("layers.0.0.weights", lambda w: w.ravel()),
    "weights of odd shape": _tensor("layers.0.0.weights", lambda w: w[:, :-1]),
    "bias overflowing": _tensor("layers.0.0.bias", lambda b: np.full_like(b, 2.0**31 - 1)),
    "bias of other shape": _tensor("layers.0.0.bias", lambda b: b[:-4]),
    "multiplier negative": _tensor("layers.0.0.multiplier", lambda m: -m),
    "multiplier too large": _tensor("layers.0.0.multiplier", lambda m: np.full_like(m, 2.0**30)),
    "initial state": _tensor("layers.0.initial_h", lambda h: np.full_like(h, 128)),
    "initial state of other length": _tensor("layers.0.initial_cells", lambda c: c[:-1]),
    "other weights": _tensor("layers.0.0.weights", lambda w: w[::-1]),
    "other scale": _tensor("scale", lambda s: s * 2),
    "test vector": _tensor("test_output", lambda v: v + 1),
    "test vector of other shape": _tensor("test_output", lambda v: v[:, :1]),
    "test input": _tensor("test_input", lambda v: v[:, :-1]),
    "no test vector": lambda d, t, x: t.pop("test_output"),
    "no weights": lambda d, t, x: t.pop("layers.0.0.weights"),
    "more tensors": lambda d, t, x: t.update(more=np.ones(1)),
    "text": _text("{}"),
    "text no JSON": _text("["),
    "classes": _text(json.dumps({"single": False, "classes": {"dtype": "<i8", "values": [1]}, "report": None})),
    "single": _text(json.dumps({"single": True, "classes": None, "report": None})),
    "report": _text(json.dumps({"single": False, "classes": None, "report": {"layers": 3}})),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files(change: Callable[[Any, Any, Any], None], tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    make_file(path)
    _damage(path, change)
    with pytest.raises(ModelFileError, match=r"q\.safetensors"):
        lstmcore.load(path)


def test_truncated_and_flipped_bytes(tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    make_file(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in [*range(0, 200, 7), *rng.integers(0, len(whole), size=150).tolist()]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        with pytest.raises(ModelFileError):
            QuantizedModel.load(path)
    for length in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            lstmcore.load(path)
    with pytest.raises(FileNotFoundError):
        lstmcore.load(tmp_path / "missing.safetensors")


# ---- fine-tuning and estimators


def make_problem(seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(int(rng.integers(4, 15)), 3)) for _ in range(150)]
    return X, np.array(["down", "up"])[[int(x[-3:, 0].sum() + x[:, 1].mean() > 0) for x in X]]


@pytest.mark.parametrize("cell", ["lstm", "gru", "slstm"])
def test_training_sees_the_rounding_that_the_program_has(cell: str) -> None:
    """Integers of the program and rounded tensors are one and the same, for every matrix and the first layer's bias."""
    X = make_data()
    for weights in ("int8", "int4"):
        model = make_model(cell, num_layers=2, bidirectional=True, head_sizes=[4])
        program = model.quantize(X, "int8x16", weights=weights).program
        groups = groups_of(model, program, X)
        once = {**model.parameters, **rounded(model.parameters, groups, weights)}
        twice = rounded(once, groups, weights)
        for name, value in twice.items():
            if "_W" in name or name[0] in "WR":
                np.testing.assert_allclose(value, once[name], atol=1e-12 * np.abs(value).max())
            else:  # what rounding moved is in the bias
                assert np.abs(once[name] - model.parameters[name]).max() > 0


def test_finetuning_recovers_what_4_bits_lose() -> None:
    X, y = make_problem()
    model = SequenceClassifier("gru", hidden_size=12, max_iter=40, random_state=0, n_jobs=1).fit(X, y)
    before = model.model_.core.get_weights()

    def loss(quantised: QuantizedModel) -> float:
        probabilities = quantised.predict_proba(X)
        return float(-np.mean(np.log(probabilities[np.arange(len(y)), (y == "up").astype(int)])))

    plain = model.quantize(X, weights="int4", y=y)
    tuned = model.quantize(X, weights="int4", y=y, finetune_epochs=8, finetune_learning_rate=1e-3)
    assert loss(tuned) < 0.8 * loss(plain)
    losses = tuned.report_.finetune_losses
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    # What training saw is what the device computes.
    assert abs(loss(tuned) - losses[-1]) < 0.3 * losses[-1] + 0.01
    np.testing.assert_array_equal(model.model_.core.get_weights(), before)
    again = model.quantize(X, weights="int4", y=y, finetune_epochs=8, finetune_learning_rate=1e-3)
    np.testing.assert_array_equal(again.predict_raw(X), tuned.predict_raw(X))
    other = model.quantize(X, weights="int4", y=y, finetune_epochs=8, finetune_learning_rate=1e-3, random_state=1)
    assert (other.predict_raw(X) != tuned.predict_raw(X)).any()


def test_estimators() -> None:
    X, y = make_problem()
    with pytest.raises(Exception, match="not fitted"):
        SequenceClassifier().quantize(X)
    classifier = SequenceClassifier(hidden_size=8, max_iter=15, random_state=0, dropout=0.2, num_layers=2).fit(X, y)
    quantised = classifier.quantize(X, y=y, finetune_epochs=1)
    assert quantised.classes_.tolist() == classifier.classes_.tolist()
    assert quantised.score(X, y) > classifier.score(X, y) - 0.03
    with pytest.raises(ValueError, match="X_calibration has 2 features"):
        classifier.quantize([x[:, :2] for x in X])
    with pytest.raises(ValueError, match="y"):
        classifier.quantize(X, y=y[:-1])
    with pytest.raises(ValueError, match="'sideways'"):
        classifier.quantize(X, y=np.where(y == "up", "sideways", y))
    targets = np.array([[x[-3:, 0].sum(), 5 + x[:, 1].mean()] for x in X])
    for loss in ("squared_error", "huber"):
        regressor = SequenceRegressor("gru", hidden_size=8, max_iter=30, random_state=0, loss=loss).fit(X, targets)
        whole = regressor.quantize(X, y=targets, finetune_epochs=1)
        assert whole.predict(X).shape == targets.shape
        assert abs(whole.score(X, targets) - whole.report_.score) < 1e-12
        assert whole.score(X, targets) > regressor.score(X, targets) - 0.02
    single = SequenceRegressor("gru", hidden_size=8, max_iter=5, random_state=0).fit(X, targets[:, 0])
    assert single.quantize(X).predict(X).shape == (len(X),)


def test_score_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import r2_score

    X, _ = make_problem()
    targets = np.array([[x[-3:, 0].sum(), 5 + x[:, 1].mean()] for x in X])
    quantised = SequenceRegressor(hidden_size=8, max_iter=5, random_state=0).fit(X, targets).quantize(X)
    weights = np.linspace(0.1, 2.0, len(X))
    for w in (None, weights):
        expected = r2_score(targets, quantised.predict(X), sample_weight=w)
        assert abs(quantised.score(X, targets, sample_weight=w) - expected) < 1e-12
    with pytest.raises(ValueError, match="Expected"):
        quantised.score(X, targets[:, :1])
    with pytest.raises(ValueError, match="inconsistent"):
        quantised.score(X, targets[:-1])
