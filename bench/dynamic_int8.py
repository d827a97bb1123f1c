#!/usr/bin/env python3
"""8-bit weights on servers and desktops: time against ONNX Runtime's dynamic int8 and our own float32, and accuracy.

    python bench/dynamic_int8.py [--quick] [--rows TEXT] [--threads 1,2] [--seconds S] [--no-scores]

Prints the tables of docs/dynamic-int8.md. Rows are those of bench/run.py, whole sequences; all have a row's weights and
input. Ours is a whole network with an output at every step (pooling "none", one output), ONNX Runtime's the recurrent
operator by itself, which it quantises for LSTM only: GRU stands beside its float32. Needs torch; onnx and onnxruntime
for the comparison, scikit-learn for the scores.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import clock
import numpy as np
import rows
from numpy.typing import NDArray
from problem import Problem

import lstmcore
from lstmcore import _core

Array = NDArray[Any]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny shapes, one seed: proves that it runs")
    parser.add_argument("--rows", action="append", default=[], metavar="TEXT", help="rows that contain TEXT")
    parser.add_argument("--threads", default="1,2", metavar="N,N", help="numbers of threads (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="a peer and row, roughly (%(default)s)")
    parser.add_argument("--no-scores", action="store_true", help="times only")
    options = parser.parse_args(arguments)
    chosen = rows.layers(options.rows, quick=options.quick)
    print(
        "| row | threads | ours, int8 | ours, float32 | onnxruntime int8 | onnxruntime | ORT int8 / ours | error | ",
        end="",
    )
    print("ORT's |\n|---|---|---|---|---|---|---|---|---|")
    for row in chosen:
        for n_threads in map(int, options.threads.split(",")):
            print(measure(row, n_threads, 0.0 if options.quick else options.seconds), flush=True)
    if not options.no_scores:
        print_scores(seeds=1 if options.quick else 5, epochs=2 if options.quick else 20)
    return 0


def networks(problem: Problem, outputs: int, n_threads: int) -> tuple[Any, Any]:
    """Float32 and int8, with the problem's layer and a head that adds up (one output) or gives h as it is (H)."""
    row = problem.row
    layer: Any = lstmcore.Recurrent.from_torch(problem.module)
    config = {
        "recurrent": {"cell": row.cell, "input_size": row.I, "hidden_size": row.H, "n_threads": n_threads},
        "pooling": "none",
        "outputs": outputs,
    }
    head = np.eye(row.H, dtype=np.float32) if outputs == row.H else np.ones((1, row.H), dtype=np.float32)
    made = []
    for quantization in ("none", "dynamic_int8"):
        model = _core.Model({**config, "quantization": quantization})
        weights = {name: np.asarray(value) for name, value in layer.parameters.items()}
        model.set_parameters({**weights, "head_W": head, "head_b": np.zeros(outputs, dtype=np.float32)})
        made.append(model)
    return made[0], made[1]


def measure(row: rows.Row, n_threads: int, seconds: float) -> str:
    """A line of the table: medians in ms; errors are the largest of any h, next to float32."""
    problem = Problem(row)
    x = problem.x
    exact, rounded = networks(problem, row.H, n_threads)
    expected = exact.predict(x)
    error = float(np.abs(rounded.predict(x) - expected).max())
    exact, rounded = networks(problem, 1, n_threads)
    calls: dict[str, Callable[[], Any]] = {
        "int8": lambda: rounded.predict(x),
        "float32": lambda: exact.predict(x),
    }
    peer_error = None
    if importlib.util.find_spec("onnx") is not None and importlib.util.find_spec("onnxruntime") is not None:
        import peers_onnx

        peer = peers_onnx.Peer(problem, n_threads)
        calls |= peer.inference()
        if peers_onnx.INT8 in calls:
            found = peer.outcome("inference", calls[peers_onnx.INT8]()).y
            peer_error = float(np.abs(found - expected).max())
    times = clock.medians_ms(calls, seconds=seconds, rounds=3)
    theirs = times.get("onnxruntime int8")
    ratio = None if theirs is None else theirs / times["int8"]
    figures = [times["int8"], times["float32"], theirs, times.get("onnxruntime")]
    cells = [_text(value, ".3g") for value in figures] + [_text(ratio, ".2f"), _text(error, ".2g")]
    return f"| {row.name} | {n_threads} | " + " | ".join([*cells, _text(peer_error, ".2g")]) + " |"


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def print_scores(seeds: int, epochs: int) -> None:
    """Accuracy of networks before and after, on the data of `lstmcore demo`, and the largest error of a probability."""
    from sklearn.model_selection import train_test_split

    X, y = lstmcore.datasets.digits_as_sequences()
    print("\n| digits | float32 | int8 minus float32, points | largest error of a probability | root mean square |")
    print("|---|---|---|---|---|")
    for cell, bidirectional in (("lstm", False), ("lstm", True), ("gru", False), ("peephole", False), ("slstm", False)):
        scores, differences, largest, squares = [], [], [], []
        for seed in range(seeds):
            X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=seed, stratify=y)
            estimator = lstmcore.SequenceClassifier(
                cell, hidden_size=64, bidirectional=bidirectional, max_iter=epochs, random_state=seed
            ).fit(X_train, y_train)
            quantised = estimator.quantize(scheme="dynamic_int8")
            error = quantised.predict_proba(X_test) - estimator.predict_proba(X_test)
            scores.append(100 * np.mean(estimator.predict(X_test) == y_test))
            differences.append(100 * np.mean(quantised.predict(X_test) == y_test) - scores[-1])
            largest.append(np.abs(error).max())
            squares.append(np.mean(error**2))
        name = f"{cell} 64{', bidirectional' if bidirectional else ''}"
        print(
            f"| {name} | {np.mean(scores):.2f} % | {np.mean(differences):+.2f} ({min(differences):+.2f} … "
            f"{max(differences):+.2f}) | {max(largest):.3f} | {np.sqrt(np.mean(squares)):.5f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
