from datetime import UTC, datetime, timedelta

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from flows.inputs.fits_generic import GENERIC
from flows.inputs.fits_header import Keywords, as_integer, as_number, exposure_end, middle
from flows.inputs.fits_rubin import RUBIN
from flows.inputs.fits_ztf import ZTF
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, PsfModel


@pytest.mark.parametrize(("form", "required"), [(ZTF, True), (RUBIN, True), (GENERIC, False)])
def test_archives_promise_astrometry_and_strangers_do_not(form, required):
    assert form.wcs_required is required


def test_formats_are_values():
    assert {ZTF, RUBIN, GENERIC} == {GENERIC, ZTF, RUBIN}
    assert {form.name for form in (ZTF, RUBIN, GENERIC)} == {"ZTF", "Rubin", "generic"}


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


def when(value, **given):
    return middle(value, name="T", where="x.fits", exposure_time_s=60.0, longitude_deg=-116.86, **given)


@pytest.mark.parametrize(("at", "seconds"), [("start", 30), ("middle", 0), ("end", -30)])
def test_middle_from_any_moment(at, seconds):
    assert when(58748.29, at=at).midpoint_mjd_tai == pytest.approx(58748.29 + (37 + seconds) / 86400, abs=1e-9)


def test_tai_headers_need_no_leap_seconds_but_the_night_does():
    found = when(58748.29, scale="tai", at="middle")
    assert found.midpoint_mjd_tai == 58748.29
    assert found.night == "20190921"


def test_forms_agree():
    days = when(58334.39133794).midpoint_mjd_tai
    assert when(2458334.89133794, form="jd").midpoint_mjd_tai == pytest.approx(days, abs=1e-8)
    assert when("2018-08-04T09:23:31.598", form="isot").midpoint_mjd_tai == pytest.approx(days, abs=1e-8)


def test_the_future_is_no_warning():
    """Leap seconds are known some years ahead only; warnings are errors here."""
    assert when(80000.0).night == "20771127"  # MJD 80000 is 2077-11-28


@pytest.mark.parametrize(("value", "form"), [("26/07/102", "isot"), (0.0, "mjd"), (1e9, "mjd"), ("x", "jd")])
def test_nonsense_names_the_keyword(value, form):
    with pytest.raises(BadInput, match="T is") as caught:
        when(value, form=form)
    assert caught.value.code == "invalid_keyword"


def test_it_is_half_an_exposure_after_the_middle_in_utc():
    """MJD 58748 is 2019-09-22T00:00; since 2017 TAI has been 37 s ahead of UTC (IERS Bulletin C 52)."""
    info = ExposureInfo(
        night="20190921", visit=1, detector=0, instrument="x", band="r", midpoint_mjd_tai=58748.0, exposure_time_s=30,
        shape=(9, 9), psf=PsfModel(fwhm_px=2.0), background=0, noise=1, source_uri="a", source_sha256="s",
    )  # fmt: skip
    expected = datetime(2019, 9, 22, tzinfo=UTC) - timedelta(seconds=37) + timedelta(seconds=15)
    assert abs(exposure_end(info) - expected) < timedelta(milliseconds=1)
