"""The example that goes all the way: speech, training, integers, C, and the same words heard in Python and in C."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "spoken_digits"
CC = shutil.which("cc") or shutil.which("gcc")


@pytest.mark.skipif(shutil.which("espeak-ng") is None or CC is None, reason="needs espeak-ng and a C compiler")
def test_c_hears_what_python_hears(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*command: str, stdin: Path = Path(os.devnull)) -> str:
        with stdin.open("rb") as given:
            done = subprocess.run(
                command, stdin=given, capture_output=True, encoding="utf-8", check=False, env=environment
            )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python = [sys.executable, "-W", "error"]
    train = [str(FOLDER / "train.py"), "--words", "400", "--epochs", "20", "--output", str(tmp_path)]
    printed = run(*python, *train)
    heard = re.findall(r"^ *\d+\.\d\d s  \w+$", printed, re.MULTILINE)
    assert len(heard) > 10, printed
    score = re.search(r"int8 .* words heard (\S+),", printed)
    assert score is not None, printed
    assert float(score[1]) > 0.5, printed
    code = tmp_path / "c"
    run(*python, "-m", "lstmcore", "export", str(tmp_path / "digits.safetensors"), "--c", str(code), "--name", "digits")
    sources = [str(FOLDER / "listen.c"), str(code / "digits.c"), str(code / "lstmcore_edge.c")]
    strict = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
    run(str(CC), "-std=c99", "-O2", *strict, f"-I{code}", "-o", str(tmp_path / "listen"), *sources)
    assert run(str(tmp_path / "listen"), stdin=tmp_path / "stream.f32").splitlines() == heard


def test_the_command_line_says_what_is_missing(tmp_path):
    def refusal(*arguments: str) -> str:
        command = [sys.executable, "-m", "lstmcore", "export", *arguments, "--c", str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 1
        assert not (tmp_path / "out").exists()
        return done.stderr

    assert "nowhere.safetensors" in refusal(str(tmp_path / "nowhere.safetensors"))
    import numpy as np

    from lstmcore import SequenceClassifier

    X = np.random.default_rng(0).normal(size=(20, 5, 2))
    model = SequenceClassifier(hidden_size=4, max_iter=1, early_stopping=False).fit(X, X[:, 0, 0] > 0)
    path = str(tmp_path / "float.safetensors")
    model.save(path)
    assert "is not quantised: give --scheme float32, or --scheme int8 --calibration X.npy" in refusal(path)
    np.save(tmp_path / "X.npy", X)
    assert "needs X_calibration" in refusal(path, "--scheme", "int8")
    model.quantize(X).save(tmp_path / "int8.safetensors")
    assert "is quantised already" in refusal(str(tmp_path / "int8.safetensors"), "--scheme", "int8")
    command = [sys.executable, "-m", "lstmcore", "export", path, "--scheme", "int8"]
    command += ["--calibration", str(tmp_path / "X.npy"), "--c", str(tmp_path / "out"), "--name", "small"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert str(tmp_path / "out" / "small.h") in done.stdout.splitlines()
