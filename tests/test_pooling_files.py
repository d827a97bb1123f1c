"""Pooling and head in files, configurations and estimators: what is kept, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import lstmcore
import model_bytes
from checking import assert_all_bitwise, assert_bitwise
from heads import ATTENTION, HEADS, HOPFIELD, H, I, K, each_head, each_pooling, make_data, make_model
from lstmcore import ModelFileError, SequenceClassifier, SequenceRegressor, _core

# ---- files and configurations


@each_head
@each_pooling
def test_file_round_trip(pooling: str, head: str, tmp_path: Path) -> None:
    more = {"head_dropout": 0.25} if HEADS[head] else {}
    for dtype in ("float32", "float64"):
        model = make_model(pooling, head, dtype, more=more, bidirectional=head == "selu")
        path = str(tmp_path / dtype)
        model.save(path)
        loaded = _core.Model.load(path)
        assert loaded.config == model.config
        assert_all_bitwise(loaded.parameters, model.parameters, "parameters")
        assert_bitwise(loaded.predict(make_data(dtype)), model.predict(make_data(dtype)), "outputs")


def test_config_is_complete() -> None:
    model = make_model("hopfield 1", "tanh", more={"head_dropout": 0.5})
    again = _core.Model(model.config)
    assert again.config == model.config
    assert {k: v for k, v in model.config.items() if k.startswith(("pooling", "head"))} == {
        "pooling": "hopfield", "pooling_size": 9, "pooling_patterns": 2, "pooling_beta": 1.5, "pooling_updates": 1,
        "head_sizes": [3, 9, 5], "head_activation": "tanh", "head_dropout": 0.5,
    }  # fmt: skip


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"pooling_size": 3}, ValueError, "pooling_size: expected 0 with any pooling but attention and hopfield, got 3"),
    ({"pooling": "mean", "pooling_patterns": 2}, ValueError, "pooling_patterns: expected 1 with any pooling but hopf"),
    ({"pooling": "attention", "pooling_beta": 0.5}, ValueError, "pooling_beta: expected 0 with any pooling but hopf"),
    ({"pooling": "attention", "pooling_updates": 2}, ValueError, "pooling_updates: expected 1 with any pooling but"),
    (ATTENTION | {"pooling_size": -1}, ValueError, "pooling_size: expected an integer of at least 0, got -1"),
    (ATTENTION | {"pooling_size": 2**40}, ValueError, "pooling_size: expected an integer from 1 to 2147483648"),
    (ATTENTION | {"pooling_size": 3.0}, TypeError, "pooling_size: expected an integer"),
    (HOPFIELD | {"pooling_patterns": 0}, ValueError, "pooling_patterns: expected an integer of at least 1, got 0"),
    (HOPFIELD | {"pooling_patterns": 2**31, "pooling_size": 2**31}, ValueError, "more weights than can be addressed"),
    (HOPFIELD | {"pooling_beta": -0.5}, ValueError, "pooling_beta: expected a number above 0"),
    (HOPFIELD | {"pooling_beta": np.nan}, ValueError, "pooling_beta: expected a number above 0"),
    (HOPFIELD | {"pooling_beta": "1"}, TypeError, "pooling_beta: expected a number"),
    (HOPFIELD | {"pooling_updates": -1}, ValueError, "pooling_updates: expected an integer of at least 0, got -1"),
    (HOPFIELD | {"pooling_updates": 101}, ValueError, "pooling_updates: expected an integer from 0 to 100, got 101"),
    ({"head_sizes": 5}, TypeError, "head_sizes: expected a list or tuple of integers, got int"),
    ({"head_sizes": [5, 0]}, ValueError, r"head_sizes\[1\]: expected an integer of at least 1, got 0"),
    ({"head_sizes": [5, 2**40]}, ValueError, r"head_sizes\[1\]: expected an integer from 1 to 2147483648"),
    ({"head_sizes": [2**31, 2**31]}, ValueError, "more weights than can be addressed"),
    ({"head_sizes": [1] * 1001}, ValueError, "head_sizes: expected at most 1000 hidden layers, got 1001"),
    ({"head_sizes": ["5"]}, TypeError, r"head_sizes\[0\]: expected an integer"),
    ({"head_sizes": [5], "head_activation": "elu"}, ValueError, "head_activation: expected one of 'selu', 'relu', 'ta"),
    ({"head_sizes": [5], "head_dropout": 1.0}, ValueError, "head_dropout: expected a number from 0"),
    ({"head_sizes": [5], "head_dropout": np.nan}, ValueError, "head_dropout: expected a number from 0"),
    ({"head_dropout": 0.5}, ValueError, "head_dropout: expected 0 without hidden layers"),
    ({"pooling": "sum"}, ValueError, "pooling: expected one of 'last', 'mean', 'max', 'attention', 'hopfield'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "kind", "message"), REFUSED)
def test_refused_configurations(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        _core.Model({"recurrent": {"input_size": I, "hidden_size": H}, "outputs": K, **changes})


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"pooling_size": -3}, "pooling_size: expected an integer from 0"),
    ({"pooling_size": 2.0}, "pooling_size: expected an integer from 0"),
    ({"pooling_size": None}, "pooling_size: expected an integer from 0"),
    ({"pooling_size": 2**63 - 1}, "pooling_size: expected an integer from 1 to 2147483648"),
    ({"pooling_size": 2**31}, "expected shape"),
    ({"pooling_size": 0}, "expected shape"),
    ({"pooling_patterns": 0}, "pooling_patterns: expected an integer from 1"),
    ({"pooling_patterns": -(2**62)}, "pooling_patterns: expected an integer from 1"),
    ({"pooling_patterns": 2**63 - 1}, "pooling_patterns: expected an integer from 1 to 2147483648"),
    ({"pooling_patterns": 2**30}, "expected shape"),
    ({"pooling_patterns": True}, "pooling_patterns: expected an integer from 1"),
    ({"pooling_beta": -1.0}, "pooling_beta: expected a number above 0"),
    ({"pooling_beta": "1"}, "pooling_beta: expected a number"),
    ({"pooling_beta": 7.5}, "does not reproduce the test vector"),
    ({"pooling_updates": -1}, "pooling_updates: expected an integer from 0"),
    ({"pooling_updates": 10**9}, "pooling_updates: expected an integer from 0 to 100"),
    ({"pooling": "attention"}, "with any pooling but hopfield"),
    ({"pooling": "attention", "pooling_patterns": 1, "pooling_beta": 0.0, "pooling_updates": 1}, "'pool_W' is missing"),
    ({"head_sizes": 7}, "head_sizes: expected an array of integers"),
    ({"head_sizes": [7, -3]}, "head_sizes: expected integers from 1"),
    ({"head_sizes": [7, 3.0]}, "head_sizes: expected integers from 1"),
    ({"head_sizes": [[7], 3]}, "head_sizes: expected integers from 1"),
    ({"head_sizes": [7]}, "expected shape"),
    ({"head_sizes": [7, 3, 3]}, "'head_W_l2' is missing"),
    ({"head_sizes": [2**63 - 1, 3]}, "expected an integer from 1 to 2147483648"),
    ({"head_sizes": [2**30, 2**30]}, "more weights than can be addressed"),
    ({"head_sizes": [1] * 100000}, "head_sizes: expected at most 1000"),
    ({"head_activation": "elu"}, "head_activation: expected one of 'selu', 'relu', 'tanh'"),
    ({"head_activation": 1}, "head_activation: expected a string"),
    ({"head_activation": "tanh"}, "does not reproduce the test vector"),
    ({"head_dropout": 2.0}, "head_dropout: expected a number from 0"),
    ({"head_dropout": False}, "head_dropout: expected a number"),
]


@pytest.mark.parametrize(("changes", "message"), HOSTILE)
def test_hostile_files(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    make_model("hopfield 1", "selu", activation="identity").save(str(path))
    header, data = model_bytes.split(path.read_bytes())
    architecture = json.loads(header["__metadata__"]["model"]) | changes
    header["__metadata__"]["model"] = json.dumps(architecture)
    path.write_bytes(model_bytes.sealed(header, data))
    with pytest.raises(ModelFileError) as error:
        _core.Model.load(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize("name", [k for k in make_model().config if k.startswith(("pooling", "head"))])
def test_every_entry_is_required_in_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    make_model("hopfield 1", "selu", activation="identity").save(str(path))
    header, data = model_bytes.split(path.read_bytes())
    architecture = json.loads(header["__metadata__"]["model"])
    del architecture[name]
    header["__metadata__"]["model"] = json.dumps(architecture)
    path.write_bytes(model_bytes.sealed(header, data))
    with pytest.raises(ModelFileError, match=f"model: '{name}' is missing"):
        _core.Model.load(str(path))


# ---- estimators

STATES = np.random.default_rng(1).normal(size=(60, 12, 2)).astype(np.float32)
LABELS = (STATES[:, :, 0].mean(1) > 0).astype(int)
FAST: dict[str, Any] = {"hidden_size": 6, "max_iter": 3, "random_state": 0}
TOPS: list[dict[str, Any]] = [
    {"pooling": "attention"},
    {"pooling": "attention", "pooling_options": {"size": np.int64(5)}, "head_sizes": (8,), "head_dropout": 0.1},
    {"pooling": "hopfield", "pooling_options": {"size": 4, "patterns": 2, "beta": 2, "updates": 0}},
    {"pooling": "hopfield", "head_sizes": (8, np.int64(4)), "head_activation": "relu"},
    {"head_sizes": [5], "head_activation": "tanh"},
]


@pytest.mark.parametrize("top", TOPS)
@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_estimators(kind: Any, top: dict[str, Any], tmp_path: Path) -> None:
    estimator = kind(**FAST, **top)
    assert all(estimator.get_params()[name] is value for name, value in top.items())
    clone(estimator).fit(STATES, LABELS)
    estimator.fit(STATES, LABELS)
    config = estimator.model_.config
    assert config["pooling"] == top.get("pooling", "last")
    assert config["head_sizes"] == list(top.get("head_sizes", ()))
    assert config["pooling_size"] == (top.get("pooling_options") or {}).get("size", 0)
    path = tmp_path / "model"
    estimator.save(path)
    loaded = lstmcore.load(path)
    assert_bitwise(loaded.predict(STATES), estimator.predict(STATES), "predictions")
    assert loaded.get_params()["pooling_options"] == top.get("pooling_options")
    assert list(loaded.head_sizes) == list(top.get("head_sizes", ()))
    assert pickle.loads(pickle.dumps(estimator)).predict(STATES[:3]).tolist() == estimator.predict(STATES[:3]).tolist()
    more = estimator.set_params(warm_start=True).fit(STATES, LABELS)
    assert more.n_iter_ == 6
    loaded.partial_fit(STATES, LABELS)
    if config["pooling"] != "hopfield" or config["pooling_updates"] == 0:
        state = None
        for row in STATES[0]:
            output, state = estimator.step(row, state)
        assert_bitwise(output, estimator.model_.outputs(STATES[:1])[0], "streamed")
    else:
        with pytest.raises(ValueError, match="pooling_updates=1 needs the whole sequence"):
            estimator.step(STATES[0, 0])


def test_a_warm_start_keeps_pooling_and_head() -> None:
    top = {"pooling": "hopfield", "pooling_options": {"size": 4}, "head_sizes": (8,)}
    for name, value in (
        ("pooling", "attention"), ("pooling_options", {"size": 5}), ("pooling_options", {"size": 4, "beta": 1.0}),
        ("head_sizes", (8, 8)), ("head_activation", "relu"), ("head_dropout", 0.5),
    ):  # fmt: skip
        estimator = SequenceClassifier(**FAST, **top, warm_start=True).fit(STATES, LABELS)
        with pytest.raises(ValueError, match=r"but the model to go on with has .*warm_start=False"):
            estimator.set_params(**{name: value}).fit(STATES, LABELS)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling_options": {"size": 0}}, "'pooling_options'.*'size' .int >= 1.*Got"),
        ({"pooling_options": {"heads": 2}}, "'pooling_options'"),
        ({"pooling_options": {"beta": 0.0}}, "'pooling_options'"),
        ({"pooling_options": [3]}, "'pooling_options'"),
        ({"pooling_options": {"patterns": 2}}, "pooling_patterns: expected 1 with any pooling but hopfield, got 2"),
        ({"head_sizes": 5}, "'head_sizes'.*a tuple or list of int >= 1. Got 5"),
        ({"head_sizes": (0,)}, "'head_sizes'"),
        ({"head_sizes": (5,), "head_activation": "elu"}, "'head_activation'"),
        ({"head_sizes": (5,), "head_dropout": 1.0}, "'head_dropout'"),
        ({"head_dropout": 0.5}, "head_dropout: expected 0 without hidden layers"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(**FAST, **parameters).fit(STATES, LABELS)
