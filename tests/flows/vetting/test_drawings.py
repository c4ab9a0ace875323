"""Drawings of the candidate's page: what they show is read off their own ticks."""

from xml.etree import ElementTree

import numpy as np
import pytest

from flows.vetting.drawings import tracklet_chart
from tests.support.svg import frame, scales


@pytest.mark.parametrize("ra0", [150.0, 359.9995])
def test_a_tracklet_lies_on_the_sky_with_east_to_the_left(ra0):
    east, north = np.array([0.0, 8.0, -3.0]), np.array([0.0, 2.0, 5.0])  # arcsec
    dec = 60.0 + north / 3600
    ra = (ra0 + east / 3600 / np.cos(np.radians(60.0))) % 360
    svg = ElementTree.fromstring(tracklet_chart([7, 8, 9], ra, dec, np.array([61000.0, 61000.5, 61001.0]), 8))
    assert svg.get("aria-label") == "Tracklet of 3 detections on the sky"
    assert svg.get("role") == "group"
    across, upward = scales(svg)
    links = list(svg.iter("a"))
    circles = [one.find("g").find("circle") for one in links]
    places = [(float(one.get("cx")), float(one.get("cy"))) for one in circles]
    assert [across(x) for x, _ in places] == pytest.approx(east, abs=0.02)
    assert [upward(y) for _, y in places] == pytest.approx(north, abs=0.02)
    assert abs(across.c[0]) == pytest.approx(abs(upward.c[0]), rel=0.01)  # as much of the sky per pixel both ways
    assert across.c[0] < 0
    assert [one.get("href") for one in links] == ["/candidate/7", "/candidate/8", "/candidate/9"]
    assert [one.find("g").get("class") for one in links] == ["point part-1", "point part-1 current", "point part-1"]
    way = next(svg.iter("polyline")).get("points").split()
    assert [tuple(map(float, one.split(","))) for one in way] == places
    left, right, base = frame(svg)
    middle = (left + right) / 2
    assert np.mean([min(x for x, _ in places), max(x for x, _ in places)]) == pytest.approx(middle, abs=0.1)
    height = max(y for _, y in places) - min(y for _, y in places)
    width = max(x for x, _ in places) - min(x for x, _ in places)
    # A fifth more than the tracklet, along the side that it fills more of.
    assert max(width / (right - left), height / (base - 14)) == pytest.approx(1 / 1.2, rel=0.01)


def test_a_tracklet_at_one_place_is_drawn_and_none_is_not():
    one = np.array([10.0, 10.0])
    svg = ElementTree.fromstring(tracklet_chart([1, 2], one, one, np.array([61000.0, 61000.1]), 1))
    assert len({(circle.get("cx"), circle.get("cy")) for circle in svg.iter("circle")}) == 1
    nothing = np.zeros(0)
    assert tracklet_chart([], nothing, nothing, nothing, 1) == ""
