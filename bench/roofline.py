"""What this machine could do at best, and which part of it a row reaches.

The ceilings are measured in the same run by bench/native/ceilings.cpp: multiply-adds in registers, and reading memory
of several sizes. A network needs its multiply-adds, 2·G·H·(I + H) operations a step and sequence (three times as many
with backward), and it has to read its recurrent weights once a time step, whatever N is (twice with backward), from the
cache they fit into. The larger of the two times is the floor of the row; nothing else is counted.
"""

from __future__ import annotations

import itertools
import json
import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GATES = {"lstm": 4, "gru": 3, "elman": 1}
NATIVE = Path(__file__).parent / "native"


def build(folder: Path) -> Path | str:
    """The folder with the programs of bench/native, compiled against the installed package; or why not."""
    import lstmcore

    configure = ["cmake", "-S", str(NATIVE), "-B", str(folder), f"-Dlstmcore_DIR={lstmcore.get_cmake_dir()}"]
    for command in (configure, ["cmake", "--build", str(folder)]):
        try:
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        except OSError as error:
            return f"no ceilings and no C++ steps: {error}"
        if done.returncode != 0:
            return f"no ceilings and no C++ steps: {' '.join(command)} failed:\n{done.stdout}{done.stderr}"
    return folder


def ceilings(programs: Path, n_threads: int, seconds: float) -> dict[str, Any]:
    """{"threads", "gflops", "read": [[bytes a thread, GB/s of all threads], …]}."""
    return {"threads": n_threads, **_run(programs / "ceilings", str(n_threads), str(seconds))}


def steps(programs: Path, seconds: float, networks: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One step from C++: [{"cell", "I", "H", "precision", "us"}, …]. networks: as the program takes them; its own."""
    found: list[dict[str, Any]] = _run(programs / "step", str(seconds), *networks)
    return found


def _run(*command: str | Path) -> Any:
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout)


def work(row: dict[str, Any], steps_in_all: int | None = None) -> tuple[float, float, float]:
    """Operations, bytes of weights read, and bytes of the weights that are read again in every step.

    row: an entry of results.json. steps_in_all: of a ragged batch, the sum of lengths.
    """
    G, H, T = GATES[row["cell"]], row["H"], row["T"]
    directions = 2 if row["bidirectional"] else 1
    training = row["mode"] == "training"
    rows = row["N"] * T if steps_in_all is None else steps_in_all
    operations = moved = 0.0
    for layer in range(row["num_layers"]):
        inputs = row["I"] if layer == 0 else directions * H
        operations += directions * 2.0 * G * H * (inputs + H) * rows * (3 if training else 1)
        # One step alone reads the input's weights as well; over many they are read once for all.
        read_again = H + (inputs if row["kind"] == "step" else 0)
        moved += directions * 4.0 * G * H * read_again * T * (2 if training else 1)
    return operations, moved, 4.0 * G * H * H


def bandwidth(ceiling: dict[str, Any], size: float) -> float:
    """GB/s for a working set of so many bytes in all, between the sizes that were measured."""
    points = [(math.log(bytes_), rate) for bytes_, rate in ceiling["read"]]
    x = math.log(max(size / ceiling["threads"], 1.0))
    if x <= points[0][0]:
        return float(points[0][1])
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1:
            return float(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    return float(points[-1][1])


def annotate(row: dict[str, Any], ceiling: dict[str, Any], steps_in_all: int | None = None) -> dict[str, Any]:
    """{"gflops", "gbs", "floor_ms", "fraction", "bound", "intensity"} of our own time in this row."""
    operations, moved, size = work(row, steps_in_all)
    arithmetic = 1e-6 * operations / ceiling["gflops"]
    streaming = 1e-6 * moved / bandwidth(ceiling, size)
    ours = row["ms"]["lstmcore"]
    floor = max(arithmetic, streaming)
    return {
        "gflops": 1e-6 * operations / ours,
        "gbs": 1e-6 * moved / ours,
        "floor_ms": floor,
        "fraction": floor / ours,
        "bound": "arithmetic" if arithmetic >= streaming else "weights",
        "intensity": operations / moved,
    }
