"""The picture of labels along a sequence: what is drawn is what the estimator says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
from lstmcore import SequenceClassifier, SequenceTagger, SequenceTranscriber, plotting

RNG = np.random.default_rng(0)
X = [RNG.normal(size=(length, 2)) for length in (5, 8, 6, 1)]
Y = [["a", "b", "a", "b", "c", "a", "b", "c"][: len(x)] for x in X]
QUICK = {"hidden_size": 4, "max_iter": 2, "random_state": 0, "n_jobs": 1}
TAGGER = SequenceTagger(**QUICK).fit(X, Y)


def test_a_tagger(tmp_path: Path) -> None:
    axes = TAGGER.plot_labels(X, Y, sequence=1)
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert list(lines) == ["a", "b", "c"]
    expected = TAGGER.predict_proba(X)[1]
    np.testing.assert_array_equal(np.array(list(lines.values())).T, expected)
    wrong = int((TAGGER.predict(X)[1] != np.array(Y[1])).sum())
    assert f"wrong: {wrong} of 8" in [text.get_text() for text in axes.get_legend().get_texts()]
    axes.figure.savefig(tmp_path / "labels.png")
    one = plotting.plot_labels(TAGGER, X, sequence=3)
    assert len(one.get_lines()) == 3
    given = plotting.plot_labels(TAGGER, X, ax=one)
    assert given is one


def test_a_transcriber() -> None:
    transcriber = SequenceTranscriber(**QUICK).fit(X[:3], [y[:2] for y in Y[:3]])
    axes = transcriber.plot_labels(X[:3], [y[:2] for y in Y[:3]], sequence=2)
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert list(lines) == ["a", "b", "none"]
    np.testing.assert_allclose(np.sum(list(lines.values()), axis=0), np.ones(6), atol=1e-6)
    found = " ".join(transcriber.predict(X[:3])[2].tolist())
    assert axes.get_title() == f"read: {found}      right: a b"


def test_many_labels_name_the_probable_ones() -> None:
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(30, 2)) for _ in range(4)]
    tagger = SequenceTagger(**QUICK).fit(data, [np.arange(30) for _ in data])
    axes = tagger.plot_labels(data)
    assert len(axes.get_legend().get_texts()) == 10
    assert len(axes.get_lines()) == 30


def test_refused() -> None:
    with pytest.raises(ValueError, match="sequence=4: expected an int from 0 to 3"):
        TAGGER.plot_labels(X, sequence=4)
    with pytest.raises(ValueError, match="sequence='a'"):
        TAGGER.plot_labels(X, sequence="a")
    with pytest.raises(ValueError, match="y has 2 sequences, but X has 4"):
        TAGGER.plot_labels(X, Y[:2])
    with pytest.raises(ValueError, match=r"y\[1\] has 3 labels, but X\[1\] has 8 steps"):
        TAGGER.plot_labels(X, [y[:3] for y in Y], sequence=1)
    with pytest.raises(TypeError, match="expected a SequenceTagger or SequenceTranscriber, got SequenceClassifier"):
        plotting.plot_labels(SequenceClassifier(), X)
    with pytest.raises(ValueError, match="not fitted"):
        SequenceTagger().plot_labels(X)
