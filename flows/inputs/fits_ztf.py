"""ZTF's difference images (Masci et al. 2019, PASP 131, 018003)."""

from collections.abc import Mapping

from astropy.io import fits

from flows.inputs.fits_damage import value_of
from flows.inputs.fits_header import (
    FitsFormat,
    HeaderCalibration,
    Headers,
    Identity,
    Keywords,
    is_image,
    middle,
    no_image,
    time_scale,
)
from flows.inputs.mask_bits import ztf_mask
from schemas.errors import BadInput
from schemas.exposure import ExposureKey, PsfModel
from schemas.keyword_mapping import KeywordMapping

PALOMAR_LONGITUDE = -116.8597
_OWN = ("OBSMJD", "OBSJD", "CCDID", "QID", "RCID", "EXPID", "FILTERID", "PROGRMID")
_SATURATION = "SATURATE"
BANDS = {1: "g", 2: "r", 3: "i"}


def _matches(headers: Headers) -> bool:
    origin = " ".join(str(value_of(header, key) or "") for header in headers for key in ("ORIGIN", "INSTRUME"))
    if "ZTF" in origin or "Zwicky" in origin:
        return True
    # A file that lacks one of the keywords should get an error that names it, not be taken for another format.
    return sum(any(key in header for header in headers) for key in _OWN) >= 3


def _layout(headers: Headers, where: str, _mapping: KeywordMapping) -> Mapping[str, int]:
    index = next((index for index, header in enumerate(headers) if is_image(header)), None)
    if index is None:
        raise no_image(where)
    return {"difference": index}


def _keywords(headers: Headers, where: str, mapping: KeywordMapping) -> Keywords:
    image = _layout(headers, where, mapping)["difference"]
    return Keywords(where, (headers[image], headers[0]), mapped=False)


def _identity(headers: Headers, where: str, mapping: KeywordMapping) -> Identity:
    words = _keywords(headers, where, mapping)
    exposure_time = words.number("EXPTIME", "EXPOSURE", least=0, most=1e5)
    name, _ = words.required("OBSMJD", "OBSJD")
    when = middle(
        words.number(name),
        name=name,
        where=where,
        exposure_time_s=exposure_time,
        longitude_deg=PALOMAR_LONGITUDE,
        form="jd" if name == "OBSJD" else "mjd",
        scale=time_scale(words, "utc"),
    )
    key = ExposureKey(night=when.night, visit=words.integer("EXPID", below=2**42), detector=_detector(words))
    return Identity(key, "ZTF", _band(words), when.midpoint_mjd_tai, exposure_time, PALOMAR_LONGITUDE)


def _detector(words: Keywords) -> int:
    """Return the readout channel: RCID, or else computed from CCD and quadrant."""
    if words.has("RCID"):
        return words.integer("RCID", below=64)
    ccd, quadrant = words.integer("CCDID", below=17), words.integer("QID", below=5)
    if ccd < 1 or quadrant < 1:
        raise BadInput(
            "invalid_keyword",
            words.where,
            f"CCDID is {ccd} and QID {quadrant}, must be 1 to 16 and 1 to 4.",
            "correct them in the header.",
        )
    return 4 * (ccd - 1) + quadrant - 1


def _band(words: Keywords) -> str:
    if words.has("FILTERID"):
        number = words.integer("FILTERID", below=100)
        if number in BANDS:
            return BANDS[number]
    return words.text("FILTER", "FILTERID").removeprefix("ZTF_").lower()


def _calibration(headers: Headers, where: str, mapping: KeywordMapping, _wcs: str | None) -> HeaderCalibration:
    words = _keywords(headers, where, mapping)
    zero_point = words.optional("MAGZP")
    if zero_point is None:
        raise BadInput(
            "missing_zero_point",
            where,
            "the header has no keyword MAGZP with a number.",
            "calibrate the image first, or map it as a generic FITS file.",
        )
    seeing = words.optional("SEEING", least=0)
    return HeaderCalibration(
        "adu",
        zero_point,
        words.optional("MAGZPUNC", least=-1e-9),
        words.optional("GAIN", least=0),
        words.optional(_SATURATION, least=0),
        PsfModel(fwhm_px=seeing, source="header") if seeing else None,
    )


def _band_of(headers: Headers, where: str, mapping: KeywordMapping) -> str:
    return _band(_keywords(headers, where, mapping))


def _saturation(headers: Headers, where: str, mapping: KeywordMapping) -> float | None:
    return _keywords(headers, where, mapping).optional(_SATURATION, least=0)


def is_ztf_mask(header: fits.Header) -> bool:
    """Return whether a mask image uses ZTF's bits."""
    return _matches((header,)) or "BIT00" in header


_ASKED = {
    "visit": ("EXPID",),
    "detector": ("RCID", "CCDID"),
    "band": ("FILTERID", "FILTER"),
    "time": ("OBSMJD", "OBSJD"),
    "exposure_time": ("EXPTIME", "EXPOSURE"),
    "zero_point": ("MAGZP",),
    "zero_point_err": ("MAGZPUNC",),
    "gain": ("GAIN",),
    "saturation": (_SATURATION,),
    "psf_fwhm": ("SEEING",),
}

ZTF = FitsFormat(
    "ZTF",
    _matches,
    _layout,
    _identity,
    _calibration,
    ztf_mask,
    _band_of,
    _saturation,
    wcs_required=True,
    asked=_ASKED,
)
