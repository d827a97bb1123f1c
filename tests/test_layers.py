"""Who may include whom: the levels of the C++ sources as CONTRIBUTING.md lists them, checked include by include."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "cpp"

# Level → levels it may include. "public" is include/lstmcore, "facade" the one header src/engine/engine.hpp.
ALLOWED = {
    "public": {"public"},
    "base": {"base", "public"},
    "math": {"base", "math"},
    "cells": {"base", "math", "cells"},
    "kernels": {"base", "math", "kernels"},
    "sequence": {"base", "math", "cells", "kernels", "sequence", "public"},
    "model": {"base", "math", "cells", "kernels", "sequence", "model", "public"},
    "train": {"base", "math", "cells", "kernels", "sequence", "model", "train", "public"},
    "engine": {"base", "math", "cells", "kernels", "sequence", "model", "train", "engine", "edge", "facade", "public"},
    "facade": {"public"},
    "cuda": {"base", "math", "cells", "cuda", "public"},
    # The library around the engines: compiled once, without Eigen and without an engine's namespace.
    "file": {"file", "public"},
    "dispatch": {"dispatch", "facade", "public"},
    "api": {"api", "file", "dispatch", "facade", "public"},
    "bindings": {"bindings", "public"},
    "edge": {"edge"},
    "examples": {"public"},
    "tests": None,
}

# Third-party and system headers → levels that may include them (all others may not).
RESTRICTED = {
    r"pybind11/.*": {"bindings"},
    r"Eigen/.*": {"base", "math", "cells", "kernels", "sequence", "model", "train", "engine"},
    r"omp\.h": {"base"},
    r"(imm|x86|arm_neon|nmm|emm|xmm).*\.h|arm_.*\.h": {"base", "kernels", "edge"},
    r"cuda.*": {"cuda"},
    r"Python\.h": {"bindings"},
}

# A cell compiles as a float, a SIMD pack and a GPU thread, so cells and maths know no allocation, threads or files.
# registry.hpp is the exception: it describes the cells to the outside.
DEVICE_LEVELS = {"math", "cells"}
DEVICE_HEADERS = {"algorithm", "array", "cmath", "cstddef", "cstdint", "limits", "tuple", "type_traits", "utility"}
REGISTRY = "src/cells/registry.hpp"

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def level_of(path: str) -> str:
    """Level of a file by its path below cpp/."""
    parts = path.split("/")
    if parts[0] == "include":
        return "public"
    if parts[0] != "src":
        return parts[0]
    if path == "src/engine/engine.hpp":
        return "facade"
    if path.startswith("src/model/file/"):
        return "file"
    return "dispatch" if len(parts) == 2 else parts[1]


def resolve(root: Path, source: Path, name: str) -> str | None:
    """Path below cpp/ of an include of ours, or None."""
    for folder in (source.parent, root / "src", root / "include", root / "edge"):
        target = (folder / name).resolve()
        if target.is_file() and target.is_relative_to(root):
            return target.relative_to(root).as_posix()
    return None


def breaches(root: Path) -> list[str]:
    """One line for each include that the levels forbid."""
    found = []
    root = root.resolve()
    for source in sorted(p for p in root.rglob("*") if p.suffix in {".cpp", ".hpp", ".cu", ".cuh", ".c", ".h"}):
        path = source.relative_to(root).as_posix()
        level = level_of(path)
        if level not in ALLOWED:
            found.append(f"{path}: no such level: {level}")
            continue
        allowed = ALLOWED[level]
        if allowed is None:
            continue
        text = source.read_text(encoding="utf-8")
        on_device = level in DEVICE_LEVELS and path != REGISTRY
        if on_device and re.search(r"^\s*#\s*pragma\s+omp", text, re.MULTILINE):
            found.append(f"{path}: threads in {level}/")
        for bracket, name in INCLUDE.findall(text):
            target = resolve(root, source, name)
            if target is None:
                if bracket == '"' or name.startswith("lstmcore/"):
                    found.append(f"{path}: {name} is not a file of ours")
                for pattern, levels in RESTRICTED.items():
                    if re.fullmatch(pattern, name) and level not in levels:
                        found.append(f"{path} ({level}) includes {name}")
                if on_device and name not in DEVICE_HEADERS and not name.startswith("Eigen/"):
                    found.append(f"{path} ({level}) includes {name}, which is not for code that runs on a device")
            elif level_of(target) not in (allowed | {"public"} if path == REGISTRY else allowed):
                found.append(f"{path} ({level}) includes {target} ({level_of(target)})")
    return found


def cycles(root: Path) -> list[str]:
    """Files that include themselves by way of others."""
    root = root.resolve()
    edges: dict[str, list[str]] = {}
    for source in (p for p in root.rglob("*") if p.suffix in {".cpp", ".hpp", ".h"}):
        targets = (resolve(root, source, name) for _, name in INCLUDE.findall(source.read_text(encoding="utf-8")))
        edges[source.relative_to(root).as_posix()] = [target for target in targets if target]
    found = []
    done: set[str] = set()

    def visit(path: str, above: tuple[str, ...]) -> None:
        if path in above:
            found.append(" → ".join((*above[above.index(path) :], path)))
        elif path not in done:
            for target in edges.get(path, []):
                visit(target, (*above, path))
            done.add(path)

    for path in edges:
        visit(path, ())
    return found


def test_levels() -> None:
    assert breaches(ROOT) == []


def test_no_cycles() -> None:
    assert cycles(ROOT) == []


def test_the_scan_sees_the_sources() -> None:
    levels = {level_of(p.relative_to(ROOT).as_posix()) for p in ROOT.rglob("*.[hc]pp")}
    expected = {"public", "base", "math", "cells", "kernels", "sequence", "model", "train", "engine", "facade", "file"}
    assert expected | {"dispatch", "api", "bindings", "tests"} <= levels


@pytest.mark.parametrize(
    ("path", "text", "breach"),
    [
        ("src/cells/a.hpp", '#include "kernels/k.hpp"', True),
        ("src/kernels/a.hpp", '#include "cells/c.hpp"', True),
        ("src/base/a.hpp", '#include "math/m.hpp"', True),
        ("src/sequence/a.hpp", '#include "model/m.hpp"', True),
        ("src/sequence/a.hpp", '#include "cells/c.hpp"\n#include "kernels/k.hpp"', False),
        ("src/cells/a.hpp", "#include <memory>", True),
        ("src/cells/a.hpp", "  #pragma omp parallel for", True),
        ("src/cells/registry.hpp", "#include <vector>\n#include <lstmcore/types.hpp>", False),
        ("src/cells/a.hpp", "#include <lstmcore/types.hpp>", True),
        ("src/engine/a.cpp", "#include <pybind11/pybind11.h>", True),
        ("bindings/a.cpp", "#include <pybind11/pybind11.h>\n#include <lstmcore/types.hpp>", False),
        ("bindings/a.cpp", '#include "engine/engine.hpp"', True),
        ("include/lstmcore/a.hpp", "#include <Eigen/Core>", True),
        ("include/lstmcore/a.hpp", '#include "base/b.hpp"', True),
        ("src/api/a.cpp", '#include "engine/engine.hpp"', False),
        ("src/api/a.cpp", '#include "model/m.hpp"', True),
        ("src/model/file/a.cpp", '#include "base/b.hpp"', True),
        ("src/train/a.hpp", '#include "no_such_file.hpp"', True),
        ("src/elsewhere/a.hpp", "", True),
        ("edge/a.c", '#include "../src/base/b.hpp"', True),
    ],
)
def test_the_scan_can_fail(tmp_path: Path, path: str, text: str, breach: bool) -> None:
    for level, name in (
        ("cells", "c"),
        ("kernels", "k"),
        ("math", "m"),
        ("model", "m"),
        ("base", "b"),
        ("engine", "engine"),
    ):
        file = tmp_path / "src" / level / f"{name}.hpp"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("#pragma once\n")
    types = tmp_path / "include/lstmcore/types.hpp"
    types.parent.mkdir(parents=True)
    types.write_text("#pragma once\n")
    assert breaches(tmp_path) == []
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")
    assert bool(breaches(tmp_path)) == breach


def test_the_cycle_scan_can_fail(tmp_path: Path) -> None:
    base = tmp_path / "src/base"
    base.mkdir(parents=True)
    (base / "a.hpp").write_text('#include "base/b.hpp"\n')
    (base / "b.hpp").write_text('#include "base/a.hpp"\n')
    assert len(cycles(tmp_path)) == 1
