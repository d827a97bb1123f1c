"""Model files and the safetensors package read each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checking import assert_all_bitwise, assert_bitwise
from lstmcore import ModelFileError
from lstmcore._core import Model

safetensors = pytest.importorskip("safetensors")
safetensors_numpy = pytest.importorskip("safetensors.numpy")


def make(dtype: str) -> Model:
    recurrent = {"cell": "lstm", "input_size": 3, "hidden_size": 5, "bidirectional": True, "dtype": dtype, "seed": 2}
    model = Model({"recurrent": recurrent, "pooling": "mean", "activation": "softmax", "outputs": 4})
    model.set_preprocessing([0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [0.0] * 4, [1.0] * 4)
    return model


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with safetensors.safe_open(str(path), framework="numpy") as file:
        tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_package_reads_ours(tmp_path: Path, dtype: str) -> None:
    model = make(dtype)
    model.save(str(tmp_path / "model"), {"classes": '["ä", 2]'})
    tensors, metadata = read(tmp_path / "model")
    expected = {**model.parameters, **model.preprocessing}
    assert_all_bitwise({name: tensors[name] for name in expected}, expected, "tensors")
    assert set(tensors) == set(expected)
    assert metadata["format"] == "lstmcore"
    assert metadata["classes"] == '["ä", 2]'
    whole = safetensors_numpy.load_file(tmp_path / "model")
    assert_all_bitwise({name: whole[name] for name in expected}, expected, "load_file")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_we_read_the_packages(tmp_path: Path, dtype: str) -> None:
    """It orders tensors and metadata its own way; the checksum does not depend on that."""
    model = make(dtype)
    model.save(str(tmp_path / "ours"), {"classes": "[1]"})
    tensors, metadata = read(tmp_path / "ours")
    safetensors_numpy.save_file(tensors, tmp_path / "theirs", metadata)
    assert (tmp_path / "theirs").read_bytes() != (tmp_path / "ours").read_bytes()
    loaded = Model.load(str(tmp_path / "theirs"))
    assert_bitwise(loaded.get_weights(), model.get_weights(), "weights")
    assert loaded.metadata == {"classes": "[1]"}


def test_its_other_files_are_refused(tmp_path: Path) -> None:
    safetensors_numpy.save_file({"weight": np.zeros((2, 3), np.float32)}, tmp_path / "other", {"format": "pt"})
    with pytest.raises(ModelFileError, match=r"not a model of lstmcore .metadata 'format' is 'pt'"):
        Model.load(str(tmp_path / "other"))
