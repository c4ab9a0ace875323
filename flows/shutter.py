"""When the shutter of an exposure closed."""

from datetime import UTC, datetime

from astropy.time import Time, TimeDelta

from schemas.exposure import ExposureInfo


def shutter_closed(info: ExposureInfo) -> datetime:
    """Give the end of an exposure, UTC: half of its duration after the middle."""
    end = Time(info.midpoint_mjd_tai, format="mjd", scale="tai") + TimeDelta(info.exposure_time_s / 2, format="sec")
    return end.utc.to_datetime(timezone=UTC)
