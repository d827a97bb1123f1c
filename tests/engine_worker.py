"""Runs every engine case of the table in a process of its own and writes the results: see test_engine_results.py.

Usage: engine_worker.py RESULTS.npz, with LSTMCORE_ISA naming the engine.
"""

from __future__ import annotations

import sys

import numpy as np

import lstmcore
from cases import DTYPES, Case, cases, make_data
from layers import make_layer, run_layer
from test_determinism import train


def run_case(case: Case) -> dict[str, np.ndarray]:
    layer = make_layer(case, data := make_data(case), n_threads=2)
    arrays = run_layer(layer, data).arrays
    if case.shape.D == 1 and data.lengths is None:
        state = data.state
        steps = []
        for t in range(case.shape.T):
            out, state = layer.step(data.x[:, t], state)
            steps.append(out)
        arrays["steps"] = np.stack(steps, axis=1)
    return arrays


def main(path: str) -> None:
    results = {"isa": np.array(lstmcore.build_info()["isa"])}
    for case in cases("engine"):
        results |= {f"{case.id}/{name}": value for name, value in run_case(case).items()}
    for dtype in DTYPES:
        results[f"training/{dtype}"], losses = train(2, dtype)
        results[f"losses/{dtype}"] = np.array(losses)
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1])
