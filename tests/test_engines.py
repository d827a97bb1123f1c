"""Which engine runs: the best by default, the one that LSTMCORE_ISA names, or an error that says what is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import installed
import lstmcore

INFO = lstmcore.build_info()
KNOWN = {"baseline", "avx2", "avx512", "neon"}

SHOW = """
import lstmcore
print(lstmcore.build_info()["isa"])
print(*sorted({line.split("/")[-1].strip() for line in open("/proc/self/maps") if "liblstmcore_engine_" in line}))
"""


def run(code: str, isa: str | None = None, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "LSTMCORE_ISA"}
    if isa is not None:
        environment["LSTMCORE_ISA"] = isa
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def error(isa: str | None = None, path: Path | None = None) -> str:
    """Message of the RuntimeError that asking for this engine raises."""
    code = "import lstmcore\ntry:\n    lstmcore.build_info()\nexcept RuntimeError as e:\n    print('refused:', e)"
    process = run(code, isa, path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("refused: "), process.stdout
    return process.stdout


def test_lists() -> None:
    built, usable = INFO["isas_built"], INFO["isas_usable"]
    assert set(usable) <= set(built) <= KNOWN
    assert {f"liblstmcore_engine_{isa}.so" for isa in built} == {path.name for path in installed.ENGINES}
    assert list(usable) == [isa for isa in built if isa in usable]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_usable_agrees_with_the_kernel() -> None:
    """The kernel's own list of CPU features, from which it also strikes what it does not enable."""
    flags = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split(":")[1].split())
    if not flags:
        pytest.skip("not an x86 kernel")
    v3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"} <= flags
    v4 = v3 and {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags
    assert ("avx2" in INFO["isas_usable"]) == (v3 and "avx2" in INFO["isas_built"])
    assert ("avx512" in INFO["isas_usable"]) == (v4 and "avx512" in INFO["isas_built"])


@pytest.mark.parametrize("isa", INFO["isas_usable"])
def test_the_named_engine_runs_and_no_other(isa: str) -> None:
    process = run(SHOW, isa)
    assert process.stdout.splitlines() == [isa, f"liblstmcore_engine_{isa}.so"], process.stderr


@pytest.mark.parametrize("isa", [None, ""])
def test_the_best_engine_runs_by_default(isa: str | None) -> None:
    best = INFO["isas_usable"][-1]
    process = run(SHOW, isa)
    assert process.stdout.splitlines() == [best, f"liblstmcore_engine_{best}.so"], process.stderr


@pytest.mark.parametrize("isa", ["sse9", "AVX2", "avx2 ", "../../evil"])
def test_unknown_engine(isa: str) -> None:
    message = error(isa)
    assert f"LSTMCORE_ISA={isa}: there is no such engine" in message
    assert f"Engines that can run here: {', '.join(INFO['isas_usable'])}" in message


@pytest.mark.skipif(list(INFO["isas_usable"]) == list(INFO["isas_built"]), reason="this CPU runs every engine")
def test_engine_that_cannot_run() -> None:
    (isa, *_) = [isa for isa in INFO["isas_built"] if isa not in INFO["isas_usable"]]
    message = error(isa)
    assert f"LSTMCORE_ISA={isa}: this CPU or operating system cannot run it" in message
    assert f"Engines that can run here: {', '.join(INFO['isas_usable'])}" in message


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the installed package, to be damaged."""
    shutil.copytree(installed.PACKAGE, tmp_path / "lstmcore", ignore=shutil.ignore_patterns("__pycache__", "include"))
    return tmp_path


def engine_file(folder: Path, isa: str) -> Path:
    return folder / "lstmcore/lib" / f"liblstmcore_engine_{isa}.so"


def test_missing_engine_is_passed_over(copy: Path) -> None:
    *others, best = INFO["isas_usable"]
    engine_file(copy, best).unlink()
    assert f"LSTMCORE_ISA={best}: liblstmcore_engine_{best}.so is missing in {copy}/lstmcore/lib" in error(best, copy)
    if others:
        assert run(SHOW, None, copy).stdout.split()[0] == others[-1]


def test_no_engine_at_all(copy: Path) -> None:
    for isa in INFO["isas_built"]:
        engine_file(copy, isa).unlink()
    message = error(None, copy)
    assert "found no engine that can run here" in message
    assert f"{copy}/lstmcore/lib" in message


def test_importing_loads_no_engine(copy: Path) -> None:
    """So a broken engine is an error where it is used, not where the package is imported."""
    for isa in INFO["isas_built"]:
        engine_file(copy, isa).unlink()
    assert run("import lstmcore", None, copy).returncode == 0


def test_file_that_is_no_library(copy: Path) -> None:
    best = INFO["isas_usable"][-1]
    file = engine_file(copy, best)
    file.write_bytes(b"An apology from the package mirror, say.")
    assert f"could not load its engine {file}" in error(best, copy)


def test_library_that_is_no_engine(copy: Path) -> None:
    best = INFO["isas_usable"][-1]
    file = engine_file(copy, best)
    shutil.copy(copy / "lstmcore/lib/liblstmcore.so", file)
    assert f"{file} is not an engine of this version (no lstmcore_engine_v1)" in error(best, copy)


@pytest.mark.skipif(len(INFO["isas_usable"]) < 2, reason="needs two engines")
def test_engine_under_a_wrong_name(copy: Path) -> None:
    first, second = INFO["isas_usable"][:2]
    shutil.copy(engine_file(copy, first), engine_file(copy, second))
    assert f"says that it is the engine {first}" in error(second, copy)


def test_symbolic_link_and_other_working_directory(copy: Path, tmp_path: Path) -> None:
    """The engines are found beside the real library, from wherever the program runs."""
    lib = copy / "lstmcore/lib"
    (tmp_path / "elsewhere").mkdir()
    lib.rename(tmp_path / "elsewhere/lib")
    lib.mkdir()
    for file in (tmp_path / "elsewhere/lib").glob("liblstmcore.so*"):
        (lib / file.name).symlink_to(file)
    code = "import os, lstmcore, lstmcore._core\nos.chdir('/')\n" + SHOW
    assert run(code, None, copy).stdout.split()[0] == INFO["isas_usable"][-1]
