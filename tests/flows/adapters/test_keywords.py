import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from flows.adapters.keywords import Keywords, as_integer, as_number
from schemas.errors import BadInput


def words(image=None, primary=None):
    return Keywords("x.fits", (fits.Header(image or {}), fits.Header(primary or {})))


def refused(code, call):
    with pytest.raises(BadInput) as caught:
        call()
    assert caught.value.code == code
    return str(caught.value)


def test_the_image_header_goes_before_the_primary_one():
    found = words({"GAIN": 2.0}, {"GAIN": 1.0, "EXPTIME": 30})
    assert found.number("GAIN") == 2
    assert found.number("EXPTIME") == 30


def test_the_first_name_that_is_there_counts():
    assert words({"EXPOSURE": 31.0, "EXPTIME": 30.0}).number("EXPTIME", "EXPOSURE") == 30


def test_empty_values_are_no_values():
    assert not words({"DETECTOR": "        ", "BAND": None}).has("DETECTOR", "BAND")
    assert words({"DETECTOR": "   "}, {"DETECTOR": 4}).integer("DETECTOR", below=10) == 4


def test_missing_keywords_are_named():
    assert "EXPTIME or EXPOSURE" in refused("missing_keyword", lambda: words().number("EXPTIME", "EXPOSURE"))


@pytest.mark.parametrize("value", ["long", True, "nan", "inf"])
def test_what_is_no_number_is_named(value):
    assert "EXPTIME" in refused("invalid_keyword", lambda: words({"EXPTIME": value}).number("EXPTIME"))


def test_limits_are_said():
    assert "from 0 to 10" in refused("invalid_keyword", lambda: as_number(11, "N", "x", 0, 10))
    assert "at least 0" in refused("invalid_keyword", lambda: as_number(-1, "N", "x", 0))


@given(value=st.integers(0, 2**42 - 1))
def test_whole_numbers_come_back_from_any_form(value):
    for form in (value, str(value), float(value)):
        assert as_integer(form, "VISIT", "x", 2**42) == value


@pytest.mark.parametrize("value", [-1, 2**42, 1.5, "1e3.5", True])
def test_what_is_no_id_is_refused(value):
    refused("invalid_keyword", lambda: as_integer(value, "VISIT", "x", 2**42))


@pytest.mark.parametrize("value", ["unknown", 0.0, -5.0, "nan"])
def test_optional_nonsense_counts_as_not_known(value):
    assert words({"GAIN": value}).optional("GAIN", least=0) is None


def test_text_has_no_blanks_around_it():
    assert words({"FILTER": " R "}).text("FILTER") == "R"
