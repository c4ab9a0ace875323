import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flows.results.page.axes import Axis
from flows.results.page.chart import HEIGHT, WIDTH
from flows.results.page.scatter import Dots, TrendNight, scatter_chart, trend_chart

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


def drawn_lines(root):
    return [[float(line.get(name)) for name in ("x1", "x2", "y1", "y2")] for line in root.iter("line")]


def words(root):
    return [(text.text, text.get("x"), text.get("y"), text.get("transform")) for text in root.iter("text")]


def test_axes_and_points_are_drawn_to_the_pixel():
    """The plot is 442 x 218 px: from 66 to 508 across, and from 232 up to 14."""
    dots = Dots("a", np.array([0.0, 5.0, 2.0]), np.array([20.0, 10.0, 14.0]))
    root = ElementTree.fromstring(scatter_chart(Axis("x", 0, 5), Axis("r", 20, 10), [dots], "t"))
    assert places(scatter_chart(Axis("x", 0, 5), Axis("r", 20, 10), [dots], "t"))["dots a"] == [
        (66, 232), (508, 14), (243, 101),
    ]  # fmt: skip
    levels = [14, 57.6, 101.2, 144.8, 188.4, 232]
    assert drawn_lines(root) == [[66, 508, y, y] for y in (*levels, 232)]
    assert words(root) == [
        *((f"{tick}", "58", f"{y + 4:.1f}", None) for tick, y in zip((10, 12, 14, 16, 18, 20), levels, strict=True)),
        *((f"{tick}", f"{66 + 88.4 * tick:.1f}", "249", None) for tick in range(6)),
        ("x", "287.0", "272", None),
        ("r", None, None, "translate(13 123.0) rotate(-90)"),
    ]
    assert root.get("viewBox") == "0 0 520 280"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 5.0, [0, 1, 2, 3, 4, 5]),
        (1.0, -9.0, [-8, -6, -4, -2, 0]),
        (0.1, 24.9, [5, 10, 15, 20]),
        (-3.0, 24.0, [0, 10, 20]),
    ],
)
def test_ticks_of_an_axis(low, high, ticks):
    assert list(Axis("x", low, high).ticks) == ticks


def trend(*values, median=None, sigma=None):
    return [
        TrendNight(f"2026{1 + i // 28:02d}{1 + i % 28:02d}", v, median, sigma, "no_history")
        for i, v in enumerate(values)
    ]


def upward(svg):
    return [text for text, x, _, _ in words(ElementTree.fromstring(svg)) if x == "58"]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((1.0, 2.0, 3.0), ["0", "1", "2", "3", "4"]),
        ((0.0, 1.0), ["−0.5", "0", "0.5", "1", "1.5"]),
        ((0.08, 1.08), ["0", "0.5", "1", "1.5"]),  # a twentieth of the span is left at either end
        ((0.42, 1.42), ["0", "0.5", "1", "1.5"]),
        ((0.0, 1.6), ["−0.5", "0", "0.5", "1", "1.5", "2"]),
        ((0.0, 2.0), ["−1", "0", "1", "2", "3"]),
        ((5.0,), ["4.6", "4.8", "5", "5.2", "5.4"]),
        ((-5.0,), ["−5.4", "−5.2", "−5", "−4.8", "−4.6"]),
        ((0.0,), ["−0.05", "0", "0.05"]),
        ((0.0, 36.36363636363636), ["−10", "0", "10", "20", "30", "40"]),  # a quarter of it with its margins is 10
        ((1e-7, 3e-7), ["0", "1e−07", "2e−07", "3e−07", "4e−07"]),  # as in Jy
        ((0.1, 0.7), ["0", "0.2", "0.4", "0.6", "0.8"]),
        ((0.0, 30000.0), ["−10,000", "0", "10,000", "20,000", "30,000", "40,000"]),
    ],
)
def test_ticks_of_a_trend_hold_all_values_with_a_margin(values, ticks):
    assert upward(trend_chart(trend(*values), "t", "u")) == ticks


@pytest.mark.parametrize("value", [0.3, 20.0, -7.0])
@pytest.mark.parametrize("share", [0.0, 2.0**-52, -1e-13, 1e-10])
def test_values_that_differ_in_their_last_digits_are_drawn_as_equal_ones(value, share):
    svg = trend_chart(trend(value, value * (1 + share)), "t", "u")
    assert len(set(upward(svg))) == len(upward(svg)) >= 3
    first, second = map(float, re.findall(r'cy="([\d.]+)"', svg))
    assert first == second


def test_ticks_of_a_trend_hold_the_medians_with_their_scatter():
    assert upward(trend_chart(trend(2.0, 3.0, median=2.0, sigma=3.0), "t", "u")) == ["−2", "0", "2", "4", "6"]
    assert upward(trend_chart(trend(2.0, 3.0, median=-1.0), "t", "u")) == ["−2", "0", "2", "4"]


def test_a_trend_is_drawn_to_the_pixel():
    """Four steps from 0 to 4 make 54.5 px each; three nights 147.33 px."""
    svg = trend_chart(trend(1.0, None, 3.0, median=2.0, sigma=0.5), "t", "u")
    root = ElementTree.fromstring(svg)
    assert drawn_lines(root) == [[66, 508, y, y] for y in (232, 177.5, 123, 68.5, 14, 232)]
    assert words(root) == [
        ("0", "58", "236.0", None), ("1", "58", "181.5", None), ("2", "58", "127.0", None), ("3", "58", "72.5", None),
        ("4", "58", "18.0", None), ("01-03", "434.3", "249", None), ("01-02", "287.0", "249", None),
        ("01-01", "139.7", "249", None), ("night", "287.0", "272", None),
        ("u", None, None, "translate(13 123.0) rotate(-90)"),
    ]  # fmt: skip
    assert [(c.get("cx"), c.get("cy"), c.get("r"), c.find("title").text) for c in root.iter("circle")] == [
        ("139.7", "177.5", "4", "20260101: 1, no history"),
        ("434.3", "68.5", "6", "20260103: 3, no history"),
    ]
    assert root.find("polygon").get("points") == "139.7,95.8 287.0,95.8 434.3,95.8 434.3,150.2 287.0,150.2 139.7,150.2"
    assert root.find("polyline").get("points") == "139.7,123.0 287.0,123.0 434.3,123.0"
    thin = ElementTree.fromstring(trend_chart(trend(1.0, 3.0, median=2.0), "t", "u"))
    assert thin.find("polygon").get("points") == "176.5,123.0 397.5,123.0 397.5,123.0 176.5,123.0"


@pytest.mark.parametrize(("count", "labels"), [(6, 6), (7, 4), (12, 6), (13, 5)])
def test_a_trend_names_six_nights_at_most_and_the_last_among_them(count, labels):
    found = [text for text, _, _, _ in words(ElementTree.fromstring(trend_chart(trend(*range(count)), "t", "u")))]
    named = [text for text in found if text and re.fullmatch(r"\d\d-\d\d", text)]
    assert len(named) == labels
    assert named[0] == f"01-{count:02d}"
