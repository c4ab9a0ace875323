import pytest

from kernels.orbits.designations import packed_designation

# From https://www.minorplanetcenter.net/iau/info/PackedDes.html, and its examples of the extended form.
PACKED = {
    "1995 XA": "J95X00A", "1995 XL1": "J95X01L", "1995 FB13": "J95F13B", "1998 SQ108": "J98SA8Q",
    "1998 SV127": "J98SC7V", "1998 SS162": "J98SG2S", "2099 AZ193": "K99AJ3Z", "2008 AA360": "K08Aa0A",
    "2007 TA418": "K07Tf8A", "2040 P-L": "PLS2040", "3138 T-1": "T1S3138", "1010 T-2": "T2S1010", "4101 T-3": "T3S4101",
    "(3202)": "03202", "50000": "50000", "(100345) Name": "A0345", "(360017)": "a0017", "203289": "K3289",
    "620000": "~0000", "620061": "~000z", "3140113": "~AZaz", "15396335": "~zzzz",
    "2023 QA620": "_NQ0000",
}  # fmt: skip


@pytest.mark.parametrize("readable", list(PACKED))
def test_designations_are_packed_as_the_minor_planet_center_has_them(readable):
    assert packed_designation(readable) == PACKED[readable]
    assert packed_designation(f"  {readable} ") == PACKED[readable]


@pytest.mark.parametrize("text", ["", "C/2020 F3", "Ceres", "2008 IA", "2008 AI", "1700 AB", "15396336", "1P"])
def test_what_is_none_of_a_minor_planet_has_no_packed_form(text):
    assert packed_designation(text) is None
