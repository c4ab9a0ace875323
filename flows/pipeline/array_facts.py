"""Metadata of an array in memory, checked and converted to plain numbers."""

from typing import Any, NamedTuple

import numpy as np
from astropy.units import UnitsError
from numpy.typing import ArrayLike

from flows.inputs.source import IN_MEMORY
from schemas.errors import BadInput
from schemas.exposure import NJY_ZERO_POINT, PsfModel

WIDEST = 100.0
"""Maximum FWHM of a PSF, px."""

PIXEL_UNITS = ("adu", "adu/s", "electron", "electron/s", "nJy")
"""Units that pixels may have."""

_DATES = (40587.0, 88069.0)  # MJD of 1970 and 2100
_LONGEST_S = 1e7
_LEAST = 1e-9  # minimum of positive quantities


class ArrayFacts(NamedTuple):
    """Metadata of an array; None means not known.

    Attributes
    ----------
    wcs
        astropy WCS, FITS header or its cards.
    psf
        FWHM as seen on the image, px, or an astropy quantity; a stamp (ny, nx); or a `PsfModel`, with the width before
        the pixels blur it.
    mask
        (ny, nx): True, or the bits of `MaskPlane`, where a pixel is not to be trusted.
    science
        (ny, nx) science image that the template was subtracted from.
    zero_point, zero_point_err
        AB magnitude of one pixel unit of flux, and its error.
    gain
        Electrons per pixel unit; for rates, electrons per adu, not per adu/s.
    saturation
        Saturation level of the science image, pixel units.
    mjd_tai, exposure_time_s
        Middle of the exposure, MJD TAI, and its length, s.
    band
        Filter.
    pixel_unit
        One of `PIXEL_UNITS`.
    """

    wcs: Any = None
    psf: "float | ArrayLike | PsfModel | None" = None
    mask: ArrayLike | None = None
    science: ArrayLike | None = None
    zero_point: float | None = None
    zero_point_err: float | None = None
    gain: float | None = None
    saturation: float | None = None
    mjd_tai: float | None = None
    exposure_time_s: float = 0.0
    band: str = "unknown"
    pixel_unit: str = "adu"


def checked_facts(facts: ArrayFacts) -> ArrayFacts:
    """Return the facts with checked, plain numbers; astropy quantities are converted.

    The PSF, the WCS and the planes are not changed.

    Raises
    ------
    BadInput
        A value is not a number, has a wrong unit or is out of range; the band is not a string; a zero point
        contradicts pixels in nJy.
    """
    unit = facts.pixel_unit
    per = unit.partition("/")[0]
    time = _number(
        facts.mjd_tai, "time", _DATES, "must be an astropy Time, or MJD TAI from 40587 to 88069 (1970 to 2100)", "d"
    )
    length = _number(facts.exposure_time_s, "exposure_time", (0.0, _LONGEST_S), "must be seconds, from 0 to 1e7", "s")
    zero_point = _number(
        facts.zero_point, "zero_point", (-100.0, 100.0), "must be an AB magnitude, from -100 to 100", "mag(AB)", "mag"
    )
    error = _number(facts.zero_point_err, "zero_point_err", (0.0, 100.0), "must be magnitudes, from 0 to 100", "mag")
    gain = _number(
        facts.gain, "gain", (_LEAST, np.finfo(float).max), f"must be electrons per {per}, more than 0 and finite",
        "" if per == "electron" else f"electron/{per}",
    )  # fmt: skip
    saturation = _number(facts.saturation, "saturation", (_LEAST, np.inf), f"must be in {unit}, more than 0", unit)
    if unit == "nJy" and zero_point is not None and abs(zero_point - NJY_ZERO_POINT) > 1e-3:
        raise _bad(
            "bad_zero_point", "zero_point", f"is {zero_point:g}, and the pixels are nJy, whose zero point is 31.4",
            "leave it out, or give the unit that it belongs to",
        )  # fmt: skip
    if not isinstance(facts.band, str):
        raise _bad("bad_band", "band", f"is {facts.band!r}, must be a text", "give the name of the filter: 'r'")
    return facts._replace(
        mjd_tai=time,
        exposure_time_s=0.0 if length is None else length,
        zero_point=zero_point,
        zero_point_err=error,
        gain=gain,
        saturation=saturation,
    )


def _number(given: Any, name: str, bounds: tuple[float, float], rule: str, *units: str) -> float | None:
    """Return a plain number; a quantity is converted to the first unit that fits it, and None stays None."""
    if given is None:
        return None
    number = np.nan
    for unit in () if isinstance(given, bool | np.bool_) else units:
        try:
            number = float(given.to_value(unit) if hasattr(given, "to_value") else given)
            break
        except (TypeError, ValueError, UnitsError):
            continue
    if not bounds[0] <= number <= bounds[1]:
        said = str(given) if hasattr(given, "to_value") else repr(given)
        raise _bad(f"bad_{name}", name, f"is {said}, {rule}", "correct it, or leave it out")
    return number


def _bad(code: str, name: str, problem: str, remedy: str) -> BadInput:
    return BadInput(code, f"{IN_MEMORY}: {name}", f"{problem}.", f"{remedy}.")
