from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.night import night_begin, night_label


@given(mjd=st.floats(40000, 80000), longitude=st.floats(-180, 180))
def test_is_the_date_at_local_noon_before(mjd, longitude):
    local = datetime(1858, 11, 17) + timedelta(days=mjd) + timedelta(days=longitude / 360)
    if abs(local.hour + local.minute / 60 - 12) > 0.1:  # at noon itself rounding decides
        assert night_label(mjd, longitude) == (local - timedelta(hours=12)).strftime("%Y%m%d")


def test_a_palomar_night_keeps_its_evening_past_midnight_utc_and_local():
    palomar = -116.8597
    evening, morning = 58748.12, 58748.52  # 2019-09-22 02:53 and 12:29 UTC
    assert night_label(evening, palomar) == night_label(morning, palomar) == "20190921"


def test_dates_out_of_any_calendar_are_refused():
    with pytest.raises(ValueError, match="not a date"):
        night_label(1e9, 0)


@given(night=st.dates(date(1970, 1, 2), date(2100, 1, 1)), longitude=st.floats(-180, 180))
def test_a_night_begins_where_its_label_does(night, longitude):
    begin, minute = night_begin(night, longitude), 1 / 1440
    label = night.strftime("%Y%m%d")
    assert night_label(begin + minute, longitude) == night_label(begin + 1 - minute, longitude) == label
    assert night_label(begin - minute, longitude) == (night - timedelta(1)).strftime("%Y%m%d")
