#!/usr/bin/env python3
"""lstmcore, PyTorch and ONNX Runtime side by side, in one run.

    python bench/run.py                        everything; half an hour on two cores
    python bench/run.py --quick                tiny shapes: proves that it runs and that all agree, in a minute
    python bench/run.py --only grid --rows 32x100x128x128 --threads 1

Every peer of a row has the same weights and input; outputs and gradients are compared before anything is timed, and a
row where they differ is an error. Each number of threads has its own process. Where there is a C++ compiler, the
ceilings of this machine are measured as well, and one step from C++. What is written into --output: results.json,
tables.md, grid.png, roofline.png, fits.png. Needs: pip install "lstmcore[bench]".
"""

from __future__ import annotations

import argparse
import atexit
import datetime
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PARTS = ("grid", "steps", "fits", "import")
# Largest deviation, relative to the largest value of an array. The int8 peer rounds its weights to seven bits.
TOLERANCE = {"inference": 2e-5, "training": 1e-4, "int8": 1e-1}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny shapes and few repetitions")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part only; may be repeated")
    parser.add_argument("--rows", action="append", default=[], metavar="TEXT", help="rows or fits that contain TEXT")
    parser.add_argument("--threads", default="1,2", metavar="N,N", help="numbers of threads (%(default)s)")
    parser.add_argument("--seconds", type=float, metavar="S", help="a peer and row, roughly (1.0; quick 0.05)")
    parser.add_argument(
        "--output", default=str(Path(__file__).parent / "results"), metavar="FOLDER", help="(bench/results)"
    )
    parser.add_argument("--worker", choices=("grid", "fits", "steps"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        options.thread_counts = [int(text) for text in options.threads.split(",")]
    except ValueError:
        options.thread_counts = []
    if not options.thread_counts or min(options.thread_counts) < 1:
        parser.error(f"--threads: expected positive numbers separated by commas, got {options.threads!r}")
    if options.seconds is None:
        options.seconds = 0.05 if options.quick else 1.0
    missing = [name for name in ("lstmcore", "torch", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        parser.exit(2, f'not installed: {", ".join(missing)}. pip install "lstmcore[bench]"\n')
    return _work(options) if options.worker else _orchestrate(options, parser)


def _native(parts: list[str]) -> Path | None:
    """The programs in machine code, where this run needs them and there is a compiler; deleted when the run ends."""
    import roofline

    if not {"grid", "steps"} & set(parts):
        return None
    folder = tempfile.mkdtemp(prefix="lstmcore-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    found = roofline.build(Path(folder))
    if isinstance(found, str):
        print(found, file=sys.stderr)
        return None
    return found


def _ceilings(options: argparse.Namespace, programs: Path | None, n_threads: int) -> dict[str, Any] | None:
    import roofline

    return None if programs is None else roofline.ceilings(programs, n_threads, min(0.3, options.seconds))


def _orchestrate(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    import report
    import roofline

    parts = options.only or list(PARTS)
    if options.rows:
        problem = _check_patterns(options.rows, parts, options.quick)
        if problem:
            parser.error(problem)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"meta": _meta(options), "rows": [], "fits": [], "import": []}
    results |= {"ceilings": [], "steps": [], "python_steps": []}
    failed = False
    programs = _native(parts)
    for part, key in (("grid", "rows"), ("fits", "fits")):
        for n_threads in options.thread_counts if part in parts else ():
            print(f"{part}, {n_threads} thread{'s' * (n_threads > 1)}", flush=True)
            before = _ceilings(options, programs, n_threads) if part == "grid" else None
            entries = _in_subprocess(options, part, n_threads)
            failed |= entries is None
            results[key] += entries or []
            if before is None:
                continue
            # Before and after, the better of each: another program may have been at work in between.
            after = _ceilings(options, programs, n_threads)
            read = [[a[0], max(a[1], b[1])] for a, b in zip(before["read"], after["read"], strict=True)]
            ceiling = {"threads": n_threads, "gflops": max(before["gflops"], after["gflops"]), "read": read}
            results["ceilings"].append(ceiling)
            for row in entries or ():
                row["roofline"] = roofline.annotate(row, ceiling, row["steps_in_all"])
    if "steps" in parts and programs is not None:
        results["steps"] = roofline.steps(programs, options.seconds / 4)
    if "steps" in parts:
        entries = _in_subprocess(options, "steps", 1)
        failed |= entries is None
        results["python_steps"] = entries or []
    if "import" in parts:
        import footprint

        results["import"] = footprint.run(2 if options.quick else 7)
    results["geomean"] = report.geometric_means(results["rows"])
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report.write(results, folder)
    print("\n" + report.tables(results))
    print(f"Written to {folder}/: {', '.join(sorted(file.name for file in folder.iterdir()))}")
    disagreements = [row["name"] for row in results["rows"] if row["disagreement"]]
    if disagreements:
        print(f"Results differ between the libraries on: {', '.join(disagreements)}", file=sys.stderr)
    return 1 if failed or disagreements else 0


def _check_patterns(patterns: list[str], parts: list[str], quick: bool) -> str | None:
    """A pattern that matches neither a row nor a fit of the parts asked for, as a message."""
    import fits
    import rows

    names = [row.name for row in rows.select([], quick=quick)] if "grid" in parts else []
    names += [recipe.name for recipe in fits.recipes(quick)] if "fits" in parts else []
    unknown = [pattern for pattern in patterns if not any(pattern in name for name in names)]
    return f"--rows: nothing contains {unknown[0]!r}. There are: {'; '.join(names)}" if unknown else None


def _in_subprocess(options: argparse.Namespace, part: str, n_threads: int) -> list[dict[str, Any]] | None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "part.json"
        command = [sys.executable, __file__, "--worker", part, "--threads", str(n_threads), "--output", str(output)]
        command += ["--seconds", str(options.seconds), *(["--quick"] if options.quick else [])]
        for pattern in options.rows:
            command += ["--rows", pattern]
        environment = {**os.environ, "OMP_NUM_THREADS": str(n_threads), "MKL_NUM_THREADS": str(n_threads)}
        code = subprocess.run(command, env=environment, check=False).returncode
        if code != 0 or not output.exists():
            print(f"{part} with {n_threads} threads failed (exit status {code})", file=sys.stderr)
            return None
        entries: list[dict[str, Any]] = json.loads(output.read_text(encoding="utf-8"))
        return entries


def _meta(options: argparse.Namespace) -> dict[str, Any]:
    import peers_ours
    import peers_torch

    versions = {peers_ours.NAME: peers_ours.version(), peers_torch.NAME: peers_torch.version()}
    if _has_onnx():
        import peers_onnx

        versions[peers_onnx.NAME] = peers_onnx.version()
    return {
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "quick": options.quick,
        "threads": options.thread_counts,
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _has_onnx() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxruntime"))


def _work(options: argparse.Namespace) -> int:
    """In the subprocess: one part with one number of threads; entries go to --output as JSON."""
    (n_threads,) = options.thread_counts
    if options.worker == "fits":
        import fits

        entries = fits.run(options.quick, n_threads, options.rows)
    elif options.worker == "steps":
        import steps

        entries = steps.measure(options.seconds / 4)
    else:
        import rows

        chosen = [row for row in rows.select([], quick=options.quick) if _matches(row.name, options.rows)]
        entries = [entry for row in chosen for entry in measure_row(row, n_threads, options.seconds, options.quick)]
    Path(options.output).write_text(json.dumps(entries), encoding="utf-8")
    return 0


def _matches(name: str, patterns: list[str]) -> bool:
    return not patterns or any(pattern in name for pattern in patterns)


def measure_row(row: Any, n_threads: int, seconds: float, quick: bool) -> list[dict[str, Any]]:
    """One entry a mode (inference, training): medians in ms, ratios peer / ours, deviations from PyTorch."""
    import clock
    import peers_ours
    import peers_torch
    from problem import Problem, largest_error

    problem = Problem(row)
    modules: list[Any] = [peers_torch, peers_ours]  # the reference first
    if _has_onnx():
        import peers_onnx

        modules.append(peers_onnx)
    peers = [module.Peer(problem, n_threads) for module in modules]
    entries = []
    for mode in ("inference", "training"):
        calls: dict[str, Any] = {}
        errors: dict[str, float] = {}
        reference = None
        for peer in peers:
            for name, call in getattr(peer, mode)().items():
                calls[name] = call
                outcome = peer.outcome(mode, call())
                if reference is None:
                    reference = outcome
                else:
                    errors[name] = largest_error(outcome, reference)
        if len(calls) < 2:
            continue
        times = clock.interleave(calls, seconds=seconds, rounds=3 if quick else 5)
        medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
        ours = medians[peers_ours.NAME]
        entry = {
            **row.as_dict(),
            "mode": mode,
            "threads": n_threads,
            "ms": medians,
            "ratio": {name: value / ours for name, value in medians.items() if name != peers_ours.NAME},
            "error": errors,
            "disagreement": [
                name for name, error in errors.items() if not error <= TOLERANCE["int8" if "int8" in name else mode]
            ],
            "repetitions": {name: len(values) for name, values in times.items()},
            "steps_in_all": None if problem.lengths is None else int(problem.lengths.sum()),
        }
        entries.append(entry)
        figures = ", ".join(f"{name} {value:.4g}" for name, value in medians.items())
        wrong = f"  DIFFER: {', '.join(entry['disagreement'])} {errors}" if entry["disagreement"] else ""
        print(f"  {row.name} {mode} (ms): {figures}{wrong}", flush=True)
    return entries


if __name__ == "__main__":
    sys.exit(main())
