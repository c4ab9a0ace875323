"""FITS files of any instrument, through the keyword mapping of the settings."""

import math
from collections.abc import Mapping

from flows.inputs.fits_header import (
    FitsFormat,
    HeaderCalibration,
    Headers,
    Identity,
    Keywords,
    When,
    as_integer,
    as_number,
    is_image,
    middle,
    no_image,
)
from flows.inputs.mask_bits import plain_mask
from flows.inputs.wcs_cards import pixel_scale_arcsec
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey, PsfModel
from schemas.keyword_mapping import FromHeader, KeywordMapping

NANOJANSKY_ZERO_POINT = 31.4
_TENTHS_PER_DAY = 864_000


def _matches(_headers: Headers) -> bool:
    return True


def _layout(headers: Headers, where: str, mapping: KeywordMapping) -> Mapping[str, int]:
    if mapping.extension is None:
        index = next((index for index, header in enumerate(headers) if is_image(header)), None)
        if index is None:
            raise no_image(where)
    else:
        index = _extension(headers, mapping.extension, where)
        if not is_image(headers[index]):
            raise no_image(where)
    return {"difference": index} | {plane: _extension(headers, name, where) for plane, name in mapping.planes.items()}


def _extension(headers: Headers, wanted: int | str, where: str) -> int:
    for index, header in enumerate(headers):
        if wanted == index or wanted == str(header.get("EXTNAME", "")).strip():
            return index
    names = [str(header.get("EXTNAME", index)).strip() for index, header in enumerate(headers)]
    raise BadInput(
        "missing_extension",
        where,
        f"there is no extension {wanted!r}, only {', '.join(names)}.",
        "name one of them in the settings, section [fits].",
    )


def _keywords(headers: Headers, where: str, mapping: KeywordMapping) -> Keywords:
    return Keywords(where, (headers[_layout(headers, where, mapping)["difference"]], headers[0]))


def _identity(headers: Headers, where: str, mapping: KeywordMapping) -> Identity:
    words = _keywords(headers, where, mapping)
    exposure_time = _number(mapping.exposure_time, words, "exposure_time", least=0)
    if exposure_time is None:
        raise _unmapped("exposure_time")
    when = _when(words, mapping, exposure_time)
    visit = _integer(mapping.visit, words, "visit", 2**42)
    detector = _integer(mapping.detector, words, "detector", 2**9)
    key = ExposureKey(
        night=when.night,
        visit=round(when.midpoint_mjd_tai * _TENTHS_PER_DAY) if visit is None else visit,
        detector=detector or 0,
    )
    band = _text(mapping.band, words, "band")
    named = words.find(mapping.instrument.keyword) if mapping.instrument.keyword else None
    # A name only: its absence costs no exposure.
    instrument = str(named[1] if named else mapping.instrument.value or "unknown")
    return Identity(key, instrument, mapping.band.aliases.get(band, band), when.midpoint_mjd_tai, exposure_time)


def _when(words: Keywords, mapping: KeywordMapping, exposure_time: float) -> When:
    name = mapping.time.keyword or "time"
    value: float | str
    if mapping.time.keyword is None:
        if mapping.time.value is None:
            raise _unmapped("time")
        value = mapping.time.value
    else:
        value = words.text(name) if mapping.time.format == "isot" else words.number(name)
    return middle(
        value,
        name=name,
        where=words.where,
        exposure_time_s=exposure_time,
        longitude_deg=mapping.longitude_deg,
        form=mapping.time.format,
        scale=mapping.time.scale,
        at=mapping.time.at,
    )


def _calibration(headers: Headers, where: str, mapping: KeywordMapping, wcs: str | None) -> HeaderCalibration:
    words = _keywords(headers, where, mapping)
    if mapping.pixel_unit == "nJy":
        zero_point: float | None = NANOJANSKY_ZERO_POINT
    elif (keyword := mapping.zero_point.keyword) and words.optional(keyword) is None:
        raise BadInput(
            "missing_zero_point",
            where,
            f"the header has no keyword {keyword} with a number, which the settings name for the zero point.",
            "calibrate the image, or leave fits.zero_point out: fluxes are null then.",
        )
    else:
        zero_point = _number(mapping.zero_point, words, "zero_point")
    return HeaderCalibration(
        mapping.pixel_unit,
        zero_point,
        _number(mapping.zero_point_err, words, "zero_point_err", least=0),
        _number(mapping.gain, words, "gain", least=1e-9),
        _number(mapping.saturation, words, "saturation", least=0),
        _psf(words, mapping, wcs),
    )


def _psf(words: Keywords, mapping: KeywordMapping, wcs: str | None) -> PsfModel | None:
    given = mapping.psf_fwhm
    widths = [words.number(name, least=1e-3) for name in given.keywords] or ([given.value] if given.value else [])
    if not widths:
        return None
    fwhm = math.fsum(widths) / len(widths)
    if given.unit == "arcsec":
        if wcs is None:
            raise BadInput(
                "missing_wcs",
                words.where,
                "a PSF width in arcsec needs a WCS.",
                'give it with fits.psf_fwhm.unit="px".',
            )
        fwhm /= pixel_scale_arcsec(wcs)
    return PsfModel(fwhm_px=fwhm, source="header")


def _text(field: FromHeader, words: Keywords, name: str) -> str:
    if field.keyword is not None:
        return words.text(field.keyword)
    if field.value is None:
        raise _unmapped(name)
    return str(field.value)


def _number(field: FromHeader, words: Keywords, name: str, least: float = -math.inf) -> float | None:
    if field.keyword is not None:
        return words.number(field.keyword, least=least)
    return None if field.value is None else as_number(field.value, f"fits.{name}.value", words.where, least)


def _integer(field: FromHeader, words: Keywords, name: str, below: int) -> int | None:
    if field.keyword is not None:
        return words.integer(field.keyword, below=below)
    return None if field.value is None else as_integer(field.value, f"fits.{name}.value", words.where, below)


def _unmapped(name: str) -> Misconfigured:
    return Misconfigured(
        "unmapped_field",
        f"fits.{name}",
        "neither keyword nor value is given.",
        "name the keyword in the settings file; the files in examples/ show how.",
    )


GENERIC = FitsFormat("generic", _matches, _layout, _identity, _calibration, plain_mask, wcs_required=False)
