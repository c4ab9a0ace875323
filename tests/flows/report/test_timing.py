from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.report.timing import timing


@given(
    st.dictionaries(st.sampled_from(["read", "detect", "merge", "other", "waiting"]), st.floats(0.001, 1e4), min_size=1)
)
def test_stages_share_the_bar(seconds):
    found = timing(seconds)
    assert [stage.stage for stage in found.stages] == list(seconds)
    widths = [float(rect.get("width")) for rect in ElementTree.fromstring(found.bar).iter("rect")]
    assert widths == pytest.approx([1000 * time / sum(seconds.values()) for time in seconds.values()], abs=0.006)


def test_elapsed_time_is_no_worker_time():
    found = timing(
        {"wall": 100.0, "startup": 5.0, "search": 4.0, "report": 2.0, "read": 1.0, "detect": 3.0, "merge": 0.0}
    )
    assert [(stage.stage, stage.time, stage.share) for stage in found.stages] == [
        ("read", "1.0 s", "25 %"),
        ("detect", "3.0 s", "75 %"),
    ]
    assert found.total == "4.0 s"


def test_what_is_no_stage_has_a_colour_of_its_own():
    found = timing({"detect": 3.0, "other": 1.0, "waiting": 2.0})
    assert [stage.style for stage in found.stages] == ["part-0", "part-other", "part-waiting"]


def test_nothing_timed():
    assert timing({"wall": 3.0}) is None
