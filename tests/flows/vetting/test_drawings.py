"""Drawings of the candidate's page: what they show is read off their own ticks."""

from xml.etree import ElementTree

import numpy as np
import pytest

from flows.vetting.drawings import light_curve, tracklet_chart

NAMES = {"u": "part-3", "g": "part-1", "r": "part-4", "i": "part-2", "z": "part-0", "y": "part-7", "?": "part-other"}


def rows_of(*values):
    names = ("diaSourceId", "band", "midpointMjdTai", "psfFlux", "psfFluxErr")
    return [dict(zip(names, row, strict=True)) for row in values]


def scales(svg):
    """Functions from places on the drawing to values, across and upward, by the ticks at its edges."""
    ticks = [one for one in svg.iter("text") if one.get("class") == "tick"]
    left = [one for one in ticks if one.get("text-anchor") == "end"]
    below = [one for one in ticks if one.get("text-anchor") == "middle"]
    lines = [float(one.get("y1")) for one in svg.iter("line") if one.get("class") == "grid"]
    assert [float(one.get("y")) for one in left] == pytest.approx([one + 4 for one in lines], abs=0.06)
    found = []
    for places, texts in (([float(one.get("x")) for one in below], below), (lines, left)):
        values = [float(one.text.replace(",", "")) for one in texts]
        assert len(values) >= 2
        found.append(np.poly1d(np.polyfit(places, values, 1)))
    return found


def frame(svg):
    """Edges of the drawing: left, right, and the y of its base."""
    (base,) = (one for one in svg.iter("line") if one.get("class") == "base")
    assert base.get("y1") == base.get("y2")
    return float(base.get("x1")), float(base.get("x2")), float(base.get("y1"))


def test_a_light_curve_shows_fluxes_with_their_errors():
    rows = rows_of(
        (1, "u", 61000.75, 900.0, 50.0), (2, "g", 61003.25, -200.0, 80.0), (3, "?", 61010.5, 2500.0, None),
        (4, "r", 61004.0, None, None), (5, "i", 61005.0, 1000.0, 100.0), (6, "z", 61006.0, 1100.0, 100.0),
        (7, "y", 61007.0, 1200.0, 100.0), (8, "r", 61008.0, 1300.0, 100.0),
    )  # fmt: skip
    svg = ElementTree.fromstring(light_curve(rows, 5))
    assert svg.get("aria-label") == "Light curve of 7 detections"
    assert svg.get("role") == "img"
    across, upward = scales(svg)
    shown = [row for row in rows if row["psfFlux"] is not None]
    groups = list(svg.iter("g"))
    left, right, base = frame(svg)
    assert len(groups) == len(shown)
    for row, group in zip(shown, groups, strict=True):
        circle, line = group.find("circle"), group.find("line")
        x, error = float(circle.get("cx")), row["psfFluxErr"] or 0.0
        assert across(x) == pytest.approx(row["midpointMjdTai"] - 61000, abs=0.03)
        assert upward(float(circle.get("cy"))) == pytest.approx(row["psfFlux"], abs=10)
        ends = [upward(float(line.get(name))) for name in ("y1", "y2")]
        assert ends == pytest.approx([row["psfFlux"] - error, row["psfFlux"] + error], abs=15)
        assert line.get("x1") == line.get("x2") == circle.get("cx")
        assert left < x < right
        assert 0 < min(float(line.get("y2")), float(circle.get("cy"))) < base
        assert group.get("class").split() == ["point", NAMES[row["band"]]] + ["current"] * (row["diaSourceId"] == 5)
        assert f"{row['psfFlux']:.0f} ± {error:.0f} nJy" in group.find("title").text
    names = [one.text for one in svg.iter("text") if one.get("class") == "axis"]
    assert names == ["MJD (TAI) − 61000, d", "Flux, nJy"]
    assert upward(base) < -280  # room below the lowest end
    assert across(left) < 0.75 < 10.5 < across(right)


def test_a_flux_alone_is_drawn_and_nothing_is_not():
    svg = ElementTree.fromstring(light_curve(rows_of((1, "r", 61000.0, 5.0, 0.0)), 1))
    assert len(list(svg.iter("circle"))) == 1
    assert light_curve(rows_of((1, "r", 61000.0, None, None)), 1) == light_curve([], 1) == ""


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
