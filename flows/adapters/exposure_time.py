"""When an exposure was made."""

import warnings
from typing import Literal, NamedTuple

from astropy.time import TimeDelta
from erfa import ErfaWarning  # type: ignore[import-untyped]  # comes with astropy

from kernels.night import night_label
from kernels.time_scale import tai
from schemas.errors import BadInput

_FIRST, _LAST = 40587.0, 88069.0
"""MJD of 1970 and 2100: a survey image dated outside has a wrong header, not a place in a catalogue."""


class When(NamedTuple):
    """Middle of an exposure, MJD TAI, and the night it belongs to."""

    midpoint_mjd_tai: float
    night: str


def middle(
    value: float | str,
    *,
    name: str,
    where: str,
    exposure_time_s: float,
    longitude_deg: float,
    form: Literal["mjd", "jd", "isot"] = "mjd",
    scale: Literal["utc", "tai"] = "utc",
    at: Literal["start", "middle", "end"] = "start",
) -> When:
    """Find the middle of an exposure.

    Parameters
    ----------
    value, name, where
        What the header says under which keyword of which file.
    exposure_time_s
        s
    longitude_deg
        Of the site, east.
    form, scale, at
        How ``value`` is written, and of which moment.

    Raises
    ------
    BadInput
        ``invalid_keyword``: no date, or not between 1970 and 2100.
    """
    try:
        with warnings.catch_warnings():
            # "dubious year": later than the leap seconds known; they are added as known, which is all that can be done.
            warnings.simplefilter("ignore", ErfaWarning)
            moment = tai(value, form, scale)
            if not _FIRST <= moment.mjd <= _LAST:
                raise ValueError(f"MJD {moment.mjd:.1f} is not between 1970 and 2100")
            days = exposure_time_s / 86400 * {"start": 0.5, "middle": 0.0, "end": -0.5}[at]
            midpoint = moment + TimeDelta(days, format="jd", scale="tai")
            return When(float(midpoint.mjd), night_label(float(midpoint.utc.mjd), longitude_deg))
    except (TypeError, ValueError) as error:
        raise BadInput(
            "invalid_keyword",
            where,
            f"{name} is {value!r}, must be a date ({form}, {scale}): {error}.",
            f"correct {name} in the header, or the format of the time in the settings, section [fits.time].",
        ) from error
