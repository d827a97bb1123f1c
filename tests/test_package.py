"""What an installed package consists of."""

from __future__ import annotations

import importlib.metadata
import re
import zlib
from pathlib import Path

import pytest

import installed
import lstmcore

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = [installed.core(), installed.LIBRARY, *installed.ENGINES]


def version_in_cmake() -> str:
    match = re.search(r"project\(lstmcore VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())
    assert match
    return match.group(1)


def test_one_version() -> None:
    assert lstmcore.__version__ == lstmcore.build_info()["version"] == version_in_cmake()
    try:
        assert importlib.metadata.version("lstmcore") == lstmcore.__version__
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is staged, not installed")


def test_the_package_tested_is_not_the_source_tree() -> None:
    assert not installed.PACKAGE.is_relative_to(ROOT / "python")


def test_headers_and_cmake_package() -> None:
    public = {path.name for path in (ROOT / "cpp/include/lstmcore").glob("*.hpp")}
    assert {path.name for path in (Path(lstmcore.get_include()) / "lstmcore").iterdir()} == public
    assert (Path(lstmcore.get_cmake_dir()) / "lstmcoreConfig.cmake").is_file()
    assert (installed.PACKAGE / "py.typed").is_file()


def test_no_path_of_the_build_machine() -> None:
    """CMake's files must work wherever the wheel is unpacked."""
    for path in Path(lstmcore.get_cmake_dir()).glob("*.cmake"):
        assert str(ROOT) not in path.read_text()


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.name.split(".")[0])
def test_run_paths_are_relative(path: Path) -> None:
    dynamic = installed.binutil("readelf", "-d", path)
    run_paths = re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", dynamic)
    assert run_paths == (["$ORIGIN/lib"] if path == installed.core() else [])


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.name.split(".")[0])
def test_stripped(path: Path) -> None:
    if installed.sanitized():
        pytest.skip("a sanitizer's report needs the symbols")
    assert ".symtab" not in installed.binutil("readelf", "-S", "-W", path)


def test_size() -> None:
    if installed.sanitized():
        pytest.skip("sanitizers multiply the size")
    files = {path.resolve() for path in installed.PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert sum(path.stat().st_size for path in files) <= 12e6  # three engines are 7 MB of it
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) <= 5.5e6, "what a wheel of them weighs"
