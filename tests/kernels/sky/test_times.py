from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.sky.times import night_begin, night_label, tai


@given(mjd=st.floats(40000, 80000), longitude=st.floats(-180, 180))
def test_is_the_date_at_local_noon_before(mjd, longitude):
    local = datetime(1858, 11, 17) + timedelta(days=mjd) + timedelta(days=longitude / 360)
    if abs(local.hour + local.minute / 60 - 12) > 0.1:  # at noon itself rounding decides
        assert night_label(mjd, longitude) == (local - timedelta(hours=12)).strftime("%Y%m%d")


def test_a_palomar_night_keeps_its_evening_past_midnight_utc_and_local():
    palomar = -116.8597
    evening, morning = 58748.12, 58748.52  # 2019-09-22 02:53 and 12:29 UTC
    assert night_label(evening, palomar) == night_label(morning, palomar) == "20190921"


@pytest.mark.parametrize(("east", "label"), [(204.53, "20270109"), (-155.47, "20270109"), (180.0, "20270110")])
def test_an_eastern_longitude_above_180_is_that_of_the_same_place(east, label):
    evening_in_hawaii = 61415.2083  # 2027-01-10 05:00 UTC, 18:38 on the 9th there
    assert night_label(evening_in_hawaii, east) == label


def test_dates_out_of_any_calendar_are_refused():
    with pytest.raises(ValueError, match="not a date"):
        night_label(1e9, 0)


@given(night=st.dates(date(1970, 1, 2), date(2100, 1, 1)), longitude=st.floats(-180, 180))
def test_a_night_begins_where_its_label_does(night, longitude):
    begin, minute = night_begin(night, longitude), 1 / 1440
    label = night.strftime("%Y%m%d")
    assert night_label(begin + minute, longitude) == night_label(begin + 1 - minute, longitude) == label
    assert night_label(begin - minute, longitude) == (night - timedelta(1)).strftime("%Y%m%d")


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (58334.39133794, "mjd"),
        (2458334.89133794, "jd"),
        ("2018-08-04T09:23:31.598", "isot"),
        ("2018-08-04 09:23:31.598", "isot"),
        ("2018-08-04T09:23:31.598Z", "isot"),
    ],
)
def test_utc_of_2018_is_37_s_behind_tai(value, form):
    assert tai(value, form, "utc").mjd == pytest.approx(58334.39133794 + 37 / 86400, abs=1e-8)


def test_tai_stays_as_it_is():
    assert tai(60000.25, "mjd", "tai").mjd == 60000.25


@pytest.mark.parametrize(
    ("value", "form", "message"),
    [
        ("26/07/102", "isot", "does not match"),
        (float("nan"), "mjd", "not a day number"),
        ("noon", "jd", "could not convert"),
    ],
)
def test_what_is_no_time_is_an_error(value, form, message):
    with pytest.raises(ValueError, match=message):
        tai(value, form, "utc")


@pytest.mark.parametrize(("scale", "ahead"), [("tt", 32.184), ("gps", -19.0), ("tai", 0.0)])
@pytest.mark.parametrize(("value", "form"), [(58748.25, "mjd"), ("2019-09-22T06:00:00", "isot")])
def test_scales_differ_from_tai_by_constants(scale, ahead, value, form):
    there = tai(value, form, scale)
    assert (tai(value, form, "tai") - there).to_value("s") == pytest.approx(ahead, abs=1e-6)
