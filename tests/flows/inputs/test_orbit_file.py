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


COMETS = {
    "1P/Halley": (
        "0001P         2061 08  3.1476  0.571114  0.968020  112.1962   59.2960  162.1871  20260827   5.5  3.2  "
        "1P/Halley                                                MPC191592"
    ),
    "3I/ATLAS": (
        "0003I         2025 10 29.4825  1.356507  6.139884  128.0055  322.1535  175.1129  20251121   8.0  4.0  "
        "3I/ATLAS                                                 MPEC 2026-G41"
    ),
    "C/1995 O1 (Hale-Bopp)": (
        "    CJ95O010  1997 03 29.0341  0.924542  0.994899  130.7191  281.7980   89.7393  20260827  -2.0  4.0  "
        "C/1995 O1 (Hale-Bopp)                                    MPC194091"
    ),
}
"""From CometEls.txt of 2026 August; the perihelia are JD 2474039.6476 and 2450536.5341 of the first and the last."""


def test_published_lines_of_comets_are_read(tmp_path):
    path = tmp_path / "CometEls.txt"
    path.write_text("\n".join(COMETS.values()) + "\n")
    orbits = read_orbits(path).orbits
    assert orbits.designation.tolist() == [name.encode() for name in COMETS]
    assert orbits.comet.tolist() == [True] * 3
    assert np.isnan(orbits.uncertainty).all()
    names = ["nearest", "eccentricity", "perihelion", "node", "inclination", "magnitude", "slope", "epoch"]
    for n, expected in {
        0: [0.571114, 0.96802, 112.1962, 59.296, 162.1871, 5.5, 3.2, 61279],
        1: [1.356507, 6.139884, 128.0055, 322.1535, 175.1129, 8.0, 4.0, 61000],
        2: [0.924542, 0.994899, 130.7191, 281.798, 89.7393, -2.0, 4.0, 61279],
    }.items():
        np.testing.assert_allclose([getattr(orbits, name)[n] for name in names], expected)
    np.testing.assert_allclose(orbits.passage[[0, 2]] + 2400000.5, [2474039.6476, 2450536.5341], rtol=0, atol=1e-8)


def test_comets_and_asteroids_may_be_in_one_file(tmp_path):
    path = write_mpcorb(tmp_path / "all.dat", asteroids(3, 61000.0))
    path.write_text(path.read_text() + "\n".join(COMETS.values()) + "\n")
    orbits = read_orbits(path).orbits
    assert orbits.comet.tolist() == [False] * 3 + [True] * 3
    assert orbits.designation[3:].tolist() == [name.encode() for name in COMETS]


@pytest.mark.parametrize("lines", [1, 2, 1 << 16])
def test_what_stands_above_the_heading_of_a_joined_file_is_read(tmp_path, monkeypatch, caplog, lines):
    """As `cat CometEls.txt MPCORB.DAT` has it, with a damaged line of the first."""
    monkeypatch.setattr("flows.inputs.orbit_file._LINES", lines)
    path = write_mpcorb(tmp_path / "all.dat", asteroids(2, 61000.0))
    path.write_text("\n".join(["damaged", *COMETS.values()]) + "\n" + path.read_text())
    with caplog.at_level(logging.WARNING):
        orbits = read_orbits(path).orbits
    assert sorted(orbits.designation.tolist()) == sorted([*map(str.encode, COMETS), b"2026 TA0", b"2026 TA1"])
    assert "1 lines are not orbits and were left out (lines 1)." in caplog.text


def test_a_comet_without_an_epoch_is_of_its_perihelion_and_a_long_name_is_cut(tmp_path):
    halley, _, bopp = COMETS.values()
    path = tmp_path / "some.txt"
    long = "C/2021 S3 (PANSTARRS-and-somebody-else)"
    path.write_text(f"{halley[:81]}        {halley[89:]}\n{bopp[:102]}{long}\n{bopp[:79]}\n")
    orbits = read_orbits(path).orbits
    assert orbits.epoch[0] == orbits.passage[0]
    assert orbits.designation.tolist() == [b"1P/Halley", b"C/2021 S3", b"CJ95O010"]
    assert np.isnan([orbits.magnitude[2], orbits.slope[2]]).all()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line[:70],
        lambda line: line[:19] + "13" + line[21:],
        lambda line: line[:19] + "06 31.5000" + line[29:],
        lambda line: line[:22] + "  x.1476" + line[30:],
        lambda line: line[:30] + "-0.571114" + line[39:],
        lambda line: line[:41] + "-0.96802" + line[49:],
        lambda line: line[:71] + "     nan" + line[79:],
        lambda line: line[:81] + "20261327" + line[89:],
        lambda line: line[:81] + "2026    " + line[89:],
        lambda line: " " * 14 + line[14:102],
    ],
    ids=["short", "month", "day", "no number", "q", "e", "nan", "epoch", "half an epoch", "no name"],
)
def test_damaged_lines_of_comets_are_left_out_and_named(tmp_path, caplog, spoil):
    halley, atlas, bopp = COMETS.values()
    path = tmp_path / "CometEls.txt"
    path.write_text("\n".join([atlas, spoil(halley), bopp]) + "\n\n")
    with caplog.at_level(logging.WARNING):
        found = read_orbits(path)
    assert found.orbits.designation.tolist() == [b"3I/ATLAS", b"C/1995 O1 (Hale-Bopp)"]
    assert "1 lines are not orbits and were left out (lines 2)" in caplog.text


def test_a_published_line_is_read(tmp_path):
    path = tmp_path / "one.dat"
    path.write_text(CERES + "\n")
    orbits = read_orbits(path).orbits
    assert orbits.designation.tolist() == [b"(1) Ceres"]
    names = [
        "epoch",
        "axis",
        "eccentricity",
        "inclination",
        "node",
        "perihelion",
        "anomaly",
        "magnitude",
        "slope",
        "uncertainty",
        "comet",
    ]
    numbers = [float(getattr(orbits, name)[0]) for name in names]
    expected = [60200, 2.7672543, 0.0788175, 10.58635, 80.26014, 73.47045, 17.21569, 3.35, 0.15, 0, 0]
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


@pytest.mark.parametrize(("name", "content"), [("o.DAT", gzip.compress), ("o.GZ", gzip.compress), ("o.gz", bytes)])
def test_a_file_is_packed_by_gzip_if_it_begins_so_whatever_its_name(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content(f"{CERES}\n".encode()))
    assert read_orbits(path).orbits.designation.tolist() == [b"(1) Ceres"]


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
    assert "1 lines are not orbits and were left out (lines 2)" in caplog.text


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


_DAMAGED = gzip.compress(CERES.encode() * 50)
_DAMAGED = _DAMAGED[:20] + bytes(one ^ 0x5A for one in _DAMAGED[20:60]) + _DAMAGED[60:]


@pytest.mark.parametrize("content", [b"", b"no orbits\n" * 3, b"\x1f\x8bnot gzip", _DAMAGED])
def test_a_file_without_orbits_is_refused(tmp_path, content):
    path = tmp_path / "file.gz" if content.startswith(b"\x1f") else tmp_path / "file.dat"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match="give MPCORB"):
        read_orbits(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_orbits(tmp_path / "none")


@pytest.mark.parametrize(("damaged", "named"), [(3, "5, 6, 7"), (4, "5, 6, 7, ...")])
def test_the_first_three_damaged_lines_are_named_by_their_numbers_in_the_file(tmp_path, caplog, damaged, named):
    path = write_mpcorb(tmp_path / "MPCORB.DAT", asteroids(1, 61000.0))  # below three lines of heading
    path.write_text(path.read_text() + "damaged\n" * damaged)
    with caplog.at_level(logging.WARNING):
        assert len(read_orbits(path).orbits.epoch) == 1
    assert f"{damaged} lines are not orbits and were left out (lines {named})" in caplog.text


def test_a_line_may_end_with_the_semi_major_axis(tmp_path):
    orbits, path = asteroids(1, 61000.0), tmp_path / "o.dat"
    line = mpcorb_line(orbits, 0)
    path.write_text(line[:103])
    found = read_orbits(path).orbits
    assert found.designation.tolist() == [line[:7].encode()]
    np.testing.assert_allclose(found.axis, orbits.axis, atol=1e-7)
    path.write_text(line[:102])
    with pytest.raises(Misconfigured, match="holds no orbit in 1 lines"):
        read_orbits(path)


@pytest.mark.parametrize(
    ("line", "place", "value", "read"),
    [
        (CERES, 92, "  0.0000000", False), (CERES, 70, "0.0000000", True), (CERES, 70, "1.0000000", False),
        (COMETS["1P/Halley"], 30, " 0.000000", False), (COMETS["1P/Halley"], 41, "0.000000", True),
        (COMETS["1P/Halley"], 41, "1.000000", True),
    ],
    ids=["no axis", "circle", "parabola of an asteroid", "into the Sun", "circle of a comet", "parabola"],
)  # fmt: skip
def test_orbits_have_a_size_and_those_of_asteroids_are_closed(tmp_path, line, place, value, read):
    path = tmp_path / "o.dat"
    path.write_text(f"{line[:place]}{value}{line[place + len(value) :]}\n{COMETS['3I/ATLAS']}\n")
    assert len(read_orbits(path).orbits.epoch) == 1 + read


def test_a_name_of_28_letters_is_kept_whole(tmp_path):
    path, line = tmp_path / "some.txt", COMETS["1P/Halley"][:102]
    path.write_text(f"{line}C/2021 S3 (PANSTARRS-and-so)\n{line}C/2021 S3 (PANSTARRS-and-son)\n")
    assert read_orbits(path).orbits.designation.tolist() == [b"C/2021 S3 (PANSTARRS-and-so)", b"C/2021 S3"]
