"""Times of exposures in one scale, and the night they belong to."""

import math
from datetime import date
from typing import Literal

import numpy as np
from astropy.time import Time, TimeDelta

_MJD_0 = date(1858, 11, 17).toordinal()


def night_label(mjd_utc: float, longitude_deg: float) -> str:
    """Return the date of the local evening on which the night began.

    Parameters
    ----------
    mjd_utc
        Time, MJD UTC.
    longitude_deg
        Of the site, east positive, -180 to 360; above 180 that of the same place minus 360.

    Returns
    -------
    str
        YYYYMMDD of floor(mjd_utc + longitude / 360 - 0.5): it changes at local mean noon.

    Raises
    ------
    ValueError
        The date lies outside the years 1 to 9999.
    """
    east = longitude_deg - 360 if longitude_deg > 180 else longitude_deg
    day = math.floor(mjd_utc + east / 360 - 0.5)
    try:
        return date.fromordinal(_MJD_0 + day).strftime("%Y%m%d").zfill(8)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"MJD {mjd_utc} is not a date of the years 1 to 9999") from error


def night_begin(night: date, longitude_deg: float) -> float:
    """Return the time when a night begins, MJD UTC: local mean noon before its evening.

    Parameters
    ----------
    night
        Date of the evening, as in `night_label`.
    longitude_deg
        Of the site, east positive.
    """
    return night.toordinal() - _MJD_0 + 0.5 - longitude_deg / 360


_GPS_TO_TAI = 19.0  # s: TAI minus UTC when GPS time began


def tai(
    value: float | str,
    form: Literal["mjd", "jd", "isot"],
    scale: Literal["utc", "tai", "tt", "tdb", "gps"],
) -> Time:
    """Return a time in TAI.

    Parameters
    ----------
    value
        Day number, or ISO 8601 text for ``isot``.
    form, scale
        Of ``value``.

    Returns
    -------
    astropy.time.Time
        Two doubles, so that no digit of a Julian date is lost.

    Raises
    ------
    ValueError
        ``value`` is not such a time.
    """
    if scale == "gps":
        return tai(value, form, "tai") + TimeDelta(_GPS_TO_TAI, format="sec")
    if form == "isot":
        text = str(value).strip().removesuffix("Z")
        return Time(text, scale=scale, format="isot" if "T" in text else "iso").tai
    if not np.isfinite(float(value)):
        raise ValueError(f"{value} is not a day number")
    return Time(float(value), scale=scale, format=form).tai
