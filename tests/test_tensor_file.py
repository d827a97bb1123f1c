"""_core.write_tensors and read_tensors: every bit comes back, and a hostile file is a ModelFileError."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import model_bytes
from checking import assert_bitwise
from lstmcore import ModelFileError, __version__, _core, load_model

Arrays = dict[str, np.ndarray]
TEXTS = {"a": '["é", "\\u0000"]', "": "no name", "empty": "", "odd": '\0\t"\\\x7f😀'}


def make() -> Arrays:
    rng = np.random.default_rng(0)
    odd = np.array([0.1, -0.0, 5e-324, np.nextafter(1.0, 2.0), 1 / 3])
    return {
        "single": rng.standard_normal((3, 1, 2)).astype("f4"),
        "double": odd,
        "number": np.array(2.5),
        "strided": rng.standard_normal((4, 3)).T,
        "é": np.ones((1,) * 32, "f4"),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tensors"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("small") / "tensors"
    _core.write_tensors(path, {"W": np.arange(6.0).reshape(2, 3), "b": np.ones(3, "f4")}, {"key": "text"})
    return path.read_bytes()


def read_bytes(path: Path, data: bytes) -> tuple[Arrays, dict[str, str]]:
    path.write_bytes(data)
    return _core.read_tensors(path)


def test_there_and_back(path: Path) -> None:
    tensors = make()
    _core.write_tensors(path, tensors, TEXTS)
    loaded, texts = _core.read_tensors(str(path))
    assert texts == TEXTS
    assert set(loaded) == set(tensors)
    for name, value in tensors.items():
        assert loaded[name].shape == value.shape
        assert loaded[name].dtype == value.dtype
        assert loaded[name].flags.writeable
        assert loaded[name].flags.c_contiguous
        assert_bitwise(loaded[name], value, name)


def test_content(path: Path) -> None:
    tensors = make()
    _core.write_tensors(path, tensors, {"key": "text"})
    found, metadata = model_bytes.read(path)
    for name, value in tensors.items():
        assert_bitwise(found[name], np.ascontiguousarray(value).reshape(value.shape), name)
    assert metadata.pop("checksum") == model_bytes.checksum(*model_bytes.split(path.read_bytes()))
    ours = {"format": "lstmcore.tensors", "format_version": "1", "lstmcore_version": __version__}
    assert metadata == ours | {"key": "text"}
    assert _core.read_metadata(path).items() >= metadata.items()


def test_no_tensors_and_no_texts(path: Path) -> None:
    _core.write_tensors(path, {}, {})
    assert _core.read_tensors(path) == ({}, {})


def test_every_truncation(path: Path, small: bytes) -> None:
    for length in range(len(small)):
        with pytest.raises(ModelFileError):
            read_bytes(path, small[:length])
    with pytest.raises(ModelFileError, match="belong to none"):
        read_bytes(path, small + b"\0" * 8)
    assert read_bytes(path, small)[1] == {"key": "text"}


def test_flipped_bits(path: Path, small: bytes) -> None:
    rng = np.random.default_rng(0)
    for position in range(len(small)):
        damaged = bytearray(small)
        damaged[position] ^= 1 << int(rng.integers(8))
        with pytest.raises(ModelFileError):
            read_bytes(path, bytes(damaged))


def test_noise(path: Path) -> None:
    rng = np.random.default_rng(1)
    for length in (0, 1, 7, 8, 9, 64, 1000):
        data = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        for read in (_core.read_tensors, _core.read_metadata):
            path.write_bytes(data)
            with pytest.raises(ModelFileError):
                read(path)


Change = Callable[[dict[str, Any]], object]


def entry(name: str, **changes: Any) -> Change:
    return lambda header: header[name].update(changes)


def text(name: str, value: str | None) -> Change:
    if value is None:
        return lambda header: header["__metadata__"].pop(name)
    return lambda header: header["__metadata__"].update({name: value})


def rename(header: dict[str, Any]) -> None:
    header[""] = header.pop("b")


HOSTILE: dict[str, tuple[Change, str]] = {
    "format of a model": (text("format", "lstmcore"), "metadata 'format' is 'lstmcore', expected 'lstmcore.tensors'"),
    "no format": (text("format", None), "metadata 'format' is missing"),
    "newer version": (text("format_version", "2"), "format version '2' is unknown"),
    "no version": (text("format_version", None), "metadata 'format_version' is missing"),
    "no metadata": (lambda header: header.pop("__metadata__"), "metadata 'format' is missing"),
    "integers": (entry("W", dtype="I64"), "tensor 'W': expected dtype F32 or F64, found I64"),
    "huge": (entry("W", shape=[2**62, 2**62]), "too large"),
    "negative": (entry("W", shape=[-2, -3]), "integers from 0"),
    "empty": (lambda header: header.update(z={"dtype": "F32", "shape": [0, 2**62], "data_offsets": [60, 60]}), "'z'"),
    "33 axes": (entry("W", shape=[1] * 31 + [2, 3]), "33 dimensions"),
    "other size": (entry("W", shape=[2, 4]), "takes 64 bytes"),
    "overlap": (entry("b", data_offsets=[40, 52]), "overlap"),
    "no name": (rename, "tensor '': expected a name"),
    "more in an entry": (entry("b", note="x"), "unknown entry 'note'"),
    "number as text": (lambda header: header["__metadata__"].update(key=1), "must be a string"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile(path: Path, small: bytes, case: str) -> None:
    change, message = HOSTILE[case]
    header, data = model_bytes.split(small)
    change(header)
    with pytest.raises(ModelFileError, match=message):
        read_bytes(path, model_bytes.join(header, data))  # all of it is found before the checksum is looked at


def test_numbers_that_are_not_finite(path: Path, small: bytes) -> None:
    header, data = model_bytes.split(small)
    for bad in (np.nan, np.inf):
        with pytest.raises(ModelFileError, match="'W' holds a value that is not finite"):
            read_bytes(path, model_bytes.sealed(header, struct.pack("<d", bad) + data[8:]))
        path.write_bytes(b"old")
        with pytest.raises(
            ModelFileError, match=r"cannot write tensors.*'W' holds a value that is not finite.*index 1"
        ):
            _core.write_tensors(path, {"W": np.array([0.0, bad], "f4")}, {})
        assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_wrong_checksum(path: Path, small: bytes) -> None:
    header, data = model_bytes.split(small)
    header["__metadata__"]["checksum"] = "fnv1a64:0000000000000000"
    with pytest.raises(ModelFileError, match="the file is damaged: its checksum"):
        read_bytes(path, model_bytes.join(header, data))


def test_models_and_tensor_files_are_told_apart(path: Path, small: bytes) -> None:
    _core.Model({"recurrent": {"input_size": 2, "hidden_size": 3}}).save(path)
    assert _core.read_metadata(path)["format"] == "lstmcore"
    with pytest.raises(ModelFileError, match=r"format' is 'lstmcore', expected"):
        _core.read_tensors(path)
    path.write_bytes(small)
    with pytest.raises(ModelFileError):
        load_model(path)
    with pytest.raises(ModelFileError, match=r"not a model of lstmcore.*lstmcore\.tensors"):
        _core.Model.load(path)


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "message"),
    [
        ({"W": np.zeros(2, int)}, {}, TypeError, r"tensors\['W'\]: expected dtype float32 or float64, got int64"),
        ({"W": np.zeros(2, "f2")}, {}, TypeError, r"tensors\['W'\]: expected dtype"),
        ({"W": [1.0]}, {}, TypeError, r"tensors\['W'\]: expected an ndarray, got list"),
        ({"W": np.zeros((0, 2))}, {}, ValueError, r"tensors\['W'\]: empty"),
        ({"": np.zeros(2)}, {}, ValueError, "expected a name"),
        ({"__metadata__": np.zeros(2)}, {}, ValueError, "expected a name"),
        ({3: np.zeros(2)}, {}, TypeError, "tensors key"),
        ([np.zeros(2)], {}, TypeError, "tensors"),
        ({}, {"checksum": "x"}, ValueError, "'checksum' is reserved"),
        ({}, {"format": "x"}, ValueError, "'format' is reserved"),
        ({}, {"key": 3}, TypeError, r"metadata\['key'\]"),
        ({}, None, TypeError, "metadata"),
    ],
)
def test_bad_arguments(path: Path, tensors: Any, metadata: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _core.write_tensors(path, tensors, metadata)
    assert not path.exists()


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        _core.write_tensors(tmp_path / "nowhere" / "file", {}, {})
    for read in (_core.read_tensors, _core.read_metadata):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            read(tmp_path / "nowhere")
        with pytest.raises(ModelFileError):
            read(tmp_path)
        with pytest.raises(TypeError, match="path"):
            read(3)


def test_duplicate_names(path: Path, small: bytes) -> None:
    header, data = model_bytes.split(small)
    doubled = json.dumps(header)[:-1] + ', "W": ' + json.dumps(header["W"]) + "}"
    with pytest.raises(ModelFileError):
        read_bytes(path, model_bytes.join(doubled, data))
