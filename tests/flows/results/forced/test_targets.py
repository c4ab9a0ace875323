from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from flows.results.forced.target_file import TargetFile
from flows.results.forced.targets import forced_targets
from schemas.errors import Misconfigured

PLAIN = {"name": ["b", "a"], "ra": ["10", "20"], "dec": ["-5", "60"]}
MOVING = PLAIN | {"epoch": ["61000", "61000.5"], "rate_ra_cosdec": ["30", "0"], "rate_dec": ["-40", "0"]}


def read(columns, units=None):
    return forced_targets(TargetFile(Path("list.csv"), columns, units or {}))


def test_what_does_not_move_needs_neither_epoch_nor_rate():
    targets, bad = read(PLAIN)
    assert bad == ()
    assert targets.name.tolist() == ["a", "b"]
    for mjd in (50000.0, 61000.0):
        sky = targets.at(mjd)
        np.testing.assert_allclose(sky.ra, [20, 10], atol=1e-12)
        np.testing.assert_allclose(sky.dec, [60, -5], atol=1e-12)


def test_both_ways_to_state_a_motion_are_the_same():
    polar = PLAIN | {"epoch": MOVING["epoch"], "rate": ["50", "0"], "position_angle": [str(90 + 53.13010235), ""]}
    one, other = read(MOVING)[0], read(polar)[0]
    np.testing.assert_allclose(one.rate, other.rate)
    np.testing.assert_allclose(one.angle, other.angle, atol=1e-7)
    assert one.rate.tolist() == [0.0, 50.0]


def test_place_is_that_of_astropy():
    sky = read(MOVING)[0].at(61000.25)
    there = SkyCoord(10, -5, unit="deg").directional_offset_by((90 + 53.13010235) * u.deg, 6 * 50 * u.arcsec)
    assert SkyCoord(sky.ra[1], sky.dec[1], unit="deg").separation(there).arcsec < 1e-5


def test_bad_rows_are_left_out_and_all_told():
    columns = {
        "name": ["a", "", "c", "a", "e", "f", "g"],
        "ra": ["1", "2", "x", "4", "360", "6", "7"],
        "dec": ["1", "2", "3", "4", "5", "91", "7"],
        "epoch": ["61000", "61000", "61000", "61000", "", "61000", ""],
        "rate": ["1", "1", "1", "1", "0", "1", "1"],
        "position_angle": ["1"] * 7,
    }
    targets, bad = read(columns)
    assert targets.name.tolist() == ["a", "e"]
    assert targets.ra.tolist() == [1.0, 0.0]
    assert [error.where.removeprefix("list.csv: ") for error in bad] == [
        "row 2, column name", "row 3, column ra", "row 4, column name", "row 6, column dec", "row 7, column epoch",
    ]  # fmt: skip
    assert "must differ from all others" in str(bad[2])


def test_digest_is_that_of_the_targets_alone():
    one = read(MOVING)[0].digest
    swapped = {name: cells[::-1] for name, cells in MOVING.items()} | {"remark": ["x", "y"]}
    assert read(swapped)[0].digest == one
    assert read(MOVING | {"ra": ["10", "20.0001"]})[0].digest != one


@pytest.mark.parametrize(
    ("columns", "code", "words"),
    [
        ({"name": [], "ra": []}, "missing_column", "has no column dec"),
        (PLAIN | {"rate": ["1", "1"]}, "missing_column", "has no column position_angle, epoch"),
        (PLAIN | {"rate_dec": ["1", "1"], "epoch": ["1", "1"]}, "missing_column", "has no column rate_ra_cosdec"),
        (MOVING | {"epoch_utc": ["1", "1"]}, "stated_twice", "both epoch and epoch_utc"),
        (MOVING | {"rate": ["1", "1"], "position_angle": ["1", "1"]}, "stated_twice", "rate/position_angle"),
    ],
)
def test_columns_must_fit_together(columns, code, words):
    with pytest.raises(Misconfigured) as caught:
        read(columns)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_list_without_rows_has_no_targets():
    targets, bad = read({"name": [], "ra": [], "dec": []})
    assert (len(targets), bad) == (0, ())
    assert len(targets.at(61000.0).ra) == 0
