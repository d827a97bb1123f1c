"""What the libraries export: an engine one C symbol, liblstmcore its C++ API, the Python module its entry."""

from __future__ import annotations

from pathlib import Path

import pytest

import installed


def exported(path: Path) -> list[str]:
    lines = installed.binutil("nm", "-D", "-C", "--defined-only", path).splitlines()
    return [line.split(maxsplit=2)[2] for line in lines]


@pytest.mark.parametrize("path", installed.ENGINES, ids=lambda path: path.stem)
def test_engines_export_one_symbol(path: Path) -> None:
    assert exported(path) == ["lstmcore_engine_v1"]


def test_every_engine_is_looked_at() -> None:
    assert len(installed.ENGINES) >= 1


@pytest.mark.parametrize("path", installed.ENGINES, ids=lambda path: path.stem)
def test_engines_need_nothing_of_ours(path: Path) -> None:
    """An engine that needed liblstmcore could be bound to another copy of it."""
    assert not [name for name in installed.needed(path) if "lstmcore" in name]


@pytest.mark.parametrize("path", installed.ENGINES, ids=lambda path: path.stem)
def test_engines_have_no_unique_symbols(path: Path) -> None:
    """GNU "unique" symbols are shared by the whole process, RTLD_LOCAL or not, and so would mix engines."""
    assert " u " not in installed.binutil("nm", "-D", path)


@pytest.mark.parametrize("path", installed.ENGINES, ids=lambda path: path.stem)
def test_engines_run_nothing_when_loaded(path: Path) -> None:
    """No dynamic initialisers: .init_array holds the one entry of the C run time."""
    if installed.sanitized():
        pytest.skip("a sanitizer registers its globals when a library is loaded")
    sections = installed.binutil("readelf", "-S", "-W", path).splitlines()
    (line,) = [line for line in sections if ".init_array" in line]
    size = int(line.split("]")[1].split()[4], 16)
    assert size == 8, f"{size // 8 - 1} dynamic initialisers in {path.name}"


def test_library_exports_its_api_only() -> None:
    names = exported(installed.LIBRARY)
    prefixes = ("lstmcore::", "typeinfo for lstmcore::", "typeinfo name for lstmcore::", "vtable for lstmcore::")
    assert [name for name in names if not name.startswith(prefixes)] == []
    assert [name for name in names if "lstmcore::engine::" in name.split("(")[0]] == []
    for name in ("lstmcore::build_info()", "lstmcore::Recurrent::Recurrent(", "lstmcore::Model::load("):
        assert any(each.startswith(name) for each in names), f"{name} is not exported"


def test_library_needs_no_openmp() -> None:
    assert not [name for name in installed.needed(installed.LIBRARY) if "omp" in name]


def test_module_exports_its_entry_only() -> None:
    assert exported(installed.core()) == ["PyInit__core"]
