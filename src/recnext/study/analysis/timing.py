"""Times of several functions measured turn by turn, so that a busy moment of the machine meets all of them."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Interleaved:
    """Medians of interleaved timings.

    Iterating runs one turn a step, after an untimed one; `medians` then holds what has been measured.

    Args:
        functions: name to what is timed.
        rounds: turns; every function runs once or more in each.
        least: seconds a function is repeated for within a turn, to outlast the clock's grain.
    """

    def __init__(self, functions: Mapping[str, Callable[[], Any]], *, rounds: int = 7, least: float = 0.01) -> None:
        self.functions = functions
        self.rounds = rounds
        self.least = least
        self._seconds: dict[str, list[float]] = {name: [] for name in functions}

    def __len__(self) -> int:
        return (self.rounds + 1) * len(self.functions)

    def __iter__(self) -> Iterator[str]:
        for turn in range(self.rounds + 1):
            for name, function in self.functions.items():
                seconds = self._time(function)
                if turn > 0:
                    self._seconds[name].append(seconds)
                yield name

    def _time(self, function: Callable[[], Any]) -> float:
        start, runs = time.perf_counter(), 0
        while True:
            function()
            runs += 1
            elapsed = time.perf_counter() - start
            if elapsed >= self.least:
                return elapsed / runs

    def medians(self) -> dict[str, float]:
        """Median seconds of each function."""
        return {name: statistics.median(seconds) for name, seconds in self._seconds.items()}
