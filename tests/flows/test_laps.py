import itertools

from flows import laps
from flows.laps import Laps


def test_parts_add_up_to_the_time_that_passed(monkeypatch):
    monkeypatch.setattr(laps, "perf_counter", itertools.accumulate([100.0, 1.0, 2.0, 4.0, 8.0]).__next__)
    watch = Laps()
    for part in ("read", "detect", "read"):
        watch.lap(part)
    assert watch.seconds() == {"read": 5.0, "detect": 2.0, "other": 8.0}
