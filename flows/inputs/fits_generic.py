"""FITS files of any instrument, read through the keyword mapping in the settings."""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from astropy.time import Time

from flows.inputs.fits_band import band_of
from flows.inputs.fits_duration import exposure_time_of
from flows.inputs.fits_header import (
    FitsFormat,
    HeaderCalibration,
    HeaderOrigin,
    Headers,
    Identity,
    IdentityParts,
    Keywords,
    as_integer,
    as_number,
    is_asinh,
)
from flows.inputs.fits_layout import detector_of, layout_of, left_out
from flows.inputs.fits_site import site_of
from flows.inputs.fits_times import moment_of
from flows.inputs.fits_units import ASSUMED_GAIN, LEAST_GAIN, Gain, Unit, electrons_per_adu, fwhm_of, gain_of, unit_of
from flows.inputs.mask_bits import named_mask
from kernels.psf.flux_error import UNKNOWN_FLATNESS
from kernels.sky.times import night_label
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey, PsfModel
from schemas.keyword_mapping import BandFromHeader, FromHeader, KeywordMapping

ASINH_PIXELS = "asinh_pixels"
"""Exposure flag: the pixels were inverse hyperbolic sines (BSOFTEN), and were made linear."""

_TENTHS_PER_DAY = 864_000

COUNTED = {"visit": 2**42, "detector": 2**9}
"""Whole numbers of a manifest, and the limit above them."""

MEASURED = {"zero_point": -100.0, "gain": LEAST_GAIN, "saturation": 0.0}
"""Other numbers of a manifest that the mapping has, too, and their minimum."""


def given_mapping(mapping: KeywordMapping, given: Iterable[tuple[str, str]]) -> KeywordMapping:
    """Return a mapping in which the values of a manifest are constants, so that no keyword has to tell them.

    Numbers out of range stay out: they are refused where they replace those of the header, by the names of columns.
    """
    known: dict[str, FromHeader] = {}
    for name, value in given:
        with suppress(BadInput):
            if name == "band":
                known[name] = BandFromHeader(value=value)
            elif name in COUNTED:
                known[name] = FromHeader(value=as_integer(value, name, "", COUNTED[name]))
            elif name in MEASURED:
                known[name] = FromHeader(value=as_number(value, name, "", MEASURED[name]))
    return mapping.model_copy(update=known)


def _matches(_headers: Headers) -> bool:
    return True


def _keywords(headers: Headers, where: str, mapping: KeywordMapping) -> Keywords:
    return Keywords(where, (headers[layout_of(headers, where, mapping)["difference"]], headers[0]))


def _identity(headers: Headers, where: str, mapping: KeywordMapping) -> Identity:
    words = _keywords(headers, where, mapping)
    exposure_time, by_exposure_time = exposure_time_of(words, mapping)
    moment = moment_of(words, mapping, exposure_time)
    utc = _utc(moment.mjd_tai)
    site = site_of(words, mapping, utc)
    visit, by_visit = _visit(words, mapping, moment.mjd_tai)
    detector, by_detector = detector_of(words, mapping)
    key = ExposureKey(
        night=night_label(utc, site.longitude_deg),
        visit=visit,
        detector=detector,
    )
    band, by_band = band_of(words, mapping.band)
    instrument, by_instrument = _instrument(words, mapping)
    origins = (moment.origin, site.origin, by_detector, by_visit, by_band, by_instrument, by_exposure_time)
    return Identity(key, instrument, band, moment.mjd_tai, exposure_time, site.longitude_deg, origins)


def _parts(headers: Headers, where: str, mapping: KeywordMapping) -> IdentityParts:
    words, values, origins = _keywords(headers, where, mapping), dict[str, Any](), list[HeaderOrigin]()

    def tell(name: str, find: Callable[[], tuple[Any, HeaderOrigin]]) -> Any:
        try:
            values[name], origin = find()
        except (BadInput, Misconfigured):  # the first of them is raised when the whole identity is read
            return None
        origins.append(origin)
        return values[name]

    exposure_time = tell("exposure_time_s", lambda: exposure_time_of(words, mapping))
    tai = tell("midpoint_mjd_tai", lambda: _moment(words, mapping, exposure_time))
    if tai is None:
        values.pop("midpoint_mjd_tai", None)
    utc = None if tai is None else _utc(tai)
    longitude = tell("longitude_deg", lambda: site_of(words, mapping, utc))
    tell("detector", lambda: detector_of(words, mapping))
    tell("band", lambda: band_of(words, mapping.band))
    tell("instrument", lambda: _instrument(words, mapping))
    if tai is not None or mapping.visit != FromHeader():
        tell("visit", lambda: _visit(words, mapping, tai or 0.0))
    if utc is not None:
        values["night"] = night_label(utc, longitude)
    return IdentityParts(values, tuple(origins))


def _moment(words: Keywords, mapping: KeywordMapping, exposure_time: float | None) -> tuple[float | None, HeaderOrigin]:
    """Return the middle of an exposure; if its duration is unknown, only if a keyword gives the middle itself."""
    if exposure_time is not None:
        return moment_of(words, mapping, exposure_time)
    time = mapping.time.model_copy(update={"contradictions": "ignore"})
    alone = mapping.model_copy(update={"time": time})
    moment, other = (moment_of(words, alone, seconds) for seconds in (0.0, 60.0))
    return moment.mjd_tai if moment.mjd_tai == other.mjd_tai else None, moment.origin


def _utc(mjd_tai: float) -> float:
    return float(Time(mjd_tai, format="mjd", scale="tai").utc.mjd)


def _visit(words: Keywords, mapping: KeywordMapping, mjd_tai: float) -> tuple[int, HeaderOrigin]:
    found = _integer(mapping.visit, words, "visit", 2**42)
    if found is not None:
        return found, _origin(mapping.visit, "visit")
    by_time = HeaderOrigin("visit", note="tenths of a second from MJD 0 to mid-exposure")
    return round(mjd_tai * _TENTHS_PER_DAY), by_time


def _instrument(words: Keywords, mapping: KeywordMapping) -> tuple[str, HeaderOrigin]:
    named = words.find(mapping.instrument.keyword) if mapping.instrument.keyword else None
    # Only a name: an exposure is usable without it.
    name = str(named[1] if named else mapping.instrument.value or "unknown")
    return name, _origin(mapping.instrument, "instrument")


def _origin(field: FromHeader, name: str) -> HeaderOrigin:
    return (
        HeaderOrigin(name, field.keyword) if field.keyword is not None else HeaderOrigin(name, note="of the settings")
    )


def _calibration(headers: Headers, where: str, mapping: KeywordMapping, wcs: str | None) -> HeaderCalibration:
    words = _keywords(headers, where, mapping)
    unit = unit_of(words, mapping)
    zero_point, by = _zero_point(words, mapping, unit, wcs)
    gain = _gain(words, mapping, unit)
    known = {name: getattr(mapping, name) for name in ("zero_point_err", "saturation")}
    psf, by_psf = _psf(words, mapping, wcs)
    origins = [unit.origin, by, gain.origin, *left_out(headers, layout_of(headers, where, mapping))]
    origins += [_origin(field, name) for name, field in known.items() if field != FromHeader()]
    if is_asinh(words.headers[0]):
        origins.append(HeaderOrigin("pixels", "BSOFTEN", "made linear with BOFFSET", ASINH_PIXELS))
    if psf is not None:
        origins.append(by_psf)
    return HeaderCalibration(
        unit.name,
        zero_point,
        _number(mapping.zero_point_err, words, "zero_point_err", least=0),
        gain.value,
        _number(mapping.saturation, words, "saturation", least=0),
        psf,
        tuple(origins),
    )


def _zero_point(
    words: Keywords, mapping: KeywordMapping, unit: Unit, wcs: str | None
) -> tuple[float | None, HeaderOrigin]:
    given, own = mapping.zero_point, unit.zero_point(wcs)
    absent = given.keyword is not None and words.optional(given.keyword) is None
    if own is not None and (given == FromHeader() or absent or unit.name == "nJy"):
        return own, HeaderOrigin("zero_point", unit.origin.keyword, f"of {unit.name}")
    if given == FromHeader():
        return None, HeaderOrigin("zero_point")
    if absent:
        raise BadInput(
            "missing_zero_point",
            words.where,
            f"the header has no keyword {given.keyword} with a number, which the settings name for the zero point.",
            "calibrate the image, or leave fits.zero_point out: fluxes are null then.",
        )
    return _number(given, words, "zero_point"), _origin(given, "zero_point")


def _gain(words: Keywords, mapping: KeywordMapping, unit: Unit) -> Gain:
    """Return electrons per pixel unit: from the settings, or from the unit and GAIN."""
    given = mapping.gain
    if given.value is not None or (given.keyword is not None and unit.is_flux and mapping.pixel_unit is not None):
        return Gain(_number(given, words, "gain", LEAST_GAIN), _origin(given, "gain"))
    exposure_time, by = exposure_time_of(words, mapping) if unit.is_rate else (0.0, HeaderOrigin("exposure_time"))
    if unit.is_rate and not exposure_time > 0:
        raise BadInput(
            "invalid_keyword",
            words.where,
            f"{by.keyword or 'fits.exposure_time'} is 0, and the pixels are rates ({unit.name}): must be above 0.",
            "correct it in the header, or give fits.exposure_time.value in the settings.",
        )
    per_adu = electrons_per_adu(words, given.keyword)
    flag = ASSUMED_GAIN if per_adu.keyword and given.keyword is None and (unit.origin.assumed or per_adu.guess) else ""
    found = gain_of(per_adu.value, per_adu.keyword, flag, unit, exposure_time)
    if found.origin.keyword:
        words.required(found.origin.keyword)  # refuses several values
    note = "; ".join(part for part in (per_adu.note if found.origin.keyword else "", found.origin.note) if part)
    return Gain(found.value, found.origin._replace(note=note))


def _psf(words: Keywords, mapping: KeywordMapping, wcs: str | None) -> tuple[PsfModel | None, HeaderOrigin]:
    fwhm, origin = fwhm_of(words, mapping.psf_fwhm, wcs)
    if fwhm is None:
        return None, origin
    beta = _number(mapping.psf_beta, words, "psf_beta", least=1.1)
    if beta is None:
        return PsfModel(fwhm_px=fwhm, source="header", flatness_err=UNKNOWN_FLATNESS), origin
    return PsfModel(fwhm_px=fwhm, beta=beta, source="header"), origin


def _number(
    field: FromHeader, words: Keywords, name: str, least: float = -math.inf, most: float = math.inf
) -> float | None:
    if field.keyword is not None:
        return words.number(field.keyword, least=least, most=most)
    return None if field.value is None else as_number(field.value, f"fits.{name}.value", words.where, least, most)


def _integer(field: FromHeader, words: Keywords, name: str, below: int) -> int | None:
    if field.keyword is not None:
        return words.integer(field.keyword, below=below)
    return None if field.value is None else as_integer(field.value, f"fits.{name}.value", words.where, below)


def _band(headers: Headers, where: str, mapping: KeywordMapping) -> str:
    return band_of(_keywords(headers, where, mapping), mapping.band)[0]


def _saturation(headers: Headers, where: str, mapping: KeywordMapping) -> float | None:
    """Return the saturation level of a template, which may lack the keyword that the settings name."""
    words = _keywords(headers, where, mapping)
    if mapping.saturation.keyword is not None:
        return words.optional(mapping.saturation.keyword, least=0)
    return _number(mapping.saturation, words, "saturation", least=0)


GENERIC = FitsFormat(
    "generic",
    _matches,
    layout_of,
    _identity,
    _calibration,
    named_mask,
    _band,
    _saturation,
    wcs_required=False,
    parts=_parts,
)
