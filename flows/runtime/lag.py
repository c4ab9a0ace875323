"""Lag of results: durations, and their percentiles."""

import math
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

from schemas.ledger import Percentiles

LATEST = 10_000
"""Number of exposures that percentiles cover: a few hours of a survey, in little memory."""


class Lag:
    """Latest durations, s."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=LATEST)

    def add(self, seconds: float) -> None:
        """Add a duration."""
        self._latest.append(seconds)

    def percentiles(self) -> Percentiles | None:
        """Return median and 99th percentile; None without durations."""
        return percentiles(self._latest)


def lag_since(exposure_ended: datetime) -> float:
    """Return the time from the end of an exposure until now, s."""
    return (datetime.now(UTC) - exposure_ended).total_seconds()


def percentiles(seconds: Sequence[float]) -> Percentiles | None:
    """Return median and 99th percentile of durations, by nearest rank.

    None if there are none.
    """
    if not seconds:
        return None
    ordered = sorted(seconds)
    return Percentiles(n=len(ordered), p50=_rank(ordered, 0.50), p99=_rank(ordered, 0.99))


def _rank(ordered: Sequence[float], share: float) -> float:
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3)
