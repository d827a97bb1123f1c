"""The long time lag experiments of Hochreiter & Schmidhuber (1997), with their network and with today's practice.

    python examples/long_time_lag/run.py --task adding --T 100 --seeds 5 --practice 1997
    python examples/long_time_lag/run.py --task 6a --practice today

One line for each run, then one with the paper's figures beside ours. docs/long-time-lags.md has the results and what
was taken from where.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
from networks import Network, Network1997, NetworkToday
from tasks import TASKS, Task, fraction_wrong


@dataclasses.dataclass
class Result:
    solved: bool
    sequences: int
    seconds: float
    wrong: float  # share of new test sequences that are not right afterwards


def train(task: Task, network: Network, batch_size: int, seed: int, limit: int, minutes: float) -> Result:
    """Until the criterion is met; without success after `limit` sequences, `minutes`, or where weights diverge."""
    rng = np.random.default_rng(seed)
    criterion = task.criterion(task.make, seed)
    chunk = max(batch_size, 256 // max(1, task.inputs // 16) // batch_size * batch_size)
    count = 0
    begin = time.perf_counter()
    solved = False
    while not solved and count < limit and time.perf_counter() - begin < 60 * minutes:
        X, targets = task.make(chunk, rng)
        for start in range(0, chunk, batch_size):
            wanted = targets[start : start + batch_size]
            outputs = network.train(X[start : start + batch_size], wanted)
            count += len(wanted)
            criterion.seen(outputs, wanted)
            solved = criterion.met(network)
            if solved or count >= limit:
                break
        if not np.isfinite(outputs[-1]).all():
            break
    seconds = time.perf_counter() - begin
    test = task.test or task.make
    if task.every_step:
        return Result(solved, count, seconds, float("nan"))  # the criterion is such a test itself
    wrong, done = 0.0, 0
    while done < 2560:
        wrong += 64 * fraction_wrong(network, *test(64, rng), task.limit)[0]
        done += 64
    return Result(solved, count, seconds, wrong / done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(TASKS), default="6a")
    parser.add_argument(
        "--T", type=int, help="length or lag; reber: 41 or 32, blocks and their size; default: the paper's"
    )
    parser.add_argument("--seeds", type=int, default=5, help="runs, with seeds 0, 1, ... (default 5)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--practice", choices=("1997", "today"), default="today")
    parser.add_argument("--limit", type=int, default=5_000_000, help="sequences after which a run has failed")
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes after which a run has failed")
    parser.add_argument("--learning-rate", type=float, help="default: the paper's, or what tasks.py says")
    other = parser.add_argument_group("departures from the paper, of --practice 1997")
    other.add_argument("--no-slope", action="store_true", help="output errors without the slope of the logistic")
    other.add_argument("--full-gradient", action="store_true", help="through time, not truncated")
    today = parser.add_argument_group("of --practice today; by default what tasks.py says")
    today.add_argument("--cell", choices=("lstm", "gru"))
    today.add_argument("--hidden-size", type=int)
    today.add_argument("--batch-size", type=int)
    arguments = parser.parse_args()
    for name, least in (("seeds", 1), ("first_seed", 0), ("limit", 1), ("hidden_size", 1), ("batch_size", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    for name in ("minutes", "learning_rate"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < np.inf:
            parser.error(f"--{name.replace('_', '-')} must be a number above 0, got {value}")
    options = ("cell", "hidden_size", "batch_size", "learning_rate")
    given = {name: getattr(arguments, name) for name in options if getattr(arguments, name) is not None}
    if arguments.practice == "1997" and set(given) - {"learning_rate"}:
        parser.error("--cell, --hidden-size and --batch-size are for --practice today; the paper's are fixed")
    if arguments.practice == "today" and (arguments.no_slope or arguments.full_gradient):
        parser.error("--no-slope and --full-gradient are for --practice 1997")

    results = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        try:
            task = TASKS[arguments.task](arguments.T, seed)
            task.make(1, np.random.default_rng(0))  # so that a length that the task does not have is said here
        except ValueError as error:
            parser.error(str(error))
        if arguments.practice == "1997":
            batch_size = 1
            departures = {"slope": not arguments.no_slope, "truncated": not arguments.full_gradient}
            old = dataclasses.replace(task.setup, **departures, **given)
            network: Network = Network1997(task.inputs, task.outputs, task.every_step, old, seed)
            size, rate = task.weights, old.learning_rate
        else:
            rate = task.setup.learning_rate
            setup = dataclasses.replace(task.today, **given)
            batch_size = setup.batch_size
            network = NetworkToday(task.inputs, task.outputs, task.every_step, task.classes, setup, seed)
            size = sum(w.size for w in network.layer.parameters.values()) + network.V.size + network.c.size
        result = train(task, network, batch_size, seed, arguments.limit, arguments.minutes)
        results.append(result)
        outcome = "solved" if result.solved else "not solved"
        wrong = "" if np.isnan(result.wrong) else f", {result.wrong:.2%} of 2560 new sequences wrong"
        print(f"seed {seed}: {outcome} after {result.sequences} sequences, {result.seconds:.0f} s{wrong}", flush=True)

    solved = [r.sequences for r in results if r.solved]
    mean = f"{np.mean(solved):,.0f}" if solved else "-"
    spread = f"{min(solved):,} to {max(solved):,}" if solved else "-"
    print()
    print("| task | practice | weights | solved | sequences to success, mean | from, to | paper: sequences | solved |")
    print("|---|---|---|---|---|---|---|---|")
    paper = task.paper if rate == task.setup.learning_rate else task.other_rates.get(rate, ("-", "-"))
    print(
        f"| {task.name} | {arguments.practice} | {size} | {len(solved)} of {len(results)} | {mean} | {spread} "
        f"| {paper[0]} | {paper[1]} |"
    )


if __name__ == "__main__":
    main()
