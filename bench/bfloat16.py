#!/usr/bin/env python3
"""Products in bf16: time against our own float32 and PyTorch in both types, and scores after training.

    python bench/bfloat16.py [--quick] [--rows TEXT] [--threads 1,2] [--seconds S] [--no-steps] [--no-scores]

Prints the tables of docs/bfloat16.md: steps of one stream from C++, whole sequences in inference and training, and what
networks trained in each type score. Rows are those of bench/run.py; all have a row's weights and input. Needs torch;
scikit-learn for the scores, a compiler and CMake for the steps.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clock
import fits
import numpy as np
import roofline
import rows
import torch
from problem import Problem

import lstmcore

STEPS = ("lstm:64x64", "lstm:64x128", "lstm:128x256", "lstm:256x512", "lstm:256x1024", "gru:64x128", "gru:128x256")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny shapes, one seed: proves that it runs")
    parser.add_argument("--rows", action="append", default=[], metavar="TEXT", help="rows that contain TEXT")
    parser.add_argument("--threads", default="1,2", metavar="N,N", help="numbers of threads (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="a peer and row, roughly (%(default)s)")
    parser.add_argument("--no-steps", action="store_true", help="without the steps from C++")
    parser.add_argument("--no-rows", action="store_true", help="without the sequences")
    parser.add_argument("--no-torch-bf16", action="store_true", help="without PyTorch in bf16, slow on older CPUs")
    parser.add_argument("--no-scores", action="store_true", help="times only")
    options = parser.parse_args(arguments)
    seconds = 0.0 if options.quick else options.seconds
    if not options.no_steps:
        print_steps(seconds)
    if not options.no_rows:
        print_rows(options, seconds)
    if not options.no_scores:
        print_scores(options.quick)
    return 0


def print_steps(seconds: float) -> None:
    """Microseconds of Model::step, each network in both types, in turns."""
    with tempfile.TemporaryDirectory(prefix="lstmcore-bench-") as folder:
        programs = roofline.build(Path(folder))
        if isinstance(programs, str):
            print(programs, file=sys.stderr)
            return
        names = [name for step in STEPS for name in (step, f"{step}:bfloat16")]
        found = roofline.steps(programs, seconds, names)
    print("| step from C++, I×H | float32, µs | bfloat16, µs | ratio |\n|---|---|---|---|")
    for exact, rounded in zip(found[::2], found[1::2], strict=True):
        name = f"{exact['cell']} {exact['I']}×{exact['H']}"
        print(f"| {name} | {exact['us']:.3g} | {rounded['us']:.3g} | {exact['us'] / rounded['us']:.2f} |")
    print()


def print_rows(options: argparse.Namespace, seconds: float) -> None:
    print("| row | threads | mode | ours, bf16 | ours, float32 | torch, bf16 | torch | float32 / bf16 | torch / bf16 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows.layers(options.rows, quick=options.quick):
        for n_threads in map(int, options.threads.split(",")):
            for training in (False, True):
                print(measure(row, n_threads, training, seconds, not options.no_torch_bf16), flush=True)
    print()


def measure(row: rows.Row, n_threads: int, training: bool, seconds: float, torch_bf16: bool) -> str:
    """A line of the table: medians in ms."""
    torch.set_num_threads(n_threads)
    problem = Problem(row)
    calls: dict[str, Callable[[], Any]] = {}
    for name, precision in (("ours bf16", "bfloat16"), ("ours", "float32")):
        layer: Any = lstmcore.Recurrent.from_torch(problem.module, n_threads=n_threads)
        if precision == "bfloat16":
            exact = layer.parameters
            layer = lstmcore.Recurrent(
                row.cell, input_size=row.I, hidden_size=row.H, num_layers=row.num_layers, n_threads=n_threads,
                precision=precision,
            )  # fmt: skip
            for tensor, value in layer.parameters.items():
                value[...] = exact[tensor]
        calls[name] = _ours(layer, problem, training)
    kinds = {"torch": torch.float32} | ({"torch bf16": torch.bfloat16} if torch_bf16 else {})
    for name, kind in kinds.items():
        calls[name] = _torch(Problem(row).module.to(kind), problem, kind, training)
    times = clock.medians_ms(calls, seconds=seconds, rounds=3)
    cells = [f"{times[name]:.3g}" if name in times else "" for name in ("ours bf16", "ours", "torch bf16", "torch")]
    cells += [f"{times[name] / times['ours bf16']:.2f}" for name in ("ours", "torch")]
    return f"| {row.name} | {n_threads} | {'training' if training else 'inference'} | " + " | ".join(cells) + " |"


def _ours(layer: Any, problem: Problem, training: bool) -> Callable[[], Any]:
    if not training:
        return lambda: layer.forward(problem.x)

    def both() -> Any:
        _, _, tape = layer.forward(problem.x, training=True)
        return layer.backward(tape, problem.dy)

    return both


def _torch(module: Any, problem: Problem, kind: Any, training: bool) -> Callable[[], Any]:
    x = torch.from_numpy(problem.x).to(kind)
    if not training:

        def plain() -> Any:
            with torch.inference_mode():
                return module(x)[0]

        return plain
    dy = torch.from_numpy(problem.dy).to(kind)
    leaves = [x.requires_grad_(), *module.parameters()]

    def both() -> Any:
        return torch.autograd.grad(module(x)[0], leaves, dy)

    return both


def print_scores(quick: bool) -> None:
    """Networks trained in each type on the problems of bench/fits.py, the same seeds."""
    print("| fit | seeds | float32 | bfloat16 |\n|---|---|---|---|")
    for recipe in fits.recipes(quick):
        if recipe.steps_only or "Vowels" in recipe.name:
            continue
        scores: dict[str, list[float]] = {"float32": [], "bfloat16": []}
        for seed in range(recipe.seeds):
            data = recipe.load(seed)
            for precision, found in scores.items():
                found.append(fits.fit_ours(recipe, data, seed, 2, max_iter=recipe.max_iter, precision=precision)[1])
        cells = []
        for found in scores.values():
            factor, unit = (100.0, " %") if recipe.score == "accuracy" else (1.0, "")
            values = factor * np.array(found)
            cells.append(f"{values.mean():.4g}{unit} ({values.min():.4g} … {values.max():.4g})")
        print(f"| {recipe.name}, {recipe.score} | {recipe.seeds} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
