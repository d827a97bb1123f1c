"""Streams of symbols: every one predicted once, states carried on, gradients of every kind of output."""

from __future__ import annotations

import itertools
import string
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from language_texts import CONFIG, FOX, NAMES, corpus_of
from lstmcore.language.corpus import Vocabulary
from lstmcore.language.network import Chunk, LanguageNetwork, vocabulary_to_json
from lstmcore.language.training import document_losses, stream_chunks
from reference import language as reference

Array = NDArray[Any]


@pytest.mark.parametrize("lanes", [1, 3, 7])
@pytest.mark.parametrize("steps", [1, 5, 64])
@pytest.mark.parametrize("texts", [FOX * 3, NAMES, ["", "a", "", "bb"], "x"])
def test_every_symbol_is_predicted_once(texts: Any, steps: int, lanes: int) -> None:
    corpus = corpus_of(texts)
    stream = corpus.read(0, corpus.predictions + 1)
    listed = [texts] if isinstance(texts, str) else texts
    vocabulary = Vocabulary(list(string.ascii_lowercase + ". "))
    expected = [0]
    for text in listed:
        expected += [vocabulary.code(c) for c in text] + [0]
    assert stream.tolist() == expected
    pairs = []
    for chunk in stream_chunks(corpus, lanes, steps, separate=True):
        assert chunk.lengths.sum() == len(chunk.inputs) == len(chunk.targets)
        assert len(chunk.last) <= lanes
        pairs += list(zip(chunk.inputs.tolist(), chunk.targets.tolist(), strict=True))
        starts = np.cumsum(chunk.lengths) - chunk.lengths
        assert ((chunk.inputs == 0) == np.isin(np.arange(len(chunk.inputs)), starts[chunk.inputs[starts] == 0])).all()
        assert (chunk.carried[chunk.inputs[starts] == 0] == -1).all()
    assert sorted(pairs) == sorted(itertools.pairwise(expected))


@pytest.mark.parametrize("documents", ["separate", "joined"])
def test_states_are_carried_from_chunk_to_chunk(documents: str) -> None:
    """Read in chunks, in lanes, a text has the losses that it has when read at once."""
    network = LanguageNetwork({**CONFIG, "documents": documents}, seed=1)
    corpus = corpus_of(["abcde" * 4, "fg", "", "gfedcba" * 3], labels="abcdefg")
    separate = documents == "separate"
    stream = corpus.read(0, corpus.predictions + 1)

    def loss_of(codes: Array) -> float:
        h, _, _ = network.layer_outputs(codes[:-1], np.array([len(codes) - 1]), None, training=False)
        p = network.parameters
        return float(reference.softmax_losses(h, p["head_W"], p["head_b"], codes[1:]).sum())

    if separate:
        cuts = [0, *corpus.ends.tolist()]
        expected = [loss_of(stream[a : b + 1]) for a, b in itertools.pairwise(cuts)]
    else:
        expected = [loss_of(stream)]
    for steps in (1, 3, 100):
        state, total = None, 0.0
        for chunk in stream_chunks(corpus, 1, steps, separate):
            loss, state, gradients = network.chunk_loss(chunk, state, 0, training=False)
            total += loss
            assert gradients == {}
        assert total == pytest.approx(sum(expected), rel=1e-11)
        for at_once in (1, 2, 10):
            found = document_losses(network, corpus, at_once, steps, separate)
            np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_lanes_carry_their_own_states() -> None:
    network = LanguageNetwork({**CONFIG, "documents": "joined"}, seed=1)
    corpus = corpus_of("abcdefg" * 9, labels="abcdefg")
    edges = np.arange(4) * corpus.predictions // 3
    stream = corpus.read(0, corpus.predictions + 1)
    expected = 0.0
    for a, b in itertools.pairwise(edges):
        losses, _ = network.token_losses(stream[a:b], stream[a + 1 : b + 1], np.array([b - a]), None)
        expected += float(losses.sum())
    state, total = None, 0.0
    for chunk in stream_chunks(corpus, 3, 4, separate=False):
        loss, state, _ = network.chunk_loss(chunk, state, 0, training=False)
        total += loss
    assert total == pytest.approx(expected, rel=1e-11)


HEADS: dict[str, dict[str, Any]] = {
    "full": {},
    "tied": {"tie_weights": True, "embedding_size": 4},
    "tied by a projection": {"tie_weights": True},
    "adaptive": {"softmax": "adaptive", "cutoffs": [3, 6]},
    "sampled": {"softmax": "sampled"},
    "sampled, tied": {"softmax": "sampled", "tie_weights": True},
    "two layers": {"num_layers": 2, "cell": "gru"},
    "xlstm": {"cell": "xlstm"},
    "projected": {"cell_options": {"proj_size": 2}, "tie_weights": True},
}


@pytest.mark.parametrize("head", HEADS)
def test_gradients(head: str) -> None:
    """Of one chunk that goes on from given states, with beginnings of documents in it."""
    network = LanguageNetwork({**CONFIG, **HEADS[head]}, seed=3)
    network.samples = 4
    rng = np.random.default_rng(0)
    for value in network.parameters.values():
        value[...] = 0.5 * rng.standard_normal(value.shape)
    inputs = np.array([3, 4, 0, 5, 5, 8, 1, 2, 7, 0], dtype=np.int32)
    targets = np.array([4, 8, 5, 5, 8, 1, 2, 7, 3, 6], dtype=np.int32)
    chunk = Chunk(inputs, targets, np.array([2, 4, 3, 1]), np.array([0, -1, 1, -1]), np.array([1, 3]))
    state = {name: 0.5 * rng.standard_normal(value.shape) for name, value in network.init_state(2).items()}
    if "n" in state or network.config["cell"] == "xlstm":
        state = {name: np.abs(value) for name, value in state.items()}

    def mean() -> float:
        return network.chunk_loss(chunk, state, 5)[0] / len(inputs)  # the seed decides on samples

    _, after, gradients = network.chunk_loss(chunk, state, 5)
    assert set(gradients) == set(network.parameters)
    assert all(value.shape[1] == 2 for value in after.values())
    for name, value in network.parameters.items():
        assert gradients[name].shape == value.shape
        for index in list(np.ndindex(value.shape))[:: max(1, value.size // 25)]:
            kept, sums = value[index], []
            for h in (1e-3, -1e-3, 2e-3, -2e-3):
                value[index] = kept + h
                sums.append(mean())
            value[index] = kept
            slope = (8 * (sums[0] - sums[1]) - (sums[2] - sums[3])) / 12e-3
            assert gradients[name][index] == pytest.approx(slope, rel=1e-6, abs=1e-9), (name, index)


def test_adaptive_softmax_equals_its_reference() -> None:
    network = LanguageNetwork({**CONFIG, **HEADS["adaptive"]}, seed=3)
    rng = np.random.default_rng(0)
    h, targets = rng.standard_normal((20, 4)), rng.integers(9, size=20).astype(np.int32)
    p = network.parameters
    tails = [tuple(p[f"tail{c}_{part}"] for part in "PWb") for c in range(2)]
    expected = reference.adaptive_log_probabilities(h, (p["head_W"], p["head_b"]), tails)  # type: ignore[arg-type]
    np.testing.assert_allclose(network.log_probabilities(h), expected, rtol=1e-11, atol=1e-12)
    total, _, _ = network._head_loss(h, targets, np.random.RandomState(0), training=False)
    assert total == pytest.approx(-expected[np.arange(20), targets].sum(), rel=1e-12)


@pytest.mark.parametrize("softmax", ["full", "adaptive", "sampled"])
def test_an_untrained_model_predicts_frequencies(softmax: str) -> None:
    """Biases begin at the logarithms of the symbols' shares; weights add little to them."""
    counts = np.array([5, 0, 100, 50, 20, 10, 5, 5, 5])
    network = LanguageNetwork({**CONFIG, "softmax": softmax, "cutoffs": [3, 6] if softmax == "adaptive" else []})
    network.start_from(counts)
    found = np.exp(network.log_probabilities(np.zeros((1, 4))))[0]
    np.testing.assert_allclose(found, (counts + 1) / (counts + 1).sum(), rtol=1e-12)


def test_sampled_softmax_approaches_the_full_one() -> None:
    """The gradient's mean over many draws is near that of the full softmax, which it estimates."""
    labels = ["<eod>", "<unk>", *(chr(97 + k) for k in range(26)), *(chr(65 + k) for k in range(26))]
    config = {**CONFIG, "vocabulary": vocabulary_to_json(labels), "softmax": "sampled"}
    network = LanguageNetwork(config, seed=2)
    network.samples = 20
    rng = np.random.default_rng(0)
    h, targets = rng.standard_normal((8, 4)), rng.integers(54, size=8).astype(np.int32)
    full = LanguageNetwork({**config, "softmax": "full"}, seed=2)
    exact = full._head_loss(h, targets, np.random.RandomState(0), True)[2]["head_b"]
    draws = [network._head_loss(h, targets, np.random.RandomState(k), True)[2]["head_b"] for k in range(400)]
    error = np.linalg.norm(np.mean(draws, axis=0) - exact) / np.linalg.norm(exact)
    assert error < 0.15
    assert np.linalg.norm(draws[0] - exact) / np.linalg.norm(exact) > 2 * error
