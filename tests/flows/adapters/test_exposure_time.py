import pytest

from flows.adapters.exposure_time import middle
from schemas.errors import BadInput


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
