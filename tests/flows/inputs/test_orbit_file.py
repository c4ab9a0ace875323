"""Files in the format of MPCORB."""

import gzip
import logging

import numpy as np
import pytest

from flows.inputs.orbit_file import read_orbits
from schemas.errors import Misconfigured
from tests.support.orbits import asteroids, mpcorb_line, write_mpcorb

CERES = (
    "00001    3.35  0.15 K239D  17.21569   73.47045   80.26014   10.58635  0.0788175  0.21411522   2.7672543  0 "
    "E2023-F87  7283 123 1801-2023 0.65 M-v 30k MPCLINUX   4000      (1) Ceres              20230321"
)
"""From the file of 2023 April, with its epoch of 2023 September 13 (MJD 60200)."""


def test_a_published_line_is_read(tmp_path):
    path = tmp_path / "one.dat"
    path.write_text(CERES + "\n")
    orbits = read_orbits(path).orbits
    assert orbits.designation.tolist() == [b"(1) Ceres"]
    numbers = [float(column[0]) for column in orbits[1:]]
    expected = [60200, 2.7672543, 0.0788175, 10.58635, 80.26014, 73.47045, 17.21569, 3.35, 0.15, 0]
    np.testing.assert_allclose(numbers, expected)


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_written_is_read(tmp_path, packed):
    orbits = asteroids(20, 61000.0)
    path = write_mpcorb(tmp_path / "MPCORB.DAT", orbits)
    if packed:
        path = path.with_suffix(".DAT.gz")
        path.write_bytes(gzip.compress((tmp_path / "MPCORB.DAT").read_bytes()))
    found = read_orbits(path).orbits
    for name, column in found._asdict().items():
        if name == "designation":
            assert column.tolist() == orbits.designation.tolist()
        else:
            np.testing.assert_allclose(column, getattr(orbits, name), atol=1e-9, err_msg=name)


def test_blocks_join(tmp_path, monkeypatch):
    monkeypatch.setattr("flows.inputs.orbit_file._LINES", 7)
    orbits = asteroids(20, 61000.0)
    assert (
        read_orbits(write_mpcorb(tmp_path / "o.dat", orbits)).orbits.designation.tolist() == orbits.designation.tolist()
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line[:60],
        lambda line: line[:70] + "1.2000000" + line[79:],
        lambda line: line[:20] + "?26AB" + line[25:],
        lambda line: line[:20] + "K26ZB" + line[25:],
        lambda line: line[:26] + "  abc.def" + line[35:],
        lambda line: line[:92] + " -2.5000000" + line[103:],
        lambda line: line[:70] + "      nan" + line[79:],
        lambda line: "\x00" * 202,
        lambda line: "é" * 150,
    ],
    ids=["short", "hyperbolic", "century", "month", "no number", "axis", "nan", "zeros", "not ascii"],
)
def test_damaged_lines_are_left_out_and_named(tmp_path, caplog, spoil):
    orbits = asteroids(3, 61000.0)
    lines = [mpcorb_line(orbits, n) for n in range(3)]
    lines[1] = spoil(lines[1])
    path = tmp_path / "some.dat"
    path.write_text("\n".join(lines) + "\n\n")
    with caplog.at_level(logging.WARNING):
        found = read_orbits(path)
    assert found.orbits.designation.tolist() == [orbits.designation[0], orbits.designation[2]]
    assert "1 lines are no orbits and were left out (lines 2)" in caplog.text


def test_unknown_brightness_and_uncertainty_are_nan(tmp_path):
    line = mpcorb_line(asteroids(1, 61000.0), 0)
    path = tmp_path / "one.dat"
    unknown = line[:8] + " " * 11 + line[19:105] + " " + line[106:]
    path.write_text(unknown + "\n" + line[:105] + "E" + line[106:] + "\n")
    orbits = read_orbits(path).orbits
    assert np.isnan([orbits.magnitude[0], orbits.slope[0], orbits.uncertainty[0]]).all()
    assert orbits.uncertainty[1] == 9, "the eccentricity was assumed"


def test_without_a_readable_designation_the_packed_one_counts(tmp_path):
    path = tmp_path / "one.dat"
    path.write_text(CERES[:160] + "\n")
    assert read_orbits(path).orbits.designation.tolist() == [b"00001"]


@pytest.mark.parametrize("content", [b"", b"no orbits\n" * 3, b"\x1f\x8bnot gzip"])
def test_a_file_without_orbits_is_refused(tmp_path, content):
    path = tmp_path / "file.gz" if content.startswith(b"\x1f") else tmp_path / "file.dat"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match="give MPCORB"):
        read_orbits(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_orbits(tmp_path / "none")
