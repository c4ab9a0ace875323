"""Timing of things that are compared with each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Timed:
    """Seconds of each round, by name, and what the last round gave."""

    rounds: Mapping[str, tuple[float, ...]]
    results: Mapping[str, Any]

    @property
    def medians(self) -> dict[str, float]:
        """Median seconds by name."""
        return {name: median(seconds) for name, seconds in self.rounds.items()}

    def ratio(self, slow: str, fast: str) -> float:
        """Median over the rounds of how many times longer ``slow`` took."""
        return median(a / b for a, b in zip(self.rounds[slow], self.rounds[fast], strict=True))


def interleaved(
    variants: Mapping[str, Callable[[], Any]], repeats: int, clock: Callable[[], float] = perf_counter
) -> Timed:
    """Run each variant once per round, so that what disturbs the machine disturbs all alike.

    Parameters
    ----------
    variants
        What to run, by name; run them once before, or the first round pays for compilation.
    repeats
        Rounds, 1 or more.
    clock
        Gives seconds.
    """
    rounds: dict[str, list[float]] = {name: [] for name in variants}
    results: dict[str, Any] = {}
    for _ in range(repeats):
        for name, variant in variants.items():
            start = clock()
            results[name] = variant()
            rounds[name].append(clock() - start)
    return Timed({name: tuple(seconds) for name, seconds in rounds.items()}, results)
