"""Where the time of a task goes, in parts that add up to all of it."""

from collections import defaultdict
from time import perf_counter


class Laps:
    """A stop watch that runs from when it is made; each lap belongs to one part of the work."""

    def __init__(self) -> None:
        self._last = perf_counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def lap(self, part: str) -> None:
        """Count the time since the last lap to ``part``."""
        now = perf_counter()
        self._seconds[part] += now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Part -> s; what no lap has been told about is ``other``."""
        self.lap("other")
        return dict(self._seconds)
