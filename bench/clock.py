"""Timing several ways of doing one thing side by side."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

TURN_SECONDS = 0.02  # what one peer runs before the next has its turn


def interleave(calls: Mapping[str, Callable[[], object]], *, seconds: float, rounds: int = 5) -> dict[str, list[float]]:
    """Seconds of each call of each peer, in turns A B C A B C, so that a change of the machine meets all alike.

    A turn starts with one call that is not counted (the other peers' data has filled the caches, and their idle threads
    may still spin for a moment); calls longer than a turn are counted from the first. At least `rounds` rounds, and
    more while less than `seconds` a peer have passed. The garbage collector rests meanwhile.
    """
    repetitions = {}
    for name, call in calls.items():
        call()
        once = _timed(call)
        repetitions[name] = max(1, min(1000, int(TURN_SECONDS / max(once, 1e-7))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        done = 0
        while done < rounds or time.perf_counter() - start < seconds * len(calls):
            for name, call in calls.items():
                if repetitions[name] > 1:
                    call()
                times[name] += [_timed(call) for _ in range(repetitions[name])]
            done += 1
    finally:
        if was_enabled:
            gc.enable()
    return times


def medians_ms(calls: Mapping[str, Callable[[], object]], *, seconds: float, rounds: int = 5) -> dict[str, float]:
    """The median of each call in milliseconds, timed by `interleave`."""
    found = interleave(calls, seconds=seconds, rounds=rounds)
    return {name: 1e3 * statistics.median(times) for name, times in found.items()}


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
