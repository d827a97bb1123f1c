"""A C++ project builds against the library in the installed wheel and runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import installed
import lstmcore

SOURCE = Path(__file__).resolve().parent.parent / "cpp/tests/consumer"


def tool(name: str) -> str:
    """Beside this interpreter (a virtual environment need not be active) or on the path."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    path = shutil.which(name, path=search)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def test_find_package(tmp_path: Path) -> None:
    if installed.sanitized():
        pytest.skip("a program has to be built with the same sanitizer: ctest's consumer test does that")
    cmake = tool("cmake")
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]

    def run(*command: str | Path) -> str:
        process = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    run(cmake, "-S", SOURCE, "-B", tmp_path, *generator, f"-Dlstmcore_DIR={lstmcore.get_cmake_dir()}")
    run(cmake, "--build", tmp_path)
    output = run(tmp_path / "consumer")
    info = lstmcore.build_info()
    assert f"lstmcore {info['version']}, engine {info['isa']}" in output
    assert str(installed.LIB.resolve()) in run("ldd", tmp_path / "consumer")
