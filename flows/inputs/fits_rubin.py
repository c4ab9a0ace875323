"""Rubin-style difference images: one multi-extension file with image, mask and variance."""

import math
from collections.abc import Mapping
from typing import Literal

from flows.inputs.fits_header import (
    FitsFormat,
    HeaderCalibration,
    HeaderOrigin,
    Headers,
    Identity,
    Keywords,
    When,
    middle,
    time_scale,
)
from flows.inputs.fits_layout import extension_name
from flows.inputs.fits_site import ASSUMED_SITE
from flows.inputs.fits_times import DATE
from flows.inputs.fits_units import Unit, gain_of, unit_named
from flows.inputs.mask_bits import rubin_mask
from schemas.errors import BadInput
from schemas.exposure import ExposureKey, PsfModel
from schemas.keyword_mapping import KeywordMapping, PixelUnit

PACHON_LONGITUDE = -70.7494
NANOJANSKY_ZERO_POINT = 31.4
"""AB magnitude of 1 nJy (Oke & Gunn 1983, ApJ 266, 713: 3631 Jy has magnitude 0)."""

_PLANES = {"IMAGE": "difference", "MASK": "mask", "VARIANCE": "variance"}
_VISIT = ("LSST BUTLER DATAID VISIT", "VISIT", "IDNUM", "EXPID")
_DETECTOR = ("LSST BUTLER DATAID DETECTOR", "DETECTOR", "DET-ID", "CCDNUM")
_BAND = ("LSST BUTLER DATAID BAND", "BAND", "FILTBAND", "FILTER")
_TIMES: dict[str, tuple[Literal["isot", "mjd"], Literal["start", "middle"]]] = {
    "DATE-AVG": ("isot", "middle"),
    "MJD-AVG": ("mjd", "middle"),
    "DATE-BEG": ("isot", "start"),
    "MJD-BEG": ("mjd", "start"),
    "DATE-OBS": ("isot", "start"),
    "MJD-OBS": ("mjd", "start"),
    "MJD": ("mjd", "start"),
}
_LONGITUDE = ("OBS-LONG", "OBSLON")
_AT_RUBIN = ("LSST", "LATISS", "DECAM")
"""How the names of instruments begin that are there, or ten kilometres away."""

_FWHM = ("PSF_FWHM", "PSFFWHM")
_SIGMA_TO_FWHM = 2 * math.sqrt(2 * math.log(2))


def _by_name(headers: Headers) -> dict[str, int]:
    names = [extension_name(header).upper() for header in headers]
    return {_PLANES[name]: index for index, name in reversed(list(enumerate(names))) if name in _PLANES}


def _matches(headers: Headers) -> bool:
    planes = _by_name(headers)
    return "difference" in planes and "mask" in planes and any(key.startswith("MP_") for key in headers[planes["mask"]])


def _layout(headers: Headers, _where: str, _mapping: KeywordMapping) -> Mapping[str, int]:
    return _by_name(headers)


def _keywords(headers: Headers, where: str) -> Keywords:
    return Keywords(where, (headers[_by_name(headers)["difference"]], headers[0]), mapped=False)


def _identity(headers: Headers, where: str, mapping: KeywordMapping) -> Identity:
    words = _keywords(headers, where)
    exposure_time = words.number("EXPTIME", least=0, most=1e5)
    found = words.find("INSTRUMENT", "INSTRUME", "LSST BUTLER DATAID INSTRUMENT")
    instrument = str(found[1]) if found else "LSSTCam"
    longitude, origins = _site(words, mapping, instrument)
    when = _when(words, exposure_time, longitude)
    key = ExposureKey(
        night=when.night, visit=words.integer(*_VISIT, below=2**42), detector=words.integer(*_DETECTOR, below=2**9)
    )
    band = _band(words)
    return Identity(key, instrument, band, when.midpoint_mjd_tai, exposure_time, longitude, origins)


def _site(words: Keywords, mapping: KeywordMapping, instrument: str) -> tuple[float, tuple[HeaderOrigin, ...]]:
    """Return the longitude: that of the header, else Rubin's, which for another instrument is a guess."""
    place = words.optional(*_LONGITUDE)
    if place is not None or instrument.upper().startswith(_AT_RUBIN):
        return PACHON_LONGITUDE if place is None else place, ()
    if mapping.longitude_deg is not None:
        return mapping.longitude_deg, (HeaderOrigin("longitude_deg", note="of the settings"),)
    note = f"no keyword {' or '.join(_LONGITUDE)}: Rubin's, though the instrument is {instrument}"
    return PACHON_LONGITUDE, (HeaderOrigin("longitude_deg", note=note, flag=ASSUMED_SITE),)


def _band(words: Keywords) -> str:
    return words.text(*_BAND).split("_")[0]


def _when(words: Keywords, exposure_time: float, longitude_deg: float) -> When:
    """Return the middle of the exposure, from its own date or its beginning; in TAI unless TIMESYS says UTC.

    Raises
    ------
    BadInput
        ``missing_time``: only dates without a time of day; ``missing_keyword``, ``invalid_keyword``.
    """
    # A date without a time of day does not tell when, and would be taken as midnight.
    held = {name: str(found[1]).strip() for name in _TIMES if (found := words.find(name)) is not None}
    told = [name for name, text in held.items() if not DATE.fullmatch(text)]
    name, value = words.required(*(told or _TIMES))
    if not told:
        raise BadInput(
            "missing_time",
            words.where,
            f"{name} is {value!r}, a date without a time of day, and there is none of {', '.join(_TIMES)} with one.",
            "write the time of day into it (YYYY-MM-DDThh:mm:ss).",
        )
    form, at = _TIMES[name]
    return middle(
        str(value).strip() if form == "isot" else words.number(name),
        name=name,
        where=words.where,
        exposure_time_s=exposure_time,
        longitude_deg=longitude_deg,
        form=form,
        scale=time_scale(words, "tai"),
        at=at,
    )


def _calibration(headers: Headers, where: str, _mapping: KeywordMapping, wcs: str | None) -> HeaderCalibration:
    words = _keywords(headers, where)
    unit = _unit(words)
    nano, counts = unit == "nJy", unit.startswith(("adu", "electron"))
    of_unit = None if nano else Unit(unit, HeaderOrigin("pixel_unit", "BUNIT")).zero_point(wcs)
    if of_unit is not None:  # another unit of flux, to which no gain or saturation of counts applies
        return HeaderCalibration(unit, of_unit, 0.0, None, None, _psf(words))
    # GAIN and SATURATE refer to raw counts (e-/ADU, ADU) even if the pixels are nJy.
    gain = words.optional("GAINNJY" if nano else "GAIN", least=0)
    if counts:
        exposure_time = words.number("EXPTIME", least=0, most=1e5)
        gain = gain_of(gain, "GAIN", "", Unit(unit, HeaderOrigin("pixel_unit", "BUNIT")), exposure_time).value
    return HeaderCalibration(
        unit if nano or counts else "adu",
        NANOJANSKY_ZERO_POINT if nano else _zero_point(words),
        0.0 if nano else words.optional("MAGZPUNC", least=-1e-9),
        gain,
        _saturated_from(words, unit),
        _psf(words),
    )


def _unit(words: Keywords) -> PixelUnit:
    return unit_named(str((words.find("BUNIT") or ("", "adu"))[1]))


def _saturated_from(words: Keywords, unit: str) -> float | None:
    return words.optional(*(("SATNJY",) if unit == "nJy" else ("SATURATE", "SATLEVEL")), least=0)


def _band_of(headers: Headers, where: str, _mapping: KeywordMapping) -> str:
    return _band(_keywords(headers, where))


def _saturation(headers: Headers, where: str, _mapping: KeywordMapping) -> float | None:
    words = _keywords(headers, where)
    return _saturated_from(words, _unit(words))


def _zero_point(words: Keywords) -> float:
    """Return the zero point from MAGZERO, or from FLUXMAG0, the counts of magnitude 0."""
    zero_point, counts = words.optional("MAGZERO", "MAGZP"), words.optional("FLUXMAG0", least=0)
    if zero_point is None and counts is not None:
        zero_point = 2.5 * math.log10(counts)
    if zero_point is None:
        raise BadInput(
            "missing_zero_point",
            words.where,
            "BUNIT is not nJy, and the header has neither MAGZERO nor FLUXMAG0.",
            "calibrate the image to nJy first.",
        )
    return zero_point


def _psf(words: Keywords) -> PsfModel | None:
    fwhm, sigma = words.optional(*_FWHM, least=0), words.optional("PSFSIGMA", "PSF_SIGMA", least=0)
    if fwhm is None and sigma is not None:
        fwhm = _SIGMA_TO_FWHM * sigma
    return PsfModel(fwhm_px=fwhm, source="header") if fwhm else None


_ASKED = {
    "visit": _VISIT,
    "detector": _DETECTOR,
    "band": _BAND,
    "time": tuple(_TIMES),
    "exposure_time": ("EXPTIME",),
    "longitude_deg": _LONGITUDE,
    "pixel_unit": ("BUNIT",),
    "zero_point": ("MAGZERO", "MAGZP", "FLUXMAG0"),
    "zero_point_err": ("MAGZPUNC",),
    "gain": ("GAINNJY", "GAIN"),
    "saturation": ("SATNJY", "SATURATE", "SATLEVEL"),
    "psf_fwhm": (*_FWHM, "PSFSIGMA", "PSF_SIGMA"),
}

RUBIN = FitsFormat(
    "Rubin",
    _matches,
    _layout,
    _identity,
    _calibration,
    rubin_mask,
    _band_of,
    _saturation,
    wcs_required=True,
    asked=_ASKED,
)
