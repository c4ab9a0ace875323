"""Width of the PSF by a header, in the unit that the settings or its comment name."""

import math
import re
from collections.abc import Mapping

from flows.inputs.comment_words import head_unit
from flows.inputs.fits_header import HeaderOrigin, Keywords
from flows.inputs.wcs_cards import pixel_scale_arcsec
from schemas.errors import BadInput
from schemas.keyword_mapping import FwhmFromHeader, WidthUnit

ASSUMED_PSF_UNIT = "assumed_psf_unit"
"""Flag of an exposure."""

_NAMES: Mapping[str, WidthUnit] = {
    "px": "px", "pix": "px", "pixel": "px", "pixels": "px", "arcsec": "arcsec", "arcsecs": "arcsec",
    "arcsecond": "arcsec", "arcseconds": "arcsec", "asec": "arcsec", '"': "arcsec", "''": "arcsec", "deg": "deg",
    "degree": "deg", "degrees": "deg",
}  # fmt: skip
_WORD = re.compile(r"[a-z]+")


def unit_of_width(comment: str) -> WidthUnit | None:
    """Return the unit in brackets at the head of a comment; None where there is none, or it is not one of a width."""
    return _NAMES.get(head_unit(comment).lower())


def fwhm_of(words: Keywords, given: FwhmFromHeader, wcs: str | None) -> tuple[float | None, HeaderOrigin]:
    """Return the FWHM of the PSF by the settings and the header, px; None if they do not tell it.

    Of several keywords it is their mean. The unit is that of the settings, else that in brackets at the head of the
    comment; else that which the comment names in words, or px, with a flag.

    Raises
    ------
    BadInput
        ``missing_keyword``; ``invalid_keyword``: no such number, or a unit that is not one of a width or contradicts
        that of the settings; ``missing_wcs``: a width on the sky needs one.
    """
    widths, notes, flag = list[float](), ["before the pixels blur it"], ""
    for keyword in given.keywords:
        comment = words.comment(keyword)
        unit = _told(keyword, comment, given.unit, words.where)
        if unit is None:
            unit, flag = _worded(comment), ASSUMED_PSF_UNIT
            notes.append(f"{keyword} taken as {unit}: give fits.psf_fwhm.unit")
        elif unit != "px":
            notes.append(f"{keyword} is in {unit}")
        value = words.number(keyword, least=1e-6 if unit == "deg" else 1e-3)
        widths.append(_pixels(value, unit, wcs, words.where))
    if not widths and given.value is not None:
        widths.append(_pixels(given.value, given.unit or "px", wcs, words.where))
    fwhm = math.fsum(widths) / len(widths) if widths else None
    return fwhm, HeaderOrigin("psf_fwhm", ", ".join(given.keywords), "; ".join(notes), flag)


def _told(keyword: str, comment: str, given: WidthUnit | None, where: str) -> WidthUnit | None:
    head, unit = head_unit(comment), unit_of_width(comment)
    if given is None and head and unit is None:
        raise BadInput(
            "invalid_keyword",
            where,
            f"the comment of {keyword} gives it in [{head}], must be px, arcsec or deg.",
            "correct the comment in the header, or name the unit in the settings, fits.psf_fwhm.unit.",
        )
    if given is not None and unit is not None and unit != given:
        raise BadInput(
            "invalid_keyword",
            where,
            f"fits.psf_fwhm.unit is {given}, and the comment of {keyword} gives it in [{head}].",
            "leave fits.psf_fwhm.unit out; if the comment is wrong, correct it, or give fits.psf_fwhm.value.",
        )
    return given or unit


def _worded(comment: str) -> WidthUnit:
    told = {_NAMES[word] for word in _WORD.findall(comment.lower()) if word in _NAMES}
    return told.pop() if len(told) == 1 else "px"


def _pixels(value: float, unit: WidthUnit, wcs: str | None, where: str) -> float:
    if unit == "px":
        return value
    if wcs is None:
        raise BadInput("missing_wcs", where, f"a PSF width in {unit} needs a WCS.", "give fits.psf_fwhm.value in px.")
    return value * (3600 if unit == "deg" else 1) / pixel_scale_arcsec(wcs)
