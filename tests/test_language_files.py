"""LanguageModel: where its text comes from, model files, and what it refuses."""

from __future__ import annotations

import copy
import io
import resource
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import lstmcore
from language_texts import CONFIG, FOX, NAMES, QUICK
from lstmcore import LanguageModel, ModelFileError, _core
from lstmcore.language.corpus import read_corpus
from lstmcore.language.network import Chunk, LanguageNetwork, vocabulary_to_json

Array = NDArray[Any]


# --- where text comes from -------------------------------------------------------------------------------------------


def test_forms_of_text(tmp_path: Path) -> None:
    files = []
    for k, text in enumerate(("abc " * 30, "cab " * 30)):
        files.append(tmp_path / f"{k}.txt")
        files[-1].write_text(text, encoding="utf-8")
    listed = ["abc " * 30, "cab " * 30]

    def opened() -> list[Any]:
        return [io.StringIO(text) for text in listed]

    forms: list[Any] = [listed, tuple(listed), np.array(listed), iter(listed), (t for t in listed), files, opened()]
    weights = [LanguageModel(**QUICK).fit(X).model_.core.get_weights() for X in forms]
    for k, other in enumerate(weights[1:]):
        assert np.array_equal(weights[0], other), k + 1
    one = LanguageModel(**QUICK).fit(listed[0]).model_.core.get_weights()
    assert np.array_equal(one, LanguageModel(**QUICK).fit(files[0]).model_.core.get_weights())
    with files[0].open(encoding="utf-8") as file:
        assert np.array_equal(one, LanguageModel(**QUICK).fit(file).model_.core.get_weights())


def test_text_on_disk_is_that_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text(FOX * 30, encoding="utf-8")
    for unit in ("character", "token"):
        settings = {**QUICK, "unit": unit, "shuffle": False}
        monkeypatch.setattr("lstmcore.language.corpus._IN_MEMORY", 1 << 22)
        memory = LanguageModel(**settings).fit(path)
        monkeypatch.setattr("lstmcore.language.corpus._IN_MEMORY", 100)
        monkeypatch.setattr("lstmcore.language.corpus._PIECE", 64)
        monkeypatch.setattr("lstmcore.language.corpus._BLOCKS", 64)
        disk = LanguageModel(**settings).fit(path)
        assert not read_corpus(path, "X", unit, None).in_memory
        assert np.array_equal(memory.model_.core.get_weights(), disk.model_.core.get_weights())
        assert disk.score(path) == memory.score(path)
        held = LanguageModel(**settings, early_stopping=True).fit(path)
        assert held.validation_loss_curve_ is not None
        assert held.validation_loss_curve_[-1] < held.validation_loss_curve_[0]


def test_memory_does_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A text of 56 MB is read, counted and trained on."""
    path = tmp_path / "large.txt"
    rng = np.random.default_rng(0)
    words = np.array(["alpha ", "beta ", "gamma\n", "delta "])
    with path.open("w", encoding="utf-8") as file:
        for _ in range(100):
            file.write("".join(words[rng.integers(4, size=1000)].tolist()) * 100)
    size = path.stat().st_size
    assert size > 50e6
    model = LanguageModel(
        hidden_size=2, embedding_size=2, batch_size=128, bptt_steps=1024, max_iter=1, random_state=0, n_jobs=1
    )
    gradients: dict[str, Array] = {}

    def counted(self: LanguageNetwork, chunk: Chunk, state: Any, seed: int) -> tuple[float, Any, dict[str, Array]]:
        """Arithmetic is left out but once: the way of the text is what is tried."""
        nonlocal gradients, symbols
        if not gradients:
            gradients = original(self, chunk, state, seed)[2]
        symbols += len(chunk.inputs)
        return 0.0, None, gradients

    original, symbols = LanguageNetwork.chunk_loss, 0
    monkeypatch.setattr(LanguageNetwork, "chunk_loss", counted)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        model.fit(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert symbols == size + 1
    assert peak < 0.9 * size, f"{peak / 1e6:.0f} MB by Python"
    assert grown < size, f"{grown / 1e6:.0f} MB"


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"softmax": "adaptive"}, {"unit": "token", "tokenizer": r"\w"}, {"tie_weights": True}], ids=str
)
def test_files(tmp_path: Path, options: dict[str, Any]) -> None:
    model = LanguageModel(**{**QUICK, **options}).fit(NAMES)
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = lstmcore.load(path)
    assert type(again) is LanguageModel
    assert again.get_params() == {**model.get_params()}
    assert np.array_equal(again.predict_proba(["ad"]), model.predict_proba(["ad"]))
    assert again.score(NAMES) == model.score(NAMES)
    assert again.generate("a", 20, random_state=3) == model.generate("a", 20, random_state=3)
    assert again.classes_.tolist() == model.classes_.tolist()
    again.partial_fit(NAMES)
    network = lstmcore.load_model(path)
    assert network.generate("a", 20, seed=3) == model.model_.generate("a", 20, seed=3)
    assert network.outputs(["ad"]).shape == (1, len(model.classes_))
    assert network.predict(["ad"]).shape == (1,)
    assert set(network.parameters) == set(model.model_.parameters)


def test_a_tokenizer_that_is_code_is_not_written(tmp_path: Path) -> None:
    model = LanguageModel(**QUICK, unit="token", tokenizer=str.split).fit("a b c d e f g h")
    with pytest.raises(ValueError, match="tokenizer"):
        model.save(tmp_path / "model")


HOSTILE: dict[str, Any] = {
    "hidden_size": [0, 2**40, "4", True, None],
    "embedding_size": [0, -1, 2**40, 3.0],
    "vocabulary": [None, {}, vocabulary_to_json(["a", "b", "c"]), vocabulary_to_json(["<eod>", "<unk>"]),
                   vocabulary_to_json(["<eod>", "<unk>", "ab"]), {"dtype": "O", "values": ["<eod>", "<unk>", 3]}],
    "unit": ["word", None, 3],
    "documents": ["all", 0],
    "tie_weights": [1, None, "yes"],
    "softmax": ["none", ["full"], "adaptive"],
    "cutoffs": [[3], None, "3", [1.0]],
    "cell": ["nothing", 3, None],
    "cell_options": [None, {"nothing": 1}],
    "dtype": ["float16", 32],
    "dropout": [1.0, -0.5, 0, "0", float("nan")],
    "num_layers": [0, 10**6],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in HOSTILE for value in HOSTILE[name]], ids=str)
def test_hostile_configs(name: str, value: Any) -> None:
    LanguageNetwork.shapes(CONFIG)
    with pytest.raises(ValueError, match=r"config|classes"):
        LanguageNetwork.shapes({**CONFIG, name: value})


def test_hostile_cutoffs() -> None:
    adaptive = {**CONFIG, "softmax": "adaptive"}
    LanguageNetwork.shapes({**adaptive, "cutoffs": [1, 8]})
    for cutoffs in ([0, 3], [3, 3], [5, 4], [9], [3, 100], [True], []):
        with pytest.raises(ValueError, match="cutoffs"):
            LanguageNetwork.shapes({**adaptive, "cutoffs": cutoffs})
    for config in ({**CONFIG, "more": 1}, {k: v for k, v in CONFIG.items() if k != "unit"}):
        with pytest.raises(ValueError, match="entries"):
            LanguageNetwork.shapes(config)


def test_a_file_of_another_model(tmp_path: Path) -> None:
    model = LanguageModel(**QUICK).fit(NAMES)
    path = tmp_path / "model"
    model.save(path)
    tensors, texts = _core.read_tensors(str(path))
    for old, new in (
        ('"documents": "separate", "embedding_size"', '"documents": "joined", "embedding_size"'),
        ('"n_features_in_": 1', '"n_features_in_": 2'),
    ):
        changed = {key: text.replace(old, new) if key == "estimator" else text for key, text in texts.items()}
        assert changed != texts
        _core.write_tensors(str(path), tensors, changed)
        with pytest.raises(ModelFileError):
            lstmcore.load(path)


# --- errors ----------------------------------------------------------------------------------------------------------


class Nothing:
    pass


def empty() -> Iterator[str]:
    yield from ()


FIT_ERRORS: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (None, {}, TypeError, "X: expected text.*NoneType"),
    (b"bytes", {}, TypeError, "decode"),
    (3, {}, TypeError, "X: expected text.*int"),
    ({"a": "b"}, {}, TypeError, "dict"),
    (Nothing(), {}, TypeError, "Nothing"),
    ("", {}, ValueError, "X is empty"),
    ([], {}, ValueError, "X is empty"),
    (empty(), {}, ValueError, "X is empty"),
    ([""], {}, ValueError, "X is empty"),
    ("short", {}, ValueError, "6 symbols.*bptt_steps=8.*lower bptt_steps"),
    (["fine " * 9, None], {}, TypeError, r"X\[1\].*NoneType"),
    (["fine " * 9, b"x"], {}, TypeError, r"X\[1\].*decode"),
    (["fine " * 9, 3], {}, TypeError, r"X\[1\].*int"),
    ([["a", "b"]] * 9, {}, TypeError, r"X\[0\].*unit='token'"),
    (np.zeros((5, 4)), {}, ValueError, "Numbers have no next symbol"),
    ([["a", 3]], {"unit": "token"}, TypeError, r"X\[0\].*got 3"),
    ([["a", ""]], {"unit": "token"}, TypeError, r"X\[0\].*''"),
    (["one", "two", "three"] * 9, {"unit": "token"}, ValueError, r"\[X\]"),
    (FOX, {"bidirectional": True}, ValueError, "bidirectional=False"),
    (FOX, {"tokenizer": r"\w"}, ValueError, "unit='token'"),
    (FOX, {"tokenizer": "(", "unit": "token"}, ValueError, "tokenizer"),
    (FOX, {"softmax": "adaptive", "tie_weights": True}, ValueError, "Use softmax='full' or 'sampled'"),
    (FOX, {"cutoffs": [3]}, ValueError, "softmax='adaptive'"),
    (FOX, {"softmax": "adaptive", "cutoffs": [3, 99]}, ValueError, "cutoffs"),
    (FOX, {"softmax": "adaptive", "cutoffs": [3, 2]}, ValueError, "rising"),
    (FOX, {"softmax": "sampled"}, ValueError, "n_samples=1024 for"),
    (FOX, {"min_frequency": 10_000}, ValueError, "min_frequency=10000"),
    (FOX, {"vocabulary": ["ab"]}, ValueError, "single characters"),
    (FOX, {"vocabulary": ["a", "a"]}, ValueError, "vocabulary"),
    (FOX, {"vocabulary": ["a"], "max_vocabulary": 3}, ValueError, "vocabulary goes with"),
    (FOX, {"vocabulary": ["<unk>"], "unit": "token"}, ValueError, "no symbol"),
    (FOX, {"unit": "word"}, ValueError, "unit"),
    (FOX, {"hidden_size": "64"}, ValueError, "hidden_size"),
    (FOX, {"bptt_steps": 0}, ValueError, "bptt_steps"),
    (FOX, {"bptt_steps": None}, ValueError, "bptt_steps"),
    (FOX, {"cell": "nothing"}, ValueError, "nothing"),
    (FOX, {"device": "cuda"}, NotImplementedError, "cuda"),
    (FOX, {"learning_rate_init": 1e38, "solver": "sgd", "clip_norm": None}, ValueError, "diverged"),
]


@pytest.mark.parametrize(("X", "options", "kind", "message"), FIT_ERRORS, ids=[str(k) for k in range(len(FIT_ERRORS))])
def test_fit_errors(X: Any, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        LanguageModel(**{**QUICK, **options}).fit(X)


def test_errors_of_files(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"caf\xe9 " * 20)
    with pytest.raises(ValueError, match="pathlib"):
        LanguageModel(**QUICK).fit(str(path))
    with pytest.raises(ValueError, match="not UTF-8"):
        LanguageModel(**QUICK).fit(path)
    with path.open(encoding="latin-1") as file:
        assert "é" in LanguageModel(**QUICK).fit(file).classes_
    with path.open("rb") as raw, pytest.raises(TypeError, match="without 'b'"):
        LanguageModel(**QUICK).fit(raw)
    with pytest.raises(FileNotFoundError):
        LanguageModel(**QUICK).fit(tmp_path / "missing")


@pytest.fixture(scope="module")
def fox() -> LanguageModel:
    model = LanguageModel(hidden_size=32, bptt_steps=20, batch_size=4, max_iter=40, random_state=0, n_jobs=1)
    return model.fit(FOX * 40)


USE_ERRORS: list[tuple[Callable[[LanguageModel], Any], type[Exception], str]] = [
    (lambda m: m.generate(3), TypeError, "prompt: expected text, got int"),
    (lambda m: m.generate("a", -1), ValueError, "length"),
    (lambda m: m.generate("a", 2.5), ValueError, "length"),  # type: ignore[arg-type]
    (lambda m: m.generate("a", temperature=-1), ValueError, "temperature"),
    (lambda m: m.generate("a", temperature="hot"), TypeError, "temperature"),  # type: ignore[arg-type]
    (lambda m: m.generate("a", top_k=0), ValueError, "top_k"),
    (lambda m: m.generate("a", top_p=2), ValueError, "top_p"),
    (lambda m: m.generate("a", stop=""), ValueError, "stop"),
    (lambda m: m.generate("a", stop=3), TypeError, "stop"),  # type: ignore[arg-type]
    (lambda m: m.generate("a", n_texts=0), ValueError, "n_texts"),
    (lambda m: m.generate(["a", "b"], n_texts=2), ValueError, "n_texts"),
    (lambda m: m.generate([]), ValueError, "prompt"),
    (lambda m: m.predict_proba(None), TypeError, r"X\[0\].*NoneType"),
    (lambda m: m.predict_proba([]), ValueError, "X is empty"),
    (lambda m: m.predict([b"a"]), TypeError, r"X\[0\]"),
    (lambda m: m.score(""), ValueError, "X is empty"),
    (lambda m: m.step("ab"), ValueError, "one character"),
    (lambda m: m.step(3), TypeError, "x: expected"),
    (lambda m: m.step([]), TypeError, "x: expected"),
    (lambda m: m.step("a", {"h": 3}), TypeError, "state"),
    (lambda m: m.step(["a", "b"], m.step("a")[1]), ValueError, "state"),
]


@pytest.mark.parametrize(("call", "kind", "message"), USE_ERRORS, ids=[str(k) for k in range(len(USE_ERRORS))])
def test_errors_of_use(fox: LanguageModel, call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(fox)


def test_not_fitted() -> None:
    model = LanguageModel()
    for call in (
        model.score,
        model.perplexity,
        model.predict,
        model.predict_proba,
        model.generate,
        model.score_samples,
    ):
        with pytest.raises(NotFittedError):
            call("text")
    with pytest.raises(ValueError, match="joined"):
        LanguageModel(**QUICK, documents="joined").fit(NAMES).score_samples(NAMES)


def test_parameters_are_stored_as_given() -> None:
    model = LanguageModel(hidden_size=7, vocabulary=["a"], tokenizer=str.split)
    assert clone(model).get_params() == model.get_params()
    assert copy.deepcopy(model).hidden_size == 7


def test_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    original = LanguageNetwork.chunk_loss

    def interrupted(self: LanguageNetwork, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    monkeypatch.setattr(LanguageNetwork, "chunk_loss", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        model = LanguageModel(**QUICK).fit(NAMES)
    assert isinstance(model.generate("a", 5), str)
