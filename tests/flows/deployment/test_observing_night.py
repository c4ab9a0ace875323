from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.deployment.observing_night import inputs_of, observing_night
from schemas.errors import Misconfigured

PALOMAR, PACHON = "America/Los_Angeles", "America/Santiago"


@pytest.mark.parametrize(
    ("moment", "timezone", "night"),
    [
        ("2025-01-22T17:00:00+00:00", PALOMAR, "20250121"),  # 09:00 in the morning after
        ("2025-01-22T19:59:59+00:00", PALOMAR, "20250121"),
        ("2025-01-22T20:00:00+00:00", PALOMAR, "20250122"),  # noon
        ("2025-01-22T03:00:00+00:00", PALOMAR, "20250121"),  # still the evening before, there
        ("2025-01-01T12:00:00+00:00", PACHON, "20241231"),
        ("2025-03-09T18:59:59+00:00", PALOMAR, "20250308"),  # clocks were put forward in this night
        ("2025-03-09T19:00:00+00:00", PALOMAR, "20250309"),
        ("2025-11-02T19:59:59+00:00", PALOMAR, "20251101"),  # and back
        ("2025-01-21T23:30:00+00:00", "Pacific/Kiritimati", "20250122"),
    ],
)
def test_a_night_is_from_noon_to_noon_and_named_by_its_evening(moment, timezone, night):
    assert observing_night(datetime.fromisoformat(moment), timezone) == datetime.strptime(night, "%Y%m%d").date()


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC)), st.sampled_from([PALOMAR, PACHON])
)
def test_its_label_is_that_of_the_headers(moment, timezone):
    """By `floor(MJD + longitude / 360 - 1/2)` (docs/input.md), at a longitude in the middle of its zone."""
    local = moment.astimezone(ZoneInfo(timezone))
    days = (moment - datetime(1858, 11, 17, tzinfo=UTC)) / timedelta(days=1)
    longitude = local.utcoffset() / timedelta(days=1)
    assert observing_night(moment, timezone) == date(1858, 11, 17) + timedelta(days=(days + longitude - 0.5) // 1)


def test_inputs_name_the_night():
    patterns = ["/data/{night}", "s3://bucket/{night:%Y/%m%d}/*_{night}_*.fits.fz", "/data/all"]
    assert inputs_of(patterns, date(2025, 1, 2)) == [
        "/data/20250102",
        "s3://bucket/2025/0102/*_20250102_*.fits.fz",
        "/data/all",
    ]


@pytest.mark.parametrize("pattern", ["/data/{date}", "/data/{night", "/data/{night!r}", "/data/{}", "/data/{night:}"])
def test_other_braces_are_refused(pattern):
    with pytest.raises(Misconfigured, match=r"has braces that are no night.*\{night:%Y-%m-%d\}"):
        inputs_of([pattern], date(2025, 1, 2))


def test_what_is_no_zone_is_refused():
    for timezone in ("Palomar", "", "../etc/passwd", "/etc/localtime"):
        with pytest.raises(Misconfigured, match="is no time zone of the IANA"):
            observing_night(datetime.now(UTC), timezone)
