"""Timing of several callables turn by turn, so that a busy moment of the machine meets all of them."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .steady import Steady

WARM = 0.05
"""Seconds of untimed calls after which another library's threads no longer wait actively, and caches are this one's."""


CLOCK = 0.01
"""Seconds of calls on the clock against which its grain does not count."""


@dataclass(frozen=True)
class Timing:
    """Times of one callable, in seconds per call."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    best: float
    rounds: int


def interleaved(
    functions: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 15,
    seconds: float = 1.5,
    calls: int = 2,
) -> dict[str, Timing]:
    """Times callables turn by turn after one turn of warm-up.

    A turn calls each of them once untimed, which ends the spinning of the other's threads and fills the
    caches, then `calls` times on the clock.

    Args:
        functions: name to a call that returns when its work is done.
        rounds: turns at most.
        seconds: time to spend on all of them; three turns are always made.
        calls: timed calls a turn.

    Returns:
        A Timing by name.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in timed_turns(functions, times, rounds=rounds, seconds=seconds, calls=calls):
        pass
    return {name: timing(values) for name, values in times.items()}


def timed_turns(
    functions: Mapping[str, Callable[[], Any]],
    times: dict[str, list[float]],
    *,
    rounds: int,
    seconds: float,
    calls: int,
    least: float = 0.0,
    steady: Optional[Steady] = None,
    warm: float = 0.0,
) -> Iterator[int]:
    """Fills `times` turn by turn and yields the number of each: `interleaved` for those who show progress.

    Threads of the callable before may wait actively for the next one, ONNX Runtime's for some 30 ms by default, and
    take a core away from this one: each is called untimed for `warm` seconds, and once at least. On the clock it is
    called `calls` times, and on until `least` seconds have passed.

    With `steady`, a turn starts when the machine is undisturbed, and one in whose course it was not is taken again,
    as often as there are turns, at most.
    """
    for function in functions.values():
        function()
    start, turn = time.perf_counter(), 0
    while turn < rounds:
        if steady is not None:
            steady.wait()
        taken: dict[str, float] = {}
        for name, function in functions.items():
            begun = time.perf_counter()
            function()
            while time.perf_counter() - begun < warm:
                function()
            taken[name] = _seconds_a_call(function, calls, least)
        if steady is not None and not steady.undisturbed() and steady.discarded < rounds:
            steady.discarded += 1
            continue
        for name, value in taken.items():
            times[name].append(value)
        yield turn
        turn += 1
        if turn > 2 and time.perf_counter() - start > seconds:
            return


def _seconds_a_call(function: Callable[[], Any], calls: int, least: float) -> float:
    begun, runs, elapsed = time.perf_counter(), 0, 0.0
    while runs < calls or elapsed < least:
        function()
        runs += 1
        elapsed = time.perf_counter() - begun
    return elapsed / runs


def timing(values: list[float]) -> Timing:
    """Median and quartiles of times in seconds."""
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return Timing(statistics.median(values), quartiles[0], quartiles[2], min(values), len(values))
