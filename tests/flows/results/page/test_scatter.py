import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flows.results.page.chart import HEIGHT, WIDTH
from flows.results.page.scatter import Axis, Dots, TrendNight, scatter_chart, trend_chart

ENDS = st.floats(-30, 30)


@given(ENDS, ENDS)
def test_ticks_are_round_within_the_axis_and_few(low, high):
    assume(abs(high - low) > 0.01)
    ticks = Axis("x", low, high).ticks
    assert 2 <= len(ticks) <= 7
    assert min(low, high) - 1e-9 <= ticks[0]
    assert ticks[-1] <= max(low, high) + 1e-9
    step = ticks[1] - ticks[0]
    assert round(step / 10 ** np.floor(np.log10(step) + 1e-9), 6) in (1, 2, 5)


def places(chart):
    found = ElementTree.fromstring(chart).findall("path")
    return {
        path.get("class"): [tuple(map(int, pair)) for pair in re.findall(r"M(\d+) (\d+)h0", path.get("d"))]
        for path in found
    }


def test_each_point_is_at_its_place_and_in_its_style():
    chart = scatter_chart(
        Axis("x & y", 0, 10),
        Axis("r, mag", 20, 10),  # bright is up
        [
            Dots("part-0", np.array([0.0, 10.0]), np.array([20.0, 10.0])),
            Dots("part-2", np.array([5.0]), np.array([15.0])),
        ],
        'A "title"',
    )
    drawn = places(chart)
    assert set(drawn) == {"dots part-0", "dots part-2"}
    (left, bottom), (right, top) = drawn["dots part-0"]
    assert left < right
    assert top < bottom
    assert drawn["dots part-2"] == [((left + right) // 2, (top + bottom) // 2)]
    assert "x &amp; y" in chart
    assert 'aria-label="A &quot;title&quot;"' in chart


def test_what_is_beyond_the_axes_is_at_their_ends():
    ((x, y), (again, other)) = places(
        scatter_chart(Axis("x", 0, 1), Axis("y", 0, 1), [Dots("a", np.array([-9.0, 9]), np.array([-9.0, 9]))], "t")
    )["dots a"]
    assert 0 < x < again < WIDTH
    assert 0 < other < y < HEIGHT


def test_a_style_without_points_draws_nothing():
    assert "<path" not in scatter_chart(Axis("x", 0, 1), Axis("y", 0, 1), [Dots("a", np.empty(0), np.empty(0))], "t")


def nights(count, history=True):
    return [
        TrendNight(f"202601{day:02d}", 2 + 0.1 * (day % 3), 2.1 if history else None, 0.1 if history else None, "pass")
        for day in range(1, count + 1)
    ]


@pytest.mark.parametrize("count", [1, 2, 28])
def test_every_night_is_a_point_within_the_chart(count):
    svg = trend_chart(nights(count), "Seeing", "arcsec")
    ElementTree.fromstring(svg)
    points = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert len(points) == count
    assert all(66 <= x <= 508 and 14 <= y <= 232 for x, y in points)


def test_the_running_median_has_its_band_where_there_is_one():
    assert "polygon" in trend_chart(nights(5), "Seeing", "arcsec")
    assert "polygon" not in trend_chart(nights(5, history=False), "Seeing", "arcsec")


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_last_night_stands_out_by_its_size(count):
    radii = re.findall(r'<circle class="verdict-[^>]* r="(\d+)"', trend_chart(nights(count), "Seeing", "arcsec"))
    assert radii == ["4"] * (count - 1) + ["6"]


def test_verdicts_and_negative_values():
    svg = trend_chart(
        [TrendNight("20260101", -3.0, None, None, "fail"), TrendNight("20260102", None, None, None, "pass")],
        "a<b",
        "mag",
    )
    assert 'class="verdict-fail"' in svg
    assert "−3" in svg
    assert "a&lt;b" in svg
