import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.results.page.chart import (
    HEIGHT,
    WIDTH,
    Bars,
    ChartFrame,
    Points,
    bar_chart,
    count_ticks,
    point_chart,
    stacked_bar,
    value_ticks,
)

HEIGHTS = st.lists(st.floats(0, 1e6), min_size=3, max_size=3).map(tuple)


def frame(top=10.0, ticks=(0.0, 5.0, 10.0)):
    return ChartFrame(("0", "1", "2 < x", "∞"), top, ticks, 'A "title" & more', "across", "upward")


@given(st.floats(1e-6, 1e9))
def test_ticks_are_round_few_and_enough(largest):
    ticks = value_ticks(largest)
    step = ticks[1]
    assert ticks[0] == 0
    assert ticks[-1] >= largest * (1 - 1e-6)
    assert ticks[-2] < largest
    assert len(ticks) <= 7
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 5)


@given(st.integers(0, 10**7))
def test_ticks_of_counts_are_whole(largest):
    ticks = count_ticks(largest)
    assert all(tick == int(tick) for tick in ticks)
    assert ticks[-1] >= max(largest, 1)


@given(HEIGHTS, HEIGHTS)
def test_bars_are_stacked_to_scale(first, second):
    top = max(a + b for a, b in zip(first, second, strict=True)) or 1.0
    chart = bar_chart(frame(top, (0.0, top)), [Bars("one", "grade-a", first), Bars("two", "grade-b", second)])
    root = ElementTree.fromstring(chart)
    drawn = [float(rect.get("height")) for rect in root.iter("rect")]
    expected = [height for bars in (first, second) for height in bars if height > 0]
    scale = frame(top).y(0) - frame(top).y(top)
    assert drawn == pytest.approx([height / top * scale for height in expected], abs=0.11)
    for rect in root.iter("rect"):
        assert 0 <= float(rect.get("y")) <= HEIGHT
        assert 0 <= float(rect.get("x")) <= WIDTH


def test_a_bar_stands_on_the_one_below():
    chart = bar_chart(frame(), [Bars("one", "grade-a", (4.0, 0.0, 0.0)), Bars("two", "grade-b", (6.0, 0.0, 0.0))])
    lower, upper = ElementTree.fromstring(chart).iter("rect")
    assert float(upper.get("y")) + float(upper.get("height")) == pytest.approx(float(lower.get("y")), abs=0.11)
    assert upper.find("title").text == "0 to 1, two: 6"


def test_points_with_intervals_skip_what_is_not_known():
    points = Points("ours", "ours", (0.2, None, 1.0), ((0.1, 0.4), None, (0.7, 1.0)))
    root = ElementTree.fromstring(point_chart(frame(1.0, (0.0, 1.0)), [points]))
    circles = list(root.iter("circle"))
    intervals = [line for line in root.iter("line") if "interval" in line.get("class")]
    assert len(circles) == len(intervals) == 2
    assert float(circles[0].get("cy")) == pytest.approx(frame(1.0).y(0.2), abs=0.06)
    assert float(intervals[1].get("y2")) == pytest.approx(frame(1.0).y(1.0), abs=0.06)
    assert len(root.find("polyline").get("points").split()) == 2


def test_titles_are_escaped_and_read_aloud():
    root = ElementTree.fromstring(bar_chart(frame(), []))
    assert root.get("aria-label") == 'A "title" & more'
    assert root.get("role") == "img"
    assert "2 < x" in [text.text for text in root.iter("text")]


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=8))
def test_a_shared_bar_is_filled(values):
    root = ElementTree.fromstring(stacked_bar([("a & b", "part-0", value) for value in values], "time"))
    widths = [float(rect.get("width")) for rect in root.iter("rect")]
    total = sum(values)
    assert sum(widths) == pytest.approx(1000 if total else 0, abs=0.05)
    assert widths == pytest.approx([1000 * value / (total or 1) for value in values], abs=0.006)
