"""The command line: ``python -m lstmcore demo | info | export``.

A command's own module is imported when the command runs, so that ``info`` and ``--help`` stay quick.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

# What works together with lstmcore when it is installed; `info` reports the versions found.
_COMPANIONS = ("numpy", "scikit-learn", "pandas", "matplotlib", "tqdm", "sktime", "torch", "onnx", "onnxruntime")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. arguments: default ``sys.argv[1:]``."""
    parser = argparse.ArgumentParser(
        prog="python -m lstmcore", description="Recurrent networks (LSTM family) in C++, with scikit-learn estimators."
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)

    demo = commands.add_parser(
        "demo",
        help="train, save, reload and stream a network on real data",
        description="Train a bidirectional LSTM on Japanese Vowels (270 training and 370 test utterances of nine "
        'speakers), save it, load it again, and stream one utterance. Needs: pip install "lstmcore[demo]".',
    )
    demo.add_argument("--synthetic", action="store_true", help="a long-lag task instead; needs no further package")
    demo.add_argument("--output", default="lstmcore-demo", metavar="FOLDER", help="for model and plots (%(default)s)")
    demo.add_argument("--seed", type=_natural, default=0, help="of weights, shuffling and generated data (%(default)s)")
    demo.add_argument("--seeds", type=_positive, default=1, metavar="K", help="train K seeds, report each and the mean")
    demo.add_argument("--epochs", type=_positive, help="passes over the training data (default: chosen for the task)")
    demo.add_argument("--threads", type=_positive, help="threads of the engine (default: all this process may use)")

    info = commands.add_parser(
        "info",
        help="version, instruction sets, cells, packages found",
        description="Report what this installation of lstmcore is and what it found on this machine.",
    )
    info.add_argument("--json", action="store_true", help="as JSON")

    export = commands.add_parser(
        "export",
        help="a model file as C99 for microcontrollers",
        description="Write a model as C99 sources: weights, the runtime without heap or libm, an example and a "
        "self-test. The file is that of a quantised model (est.quantize(...).save(path)), or of an estimator, which is "
        "then quantised here.",
    )
    export.add_argument("model", metavar="MODEL.safetensors")
    export.add_argument("--c", required=True, metavar="FOLDER", help="for the sources; made if need be")
    export.add_argument("--name", default="model", help="begins every name in the C code (%(default)s)")
    export.add_argument("--scheme", choices=("int8", "int8x16", "float32"), help="for the file of an estimator")
    export.add_argument(
        "--calibration", metavar="X.npy", help="typical sequences (N, T, I); int8 and int8x16 find their ranges there"
    )

    options = parser.parse_args(arguments)
    if options.command == "export":
        return _export(options)
    if options.command == "info":
        report = collect_info()
        print(json.dumps(report, indent=2, default=str) if options.json else _as_text(report))
        return 0
    from lstmcore import demo as demo_module

    return demo_module.run(
        synthetic=options.synthetic,
        output=options.output,
        seed=options.seed,
        n_seeds=options.seeds,
        epochs=options.epochs,
        n_threads=options.threads,
    )


def _export(options: argparse.Namespace) -> int:
    """``export``: 0, or 1 with the reason on standard error."""
    import numpy as np

    import lstmcore
    from lstmcore.edge.quantized_model import QuantizedModel

    try:
        model = lstmcore.load_model(options.model)
        if isinstance(model, QuantizedModel):
            if options.scheme is not None or options.calibration is not None:
                raise ValueError(f"{options.model} is quantised already: leave out --scheme and --calibration")
        else:
            if options.scheme is None:
                raise ValueError(
                    f"{options.model} is not quantised: give --scheme float32, or --scheme int8 --calibration X.npy"
                )
            X = None if options.calibration is None else np.load(options.calibration, allow_pickle=False)
            model = model.quantize(X, scheme=options.scheme)
        for path in model.export_c(options.c, name=options.name):
            print(path)
    except (OSError, ValueError, TypeError, lstmcore.ModelFileError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def collect_info() -> dict[str, Any]:
    """What ``info`` prints: the build, the cells with their options, the machine, and companion packages by version."""
    import lstmcore

    packages: dict[str, str | None] = {}
    for name in _COMPANIONS:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "lstmcore": {**lstmcore.build_info(), "folder": os.path.dirname(os.path.abspath(lstmcore.__file__))},
        "cells": lstmcore.cells(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": _usable_cpus(),
            "python": f"{platform.python_implementation()} {platform.python_version()}",
        },
        "environment": {name: os.environ[name] for name in ("LSTMCORE_ISA", "OMP_NUM_THREADS") if name in os.environ},
        "packages": packages,
    }


def _usable_cpus() -> int:
    # The CPUs this process may run on: fewer than the machine's in containers and under taskset.
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _as_text(report: dict[str, Any]) -> str:
    lines: list[str] = []
    for section, entries in report.items():
        if not entries:
            continue
        lines.append(section)
        for name, value in entries.items():
            if section == "packages" and value is None:
                value = "not installed"
            lines.append(f"  {name:16} {_one_line(value)}".rstrip())
    return "\n".join(lines)


def _one_line(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_one_line(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_one_line(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _positive(text: str) -> int:
    return _integer(text, 1)


def _natural(text: str) -> int:
    return _integer(text, 0)


def _integer(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, got {text!r}")
    return value
