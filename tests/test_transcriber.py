"""SequenceTranscriber: what it learns, its gradient, decoding, files, and what it refuses."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import lstmcore
from checking import assert_all_bitwise
from lstmcore import ModelFileError, SequenceTranscriber, _core, metrics
from lstmcore._steps import object_array
from lstmcore._transcriber_network import TranscriberNetwork
from reference import ctc as reference

Array = NDArray[Any]

LETTERS = np.array(["a", "b", "c"])
QUICK: dict[str, Any] = {"hidden_size": 12, "max_iter": 3, "random_state": 0, "n_jobs": 1}


def spelled(n: int = 60, seed: int = 0) -> tuple[list[Array], list[Array]]:
    """Each letter lasts one to three steps, with a step of nothing behind it; noise on everything."""
    rng = np.random.default_rng(seed)
    X, y = [], []
    for _ in range(n):
        codes = rng.integers(3, size=rng.integers(1, 5))
        steps = [step for code in codes for step in [code] * rng.integers(1, 4) + [3]]
        X.append(np.eye(4)[steps] + 0.1 * rng.standard_normal((len(steps), 4)))
        y.append(LETTERS[codes])
    return X, y


X, Y = spelled()
CONFIG: dict[str, Any] = {
    "cell": "lstm", "cell_options": {}, "inputs": 3, "hidden_size": 4, "num_layers": 1, "bidirectional": True,
    "outputs": 3, "dropout": 0.0, "variational_dropout": 0.0, "recurrent_dropout": 0.0, "vocabulary": None,
    "embedding_size": None, "dtype": "float64",
}  # fmt: skip


def test_loss_and_gradient() -> None:
    network = TranscriberNetwork(CONFIG, seed=3)
    rng = np.random.default_rng(0)
    for value in network.parameters.values():
        value[...] = 0.5 * rng.standard_normal(value.shape)
    x = network.read([rng.standard_normal((n, 3)) for n in (5, 2, 4)], "X", "float64")
    y = object_array([np.array([0, 0, 1]), np.array([1]), np.array([], dtype=np.int64)])
    weights = np.array([1.0, 2.0, 0.5])
    loss, share, gradients = network.loss_and_gradients(x, y, weights, 0)
    scores = network._forward(x, 0, training=False).scores
    expected = [
        reference.loss(scores[n, :length], tuple(y[n].tolist()), network.blank) for n, length in enumerate((5, 2, 4))
    ]
    assert share == 3.5
    assert loss == pytest.approx(weights @ np.array(expected), rel=1e-12)
    assert set(gradients) == set(network.parameters)
    for name, value in network.parameters.items():
        found = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            kept, sums = value[index], []
            for h in (1e-4, -1e-4, 2e-4, -2e-4):
                value[index] = kept + h
                total, share, _ = network.loss_and_gradients(x, y, weights, 0, training=False)
                sums.append(total / share)
            value[index] = kept
            found[index] = (8 * (sums[0] - sums[1]) - (sums[2] - sums[3])) / 12e-4
        np.testing.assert_allclose(gradients[name], found, rtol=1e-6, atol=1e-10, err_msg=name)


def test_learns_without_alignment() -> None:
    transcriber = SequenceTranscriber(hidden_size=24, max_iter=40, learning_rate_init=0.02, random_state=0)
    transcriber.fit(*spelled(200))
    Xt, Yt = spelled(80, seed=1)
    found = transcriber.predict(Xt)
    assert transcriber.score(Xt, Yt) > 0.97
    assert transcriber.score(Xt, Yt) == pytest.approx(1.0 - metrics.label_error_rate(Yt, found))
    transcriber.set_params(decoder="beam")
    assert transcriber.score(Xt, Yt) > 0.97
    for beams, x in zip(transcriber.decode(Xt[:5]), Xt[:5], strict=True):
        assert beams[0][0].tolist() == transcriber.predict([x])[0].tolist()
        assert beams[0][1] <= 0.0
    only_a = transcriber.decode(Xt[:5], score=lambda prefix, label: 0.0 if label == "a" else -np.inf)
    assert all(set(labels) <= {"a"} for beams in only_a for labels, _ in beams)
    probabilities = transcriber.predict_proba(Xt[:1])[0]
    assert probabilities.shape == (len(Xt[0]), 3)
    assert (probabilities.sum(axis=1) <= 1.0 + 1e-6).all()


def test_tokens_and_empty_targets() -> None:
    words = [["x", "y", "x"], ["y", "y"], ["x"]] * 5
    targets: list[list[int]] = [[1, 2], [], [1]] * 5
    transcriber = SequenceTranscriber(**{**QUICK, "max_iter": 60, "learning_rate_init": 0.05}).fit(words, targets)
    assert [found.tolist() for found in transcriber.predict(words[:3])] == targets[:3]
    assert transcriber.predict([["unknown"]])[0].dtype.kind == "i"


def test_threads_weights_and_practice() -> None:
    settings = {**QUICK, "hidden_size": 40, "bidirectional": True, "dropout": 0.2}
    one = SequenceTranscriber(**settings).fit(X, Y)
    two = SequenceTranscriber(**{**settings, "n_jobs": 3}).fit(X, Y)
    assert_all_bitwise(one.model_.parameters, two.model_.parameters, "parameters")
    exact = QUICK | {"precision": "float64", "batch_size": 1000, "shuffle": False}
    weights = np.arange(60) % 3
    weighted = SequenceTranscriber(**exact).fit(X, Y, sample_weight=weights)
    repeated = SequenceTranscriber(**exact).fit(
        [x for x, w in zip(X, weights, strict=True) for _ in range(w)],
        [y for y, w in zip(Y, weights, strict=True) for _ in range(w)],
    )
    assert weighted.loss_curve_ == pytest.approx(repeated.loss_curve_, rel=1e-11)
    stopped = SequenceTranscriber(early_stopping=True, **QUICK).fit(X, Y, eval_set=spelled(10, seed=2))
    assert len(stopped.validation_scores_ or ()) == 3
    parts = SequenceTranscriber(**QUICK)
    with pytest.raises(ValueError, match="classes must be passed"):
        parts.partial_fit(X, Y)
    parts.partial_fit(X[:5], Y[:5], classes=LETTERS).partial_fit(X[5:], Y[5:])
    assert parts.n_iter_ == 2


def test_step_gives_what_predict_proba_gives() -> None:
    transcriber = SequenceTranscriber(**QUICK).fit(X, Y)
    expected = transcriber.predict_proba(X[:1])[0]
    state = None
    for t, x in enumerate(X[0]):
        found, state = transcriber.step(x, state)
        np.testing.assert_allclose(found, expected[t], rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match="bidirectional=False"):
        SequenceTranscriber(bidirectional=True, **QUICK).fit(X, Y).step(X[0][0])


def test_files_and_pickles(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    transcriber = SequenceTranscriber(decoder="beam", **QUICK).fit(X, Y)
    transcriber.save(path)
    for other in (lstmcore.load(path), pickle.loads(pickle.dumps(transcriber))):
        assert other.get_params() == transcriber.get_params()
        for a, b in zip(other.predict(X), transcriber.predict(X), strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(lstmcore.load_model(path).predict_proba(X), transcriber.predict_proba(X), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not hasattr(clone(transcriber), "model_")
    tensors, texts = _core.read_tensors(str(path))
    texts = {k: v for k, v in texts.items() if k not in ("format", "format_version", "lstmcore_version", "checksum")}
    document = json.loads(texts["network"])
    for change in ({"outputs": 3}, {"outputs": 2**31}, {"inputs": 3}, {"crf": True}):
        changed = {**document, "config": {**document["config"], **change}}
        _core.write_tensors(str(path), tensors, {**texts, "network": json.dumps(changed)})
        with pytest.raises(ModelFileError):
            pytest.fail(f"{change}: {lstmcore.load(path)}")


@pytest.mark.parametrize(
    ("data", "labels", "error", "message"),
    [
        ([], [], ValueError, "X"),
        (X[:2], [["a"], ["b"] * 60], ValueError, r"y\[1\] has 60 labels, which need at least 119 steps"),
        (X[:2], [["a"]], ValueError, "y has 1 entries, but X has 2"),
        (X[:2], ["ab", "c"], TypeError, r"y\[0\] is one text. Expected a sequence of labels: list\('ab'\)"),
        (X[:2], "ab", TypeError, "y: expected N sequences"),
        (X[:2], [["a"], [["b"]]], ValueError, r"y\[1\]: expected a sequence of labels"),
        (X[:2], [["a"], [1]], ValueError, "do not mix"),
        (X[:2], [["a", 1], ["a"]], ValueError, r"y\[0\]: labels that are text do not mix"),
        (X[:2], [[], []], ValueError, "y has no labels at all"),
        (X[:2], [[0.5], [1.5]], ValueError, "Unknown label type"),
        (X[:2], [["a"], [None]], ValueError, "None and NaN are none|do not mix"),
    ],
)
def test_refused_data(data: Any, labels: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        SequenceTranscriber(**QUICK).fit(data, labels)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"decoder": "best"}, ValueError, "'decoder' parameter"),
        ({"beam_width": 0}, ValueError, "'beam_width' parameter"),
        ({"pooling": "last"}, ValueError, "'pooling' parameter"),
        ({"bptt_steps": 3}, NotImplementedError, "bptt_steps=3"),
    ],
)
def test_refused_parameters(parameters: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        SequenceTranscriber(**{**QUICK, **parameters}).fit(X, Y)


def test_refused_in_prediction() -> None:
    with pytest.raises(NotFittedError):
        SequenceTranscriber().predict(X)
    transcriber = SequenceTranscriber(**QUICK).fit(X, Y)
    with pytest.raises(ValueError, match=r"y\[0\]: the label 'z' is unknown. Known labels: 'a', 'b', 'c'"):
        transcriber.score(X[:1], [["z"]])
    with pytest.raises(TypeError, match="score: expected a callable"):
        transcriber.decode(X[:1], score="lm")  # type: ignore[arg-type]


def test_edit_distance_and_label_error_rate() -> None:
    for a, b, expected in (("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)):
        assert metrics.edit_distance(a, b) == metrics.edit_distance(b, a) == expected
    assert metrics.label_error_rate([[1, 2], [3]], [[1], np.array([3, 3])]) == pytest.approx(2 / 3)
    for arguments in (([[1]], []), ([[]], [[1]])):
        with pytest.raises(ValueError, match="y_true"):
            metrics.label_error_rate(*arguments)
