"""Times of exposures in one scale."""

from typing import Literal

import numpy as np
from astropy.time import Time


def tai(value: float | str, form: Literal["mjd", "jd", "isot"], scale: Literal["utc", "tai"]) -> Time:
    """Give a time in TAI.

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
        ``value`` is no such time.
    """
    if form == "isot":
        text = str(value).strip().removesuffix("Z")
        return Time(text, scale=scale, format="isot" if "T" in text else "iso").tai
    if not np.isfinite(float(value)):
        raise ValueError(f"{value} is not a day number")
    return Time(float(value), scale=scale, format=form).tai
