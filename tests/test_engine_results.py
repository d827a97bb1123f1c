"""Every case of the table on every engine that this CPU can run, each engine in a process of its own.

Which engine is chosen, and what happens when it cannot be, is in test_engines.py.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import lstmcore
from cases import DTYPES, Case, cases, make_data
from checking import assert_bitwise, assert_close
from reference import driver

WORKER = Path(__file__).parent / "engine_worker.py"
USABLE = tuple(lstmcore.build_info()["isas_usable"])

each_engine = pytest.mark.parametrize("isa", USABLE)


@functools.cache
def results_of(isa: str) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.npz"
        done = subprocess.run(
            [sys.executable, str(WORKER), str(path)],
            env={**os.environ, "LSTMCORE_ISA": isa},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"engine {isa}: {done.stderr[-3000:]}"
        with np.load(path) as file:
            return dict(file)


@functools.cache
def expected_of(case: Case) -> dict[str, np.ndarray]:
    data = make_data(case)
    y, final, tape = driver.forward(case.stack, data.parameters, data.x, data.lengths, data.state)
    dx, d_initial, gradient = driver.backward(tape, data.dy, data.dstate)
    expected = {"y": y, "dx": dx}
    expected |= {f"final.{name}": value for name, value in final.items()}
    expected |= {f"d_initial.{name}": value for name, value in d_initial.items()}
    expected |= {f"gradient.{name}": value for name, value in gradient.items()}
    if case.shape.D == 1 and data.lengths is None:
        expected["steps"] = y
    return expected


@each_engine
def test_the_engine_asked_for_ran(isa: str) -> None:
    assert results_of(isa)["isa"] == isa


@each_engine
@pytest.mark.parametrize("case", cases("engine"), ids=lambda case: case.id)
def test_every_case_on_every_engine(case: Case, isa: str) -> None:
    results = results_of(isa)
    expected = expected_of(case)
    names = {name.removeprefix(f"{case.id}/") for name in results if name.startswith(f"{case.id}/")}
    assert names == set(expected)
    for name, value in expected.items():
        assert_close(results[f"{case.id}/{name}"], value, case.tolerance("reference"), f"{name} on {isa}")
    if "steps" in expected and case.cell.stepwise:
        assert_bitwise(results[f"{case.id}/steps"], results[f"{case.id}/y"], f"steps on {isa}")


@each_engine
@pytest.mark.parametrize("dtype", DTYPES)
def test_engines_learn_the_same(dtype: str, isa: str) -> None:
    """Weights after a whole training, dropout and shuffling included: the same random numbers on every engine."""
    first, other = results_of(USABLE[0]), results_of(isa)
    tolerance = {"float64": 1e-9, "float32": 1e-3}[dtype]
    assert_close(other[f"losses/{dtype}"], first[f"losses/{dtype}"], tolerance, "losses")
    assert_close(other[f"training/{dtype}"], first[f"training/{dtype}"], tolerance, "weights")
