"""Where the time of a task goes, in parts that add up to all of it."""

from collections import defaultdict
from time import perf_counter

from flows.observe import traces

OTHER = "other"
"""What no lap has been told about."""


class Laps:
    """A stop watch that runs from when it is made; each lap is of one part of the work, and a span of a trace.

    Parameters
    ----------
    spans
        Whether they are: not where another watch runs, whose lap all this is.
    """

    def __init__(self, spans: bool = True) -> None:
        self._spans = spans
        self._last = perf_counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def lap(self, part: str) -> None:
        """Count the time since the last lap to ``part``."""
        now = perf_counter()
        self._seconds[part] += now - self._last
        if self._spans and part != OTHER:
            traces.part(part, now - self._last)
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Part -> s; what no lap has been told about is `OTHER`."""
        self.lap(OTHER)
        return dict(self._seconds)
