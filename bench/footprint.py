"""What it costs to have a library: the time of its import in a fresh process, and its size on disk."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

# What is timed, by label; the package whose size is reported. lstmcore itself loads NumPy only when it needs it.
STATEMENTS = {
    "numpy": ("import numpy", "numpy"),
    "lstmcore": ("import lstmcore, numpy", "lstmcore"),
    "lstmcore estimators": ("from lstmcore import SequenceClassifier", "lstmcore"),
    "onnxruntime": ("import onnxruntime", "onnxruntime"),
    "torch": ("import torch", "torch"),
}


def run(repetitions: int) -> list[dict[str, Any]]:
    """Each statement in turn, `repetitions` times; the first round only fills the file cache and is not counted."""
    found = [label for label, (_, name) in STATEMENTS.items() if importlib.util.find_spec(name) is not None]
    seconds: dict[str, list[float]] = {label: [] for label in found}
    for round_number in range(repetitions + 1):
        for label in found:
            duration = _seconds(STATEMENTS[label][0])
            if round_number:
                seconds[label].append(duration)
    return [
        {"name": label, "seconds": statistics.median(seconds[label]), "bytes": _installed(STATEMENTS[label][1])}
        for label in found
    ]


def _seconds(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
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
