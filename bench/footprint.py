"""What it costs to have a library: the time of its import in a fresh process, and its size on disk."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "lstmcore", "onnxruntime", "torch")


def run(repetitions: int) -> list[dict[str, Any]]:
    """Each library in turn, `repetitions` times; the first round only fills the file cache and is not counted."""
    found = [name for name in LIBRARIES if importlib.util.find_spec(name) is not None]
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for round_number in range(repetitions + 1):
        for name in found:
            duration = _import_seconds(name)
            if round_number:
                seconds[name].append(duration)
    return [{"name": name, "seconds": statistics.median(seconds[name]), "bytes": _installed(name)} for name in found]


def _import_seconds(name: str) -> float:
    code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ)
    return float(result.stdout)


def _installed(name: str) -> int:
    """Bytes of the package's folder and of the shared libraries beside it (name.libs), without caches."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name)
    package = Path(next(iter(spec.submodule_search_locations)))
    folders = [package, package.parent / f"{name}.libs"]
    files = [file for folder in folders if folder.is_dir() for file in folder.rglob("*")]
    return sum(f.stat().st_size for f in files if f.is_file() and not f.is_symlink() and f.parent.name != "__pycache__")
