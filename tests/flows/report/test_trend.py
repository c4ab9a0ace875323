import re
from xml.etree import ElementTree

import pytest

from flows.report.trend import Night, trend_chart


def nights(count, history=True):
    return [
        Night(f"202601{day:02d}", 2 + 0.1 * (day % 3), 2.1 if history else None, 0.1 if history else None, "pass")
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


def test_verdicts_and_negative_values():
    svg = trend_chart(
        [Night("20260101", -3.0, None, None, "fail"), Night("20260102", None, None, None, "pass")], "a<b", "mag"
    )
    assert 'class="verdict-fail"' in svg
    assert "−3" in svg
    assert "a&lt;b" in svg
