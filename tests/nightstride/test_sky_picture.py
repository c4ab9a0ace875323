import re

import pyarrow as pa
import pytest

from flows.results.catalogue_rows import MemoryRows
from nightstride.sky_picture import MOST, sky_picture


def shown(ra, dec, reliability=0.9):
    table = pa.table({"ra": pa.array(ra, pa.float64()), "dec": dec, "reliability": [reliability] * len(ra)})
    return sky_picture(MemoryRows("dia_source", table))


def places(svg):
    (path,) = re.findall(r'class="dots \w+" d="([^"]*)"', svg)
    return [(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h0", path)]


def test_east_is_to_the_left_and_north_up_across_the_first_hour_too():
    for first in (150.0, 359.9):
        (x0, y0), (x1, y1) = places(shown([first, (first + 0.2) % 360], [10.0, 10.1]))
        assert (x1 < x0, y1 < y0) == (True, True)
    assert places(shown([359.9, 0.1], [10.0, 10.1])) == places(shown([150.0, 150.2], [10.0, 10.1]))


def test_ticks_of_a_narrow_field_differ():
    ticks = re.findall(r'class="tick"[^>]*>([^<]*)<', shown([150.1234567, 150.1234667], [-30.1234567, -30.1234467]))
    assert len(set(ticks)) == len(ticks) > 3


def test_no_more_is_drawn_than_the_limit_and_that_is_said():
    svg = shown([float(n % 300) for n in range(MOST + 5)], [1.0] * (MOST + 5))
    assert len(places(svg)) == MOST
    assert "<p>2,000 detections on the sky, of the first 2,000;" in svg
    assert "<p>2,000 detections on the sky;" in shown([5.0] * MOST, [1.0] * MOST)
    some = shown([5.0] * 9 + [None] * MOST, [1.0] * (MOST + 9))
    assert "<p>9 detections on the sky, of the first 2,000;" in some


@pytest.mark.parametrize("ra", [[], [None]])
def test_without_a_place_there_is_nothing_to_draw(ra):
    assert shown(ra, [1.0] * len(ra)) == ""
