"""Keywords that probably hold quantities for a search, and the reasons why they are not used."""

import math
import re
from contextlib import suppress
from dataclasses import dataclass

from flows.inputs.comment_words import gain_unit
from flows.inputs.fits_header import Keywords
from flows.inputs.fits_layout import DETECTORS
from flows.inputs.fits_site import NAMED
from flows.inputs.fits_times import CLOCKS, DAY_NUMBERS, STANDARD

ZERO_POINTS = re.compile(
    r"P?MAGZ(PT?|ERO|PNT|RO|EROP)|MAG_?ZERO\w?|MAG_?0|M_?ZERO|MZP|PH?O?T_?ZPT?|PHOT0|ZER?O?_?(PT|POINT)\w*|ZERO_?P(NT)?|Z_?P?MAG\w*|"
    r"(AB_?)?ZP(T|AB|MAG|AVE|AVG|MED|\d)?|ZPT?_?(MAG|AUTO|APER?|PSF|CAL|OBS|[UGRIZYBVW])"
)
"""Names of zero points."""

FLUX_OF_ZERO = "FLUXMAG0"
"""Keyword of the LSST stack for the counts of magnitude 0."""

SATURATIONS = ("SATURATE", "SATLEVEL", "SATUR", "MAXLIN", "DATAMAX")
VISITS = ("EXPNUM", "EXPID", "VISIT", "OBSNUM", "IMGNUM", "FRAMEID", "SEQNUM")

_WIDTHS = re.compile(r"(PSF_?)?FWHM\w{0,3}|SEEING\w?|PSF_?SIGMA|IQ\w{0,5}")
_GAINS = re.compile(r"E?GAIN\w?|CCDGAIN")
_READ_NOISES = re.compile(r"RD?NOISE\w?|READNOI\w*|ENOISE")
_BANDS = re.compile(r"FILT(ER)?\w{0,4}|BAND|PHOTBAND")
_DURATIONS = re.compile(r"EXP_?TIME\w?|EXPOSURE|T_?EXP\w{0,4}|ITIME|INT_?TIME|ELAPTIME|DURATION|XPOSURE|TELAPSE")
_TIMES = (*CLOCKS, *STANDARD, *DAY_NUMBERS, "DATE-OBS", "DATE", "LST", "DATE-UTC", "UTC-DATE", "UT-DATE", "DATEOBS")
_OF_THE_SUN = re.compile(r"[HB]M?JD[-_]?\w{0,5}|BCJD|HELI?O?_?JD|(M?JD|DATE)[-_]?(HELI?O?|BARY)\w{0,3}")


@dataclass(frozen=True)
class Unused:
    """Unused keyword with its value, the quantity it may hold (by its name in the settings), and the reason."""

    keyword: str
    value: str
    quantity: str
    why: str


def unused_keywords(words: Keywords, used: set[str], form: str, unit: str | None) -> tuple[Unused, ...]:
    """Return the likely keywords that were not used, in the order of the headers.

    Parameters
    ----------
    words
        Headers of the image.
    used
        Keywords that were used.
    form, unit
        Format of the file (a known format needs no settings), and unit of the pixels, if known.
    """
    found: dict[str, Unused] = {}
    for header in words.headers:
        for key in header:
            if key in used or key in found or not (value := words.find(key)):
                continue
            quantity, why = _meaning(key, value[1], unit or "pixel unit", words.comment(key))
            if quantity:
                if form != "generic":
                    why = f"what is known of files of {form} goes before it"
                found[key] = Unused(key, str(value[1]).strip(), quantity, why)
    return tuple(found.values())


def zero_point_of(flux: object) -> float | None:
    """Return the magnitude of one unit from the flux of magnitude 0; None if the value is not such a flux."""
    with suppress(TypeError, ValueError, OverflowError):
        zero = 2.5 * math.log10(float(str(flux)))
        return zero if math.isfinite(zero) else None
    return None


def _meaning(key: str, value: object, unit: str, comment: str) -> tuple[str, str]:
    if key == FLUX_OF_ZERO:
        if (zero := zero_point_of(value)) is None:
            return "zero_point", "it is no flux of magnitude 0"
        why = f"the zero point is 2.5 log10 of it, {zero:.6g}, if it is AB; if it is, give fits.zero_point.value"
        return "zero_point", why
    if ZERO_POINTS.fullmatch(key):
        why = f"it may not be the AB magnitude of 1 {unit} of this image; if it is, name it in [fits.zero_point]"
        return "zero_point", why
    if _OF_THE_SUN.fullmatch(key):
        return "time", "it may be up to 8.3 minutes from the time at the telescope, which is what is needed"
    if key in _TIMES or key.startswith("TIME-") or key in ("TIME", "EXPSTART"):
        return (
            "time",
            "it is at most compared with the keyword of the time; if it tells that, name it in [fits.time]",
        )
    if key in NAMED:
        return "longitude_deg", "the site is not taken from it; if that is assumed or wrong, give fits.longitude_deg"
    if key in DETECTORS or key in ("CHIP", "EXTVER", "AMP", "AMPID", "CCDNAME", "DETSER", "IMAGEID"):
        return "detector", "no whole number, or not sure to be a detector's; name it in [fits.detector] if it is"
    if key in SATURATIONS:
        return (
            "saturation",
            f"it may be of the raw counts; if it is of this image, in {unit}, name it in [fits.saturation]",
        )
    if key in VISITS:
        return "visit", "the time tells visits apart; name it in [fits.visit] to number them by it"
    if _GAINS.fullmatch(key) and gain_unit(comment) == "other":
        return "gain", f"by its comment {comment!r} it is not in electrons per adu; if these are known, give fits.gain"
    for pattern, quantity, why in (
        (
            _WIDTHS,
            "psf_fwhm",
            "stars are measured where there are any; name it, with its unit, in [fits.psf_fwhm] to be used instead",
        ),
        (
            _GAINS,
            "gain",
            "EGAIN or GAIN of pixels in adu is used unasked; if it is electrons per adu, name it in [fits.gain]",
        ),
        (_DURATIONS, "exposure_time", "name it in [fits.exposure_time] if it is the time of this exposure, s"),
        (_READ_NOISES, "noise", "the noise is measured on the pixels"),
        (_BANDS, "band", "another keyword tells the band; name it in [fits.band] if it should"),
    ):
        if pattern.fullmatch(key):
            return quantity, why
    return ("pixel_unit", "the settings tell the unit") if key == "BUNIT" else ("", "")
