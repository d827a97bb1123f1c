#!/usr/bin/env python3
"""Training on very long sequences: time and memory with checkpoints along time and with a whole tape.

    python bench/long_sequences.py [--steps 20000] [--sequences 8] [--hidden 256] [--checkpoints 256] [--threads 2]

Each way runs in a process of its own; memory is the growth of the peak resident size over what the process held
before the first optimiser step, data included.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

import numpy as np


def worker(options: argparse.Namespace) -> None:
    from lstmcore import _core

    recurrent = {"cell": "lstm", "input_size": options.features, "hidden_size": options.hidden}
    recurrent["n_threads"] = options.threads
    model = _core.Model({"recurrent": recurrent, "pooling": "last", "activation": "softmax", "outputs": 10})
    trainer = _core.Trainer(model, {"checkpoint_steps": options.worker, "n_threads": options.threads})
    rng = np.random.default_rng(0)
    x = _core.Sequences(rng.standard_normal((options.sequences, options.steps, options.features), dtype=np.float32))
    y = rng.integers(0, 10, options.sequences).astype(np.int32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(options.repetitions):
        start = time.perf_counter()
        trainer.step(x, y)
        seconds.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(statistics.median(seconds), (after - before) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--checkpoints", type=int, default=256, help="steps between checkpoints")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        worker(options)
        return
    print(f"N {options.sequences}, T {options.steps}, H {options.hidden}, {options.threads} thread(s)")
    results = {}
    for name, steps in (("whole tape", 0), (f"checkpoints every {options.checkpoints} steps", options.checkpoints)):
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", str(steps)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[name] = tuple(float(part) for part in output.split())
        print(f"{name}: {results[name][0]:.2f} s an optimiser step, {results[name][1]:.0f} MiB")
    (whole, _), (cut, _) = results.values()
    print(f"time with checkpoints / whole tape: {cut / whole:.2f}")


if __name__ == "__main__":
    main()
