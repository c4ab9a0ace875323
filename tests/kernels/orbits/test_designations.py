"""Golden values: https://minorplanetcenter.net/iau/info/PackedDes.html, and https://projectpluto.com/packed.htm."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.orbits.designations import (
    Designation,
    is_comet,
    mistakable,
    packed,
    packed_designation,
    packed_number,
    packed_provisional,
    read_designation,
    tracklet_name,
)

PROVISIONAL = {
    "J95X00A": "1995 XA", "J95X01L": "1995 XL1", "J95F13B": "1995 FB13", "J98SA8Q": "1998 SQ108",
    "J98SC7V": "1998 SV127", "J98SG2S": "1998 SS162", "K99AJ3Z": "2099 AZ193", "K08Aa0A": "2008 AA360",
    "K07Tf8A": "2007 TA418", "PLS2040": "2040 P-L", "T1S3138": "3138 T-1", "T2S1010": "1010 T-2",
    "T3S4101": "4101 T-3", "_QC0000": "2026 CA620", "_QC0aEM": "2026 CZ6190", "_QCzzzz": "2026 CL591673",
    "_AH9fZ7": "2010 HJ92809", "_0A0000": "2000 AA620", "_zY000P": "2061 YA621", "K26Cz9Z": "2026 CZ619",
}  # fmt: skip
NUMBERS = {
    "03202": "3202", "50000": "50000", "A0345": "100345", "a0017": "360017", "K3289": "203289", "G4060": "164060",
    "n1415": "491415", "z9999": "619999", "~0000": "620000", "~000z": "620061", "~000a": "620036", "~AZaz": "3140113",
    "~zzzz": "15396335", "00433": "433", "0001P": "1P", "9999P": "9999P",
}  # fmt: skip


@pytest.mark.parametrize(("short", "long"), PROVISIONAL.items())
def test_provisional_designations_are_packed_as_published(short, long):
    assert packed_provisional(long) == short
    assert read_designation(short) == read_designation(long) == Designation(provisional=long)
    assert packed(Designation(provisional=long)) == f"     {short}"


@pytest.mark.parametrize(("short", "long"), NUMBERS.items())
def test_numbers_are_packed_as_published(short, long):
    assert packed_number(long) == short
    assert packed(Designation(permanent=long)) == f"{short}       "
    if not long.endswith("P"):
        assert read_designation(short) == Designation(permanent=long)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("(1) Ceres", ("1", "")),
        ("  (12345) 1999 FV1 ", ("12345", "")),
        ("433 Eros", ("433", "")),
        ("110528", ("110528", "")),
        ("1999 AB", ("", "1999 AB")),
        ("1P/Halley", ("1P", "")),
        ("C/1995 O1 (Hale-Bopp)", ("", "C/1995 O1")),
    ],
)
def test_names_of_orbits_are_read(text, named):
    assert read_designation(text) == named


@pytest.mark.parametrize("text", ["", "Ceres", "1999 IB", "(0) Nothing", "A801 AA", "Planet Nine", "2026-TA1"])
def test_what_is_no_designation_has_none(text):
    assert read_designation(text) is None


@pytest.mark.parametrize("text", ["1799 AA", "2100 AA", "1999 AA620", "2062 AA620", "2026 CM591673", "C/1995 O1"])
def test_provisional_designations_that_cannot_be_packed_are_errors(text):
    with pytest.raises(ValueError, match="can be packed"):
        packed(Designation(provisional=text))


@pytest.mark.parametrize("permanent", ["0", "15396336", "10000P"])
def test_numbers_that_cannot_be_packed_are_errors(permanent):
    with pytest.raises(ValueError, match="can be packed"):
        packed(Designation(permanent=permanent))


@given(st.integers(1, 62**4 + 619_999))
def test_every_number_comes_back(number):
    short = packed_number(str(number))
    assert len(short) == 5
    assert read_designation(short) == Designation(permanent=str(number))


@given(
    st.integers(1800, 2099), st.sampled_from("ABCDEFGHJKLMNOPQRSTUVWXY"), st.sampled_from("ABCDEFGHJKLMNOPQRSTUVWXYZ"),
    st.integers(0, 619),
)  # fmt: skip
def test_every_provisional_designation_comes_back(year, half, order, cycle):
    long = f"{year} {half}{order}{cycle or ''}"
    short = packed_provisional(long)
    assert re.fullmatch("[IJK][0-9]{2}[A-Z][0-9A-Za-z][0-9][A-Z]", short)
    assert read_designation(short) == Designation(provisional=long)
    assert mistakable(short) is not None


@given(st.integers(0, 62**6 - 1))
def test_names_of_tracklets_can_be_taken_for_nothing_else(seed):
    """The pattern is that of IAU-ADES/ADES-Master issue 50, of the converter to 80 columns."""
    name = tracklet_name(seed)
    assert re.fullmatch(r"[A-HL-OQ-SU-Z][A-Za-z0-9]{0,6}", name)
    assert len(name) == 7
    assert mistakable(name) is None
    assert read_designation(name) is None


@given(st.sets(st.integers(0, 62**6 - 1), max_size=50))
def test_names_of_tracklets_differ(seeds):
    assert len({tracklet_name(seed) for seed in seeds}) == len(seeds)


@pytest.mark.parametrize(
    "name",
    [*["K23X07X", "PLS2040", "00433", "A0345", "~0000", "_QC0000", "N024S", "J95A010", "K99zzzz", "Tabcdef", "0001P"]],
)
def test_packed_forms_are_no_names_of_tracklets(name):
    assert mistakable(name) is not None


@pytest.mark.parametrize("name", ["gb00680", "A1", "ABC123", "K23X07", "ab-cd_ef"])
def test_others_are(name):
    assert mistakable(name) is None


def test_comets_are_told_by_their_names():
    comets = ["1P/Halley", "2I/Borisov", "C/1995 O1 (Hale-Bopp)", "73P-BT/Schwassmann", "P/2010 V1", "3D/Biela", "1P"]
    others = ["(1) Ceres", "A/2019 G4", "2026 TA3", "00001", "PLS2040", "C", "Ceres"]
    assert [is_comet(name) for name in comets + others] == [True] * len(comets) + [False] * len(others)


@pytest.mark.parametrize(
    ("name", "short"),
    [("2008 AB", "K08A00B"), ("(433) Eros", "00433"), ("1P/Halley", "0001P"), ("C/1995 O1", None), ("Ceres", None)],
)
def test_the_designation_in_a_name_is_packed_if_it_can_be(name, short):
    assert packed_designation(name) == short
