import pytest
from astropy.io import fits

from flows.inputs.fits_band import band_of
from flows.inputs.fits_header import Keywords
from schemas.errors import BadInput
from schemas.keyword_mapping import BandFromHeader


def told(cards, **given):
    return band_of(Keywords("x.fits", (fits.Header(cards),)), BandFromHeader(**(given or {"keyword": "FILTER"})))


@pytest.mark.parametrize("empty", ["CLEAR", "clear", "Open", "NONE", "EMPTY", "AIR", "CLEAR2", "No Filter"])
def test_a_wheel_without_a_filter_gives_way_to_the_one_that_has_one(empty):
    band, origin = told({"FILTER": empty, "FILTER1": empty, "FILTER2": "r"})
    assert (band, origin.keyword) == ("r", "FILTER2")
    assert repr(empty) in origin.note
    assert told({"FILTER": "r", "FILTER2": empty})[0] == "r"
    assert told({"FILTER": empty, "FILTER2": "R1"}, keyword="FILTER", aliases={"R1": "r"})[0] == "r"


def test_two_filters_beside_an_empty_place_are_refused():
    with pytest.raises(BadInput, match="FILTER2 is 'r' and FILTER3 is 'i'") as caught:
        told({"FILTER": "CLEAR", "FILTER2": "r", "FILTER3": "i"})
    assert "[fits.band]" in caught.value.remedy
    assert told({"FILTER": "CLEAR", "FILTER2": "r", "FILTER3": "r"})[0] == "r"


def test_an_image_without_any_filter_is_said_to_be_one():
    band, origin = told({"FILTER": "CLEAR", "FILTER2": "OPEN"})
    assert (band, origin.keyword, origin.assumed) == ("CLEAR", "FILTER", True)
    assert "aliases" in origin.note


def test_settings_go_before_it():
    cards = {"FILTER": "CLEAR", "FILTER2": "r"}
    assert told(cards, keyword="FILTER", aliases={"CLEAR": "w"})[0] == "w"
    assert told(cards, keyword="FILTER2")[0] == "r"
    assert told(cards, value="white")[0] == "white"


@pytest.mark.parametrize(
    ("pattern", "flag"), [("RGGB", "colour_mosaic"), ("gbrg ", "colour_mosaic"), ("NONE", ""), ("", "")]
)
def test_colours_in_turn_are_told(pattern, flag):
    for given in ({"keyword": "FILTER"}, {"value": "G"}):
        band, origin = told({"FILTER": "L", "BAYERPAT": pattern}, **given)
        assert (band, origin.flag) == ("L" if "keyword" in given else "G", flag)
