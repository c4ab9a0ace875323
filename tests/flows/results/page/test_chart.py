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


def test_axes_are_drawn_to_the_pixel():
    """The plot is 442 x 218 px: from 66 to 508 across, and from 232 up to 14."""
    root = ElementTree.fromstring(bar_chart(frame(), []))
    grid = [[float(line.get(name)) for name in ("x1", "x2", "y1", "y2")] for line in root.iter("line")]
    assert grid == [[66, 508, 232, 232], [66, 508, 123, 123], [66, 508, 14, 14], [66, 508, 232, 232]]
    words = [(text.text, text.get("x"), text.get("y"), text.get("transform")) for text in root.iter("text")]
    assert words == [
        ("0", "58.0", "236.0", None), ("5", "58.0", "127.0", None), ("10", "58.0", "18.0", None),
        ("0", "66.0", "249.0", None), ("1", "213.3", "249.0", None), ("2 < x", "360.7", "249.0", None),
        ("∞", "508.0", "249.0", None), ("across", "287.0", "272", None),
        ("upward", None, None, "translate(13 123.0) rotate(-90)"),
    ]  # fmt: skip
    assert root.get("viewBox") == "0 0 520 280"


def test_bars_leave_a_pixel_to_either_side_and_pile_up():
    piles = [Bars(name, "a", (2.5, -1.0, 20.0)) for name in ("one", "two")] + [Bars("three", "a", (5.0, 1.0, 0.0))]
    drawn = [
        [float(rect.get(name)) for name in ("x", "y", "width", "height")]
        for rect in ElementTree.fromstring(bar_chart(frame(), piles)).iter("rect")
    ]
    assert drawn == [
        [67.0, 177.5, 145.3, 54.5],
        [361.7, 14.0, 145.3, 218.0],
        [67.0, 123.0, 145.3, 54.5],
        [361.7, 14.0, 145.3, 0.0],  # clipped to the chart
        [67.0, 14.0, 145.3, 109.0],
        [214.3, 210.2, 145.3, 21.8],
    ]


def test_points_lie_in_the_middle_of_their_bins_and_within_the_chart():
    points = Points("ours", "ours", (-3.0, 5.0, 30.0), ((-4.0, 2.5), None, (10.0, 40.0)))
    root = ElementTree.fromstring(point_chart(frame(), [points]))
    places = [(float(circle.get("cx")), float(circle.get("cy"))) for circle in root.iter("circle")]
    assert places == [(139.7, 232.0), (287.0, 123.0), (434.3, 14.0)]
    assert root.find("polyline").get("points") == "139.7,232.0 287.0,123.0 434.3,14.0"
    intervals = [
        [float(line.get(name)) for name in ("x1", "x2", "y1", "y2")]
        for line in root.iter("line")
        if line.get("class") == "interval ours"
    ]
    assert intervals == [[139.7, 139.7, 232.0, 177.5], [434.3, 434.3, 14.0, 14.0]]
    apart = ElementTree.fromstring(point_chart(frame(), [Points("a", "a", (1.0, 2.0, 3.0), joined=False)]))
    assert apart.find("polyline") is None
    nothing = ElementTree.fromstring(point_chart(frame(), [Points("a", "a", (None, None, None))]))
    assert nothing.find("polyline") is None


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [
        (0.0, (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (-4.0, (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (0.3, (0, 0.1, 0.2, 0.3)),
        (5.0, (0, 1, 2, 3, 4, 5)),
        (5.1, (0, 2, 4, 6)),
        (10.0, (0, 2, 4, 6, 8, 10)),
        (10.1, (0, 5, 10, 15)),
        (25.0, (0, 5, 10, 15, 20, 25)),
        (26.0, (0, 10, 20, 30)),
        (50.0, (0, 10, 20, 30, 40, 50)),
    ],
)
def test_ticks_of_a_largest_value(largest, ticks):
    assert value_ticks(largest) == pytest.approx(ticks)


def test_ticks_of_few_things_are_one_apart():
    assert [count_ticks(largest) for largest in (0, 1, 3)] == [(0, 1), (0, 1), (0, 1, 2, 3)]


def test_a_shared_bar_runs_from_left_to_right_with_its_shares_in_words():
    root = ElementTree.fromstring(stacked_bar([("a", "x", 1.0), ("b", "y", 2.0), ("c", "z", 5.0)], "time"))
    drawn = [(rect.get("x"), rect.get("width"), rect.find("title").text) for rect in root.iter("rect")]
    assert drawn == [("0.00", "125.00", "a: 12 %"), ("125.00", "250.00", "b: 25 %"), ("375.00", "625.00", "c: 62 %")]
    empty = ElementTree.fromstring(stacked_bar([("a", "x", 0.0)], "time"))
    assert [rect.find("title").text for rect in empty.iter("rect")] == ["a: 0 %"]
