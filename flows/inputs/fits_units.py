"""Units of pixels: BUNIT, the zero point that follows from it, electrons per pixel unit; width of the PSF in px."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple, cast, get_args

from astropy import units

from flows.inputs.comment_words import gain_unit, head_unit
from flows.inputs.fits_header import HeaderOrigin, Keywords
from flows.inputs.wcs_cards import pixel_area_arcsec2, pixel_scale_arcsec
from schemas.errors import BadInput
from schemas.exposure import NJY_ZERO_POINT
from schemas.keyword_mapping import FwhmFromHeader, KeywordMapping, PixelUnit, WidthUnit

UNKNOWN_UNIT, ASSUMED_GAIN = "unknown_unit", "assumed_gain"
"""Exposure flags: BUNIT is not a known unit; the gain was assumed."""

LEAST_GAIN = 1e-9
"""Minimum gain, electrons per pixel unit."""

_COUNTS = "adu|dn|counts?|cts?|count|data ?numbers?"
_ELECTRONS = "e|e-|el|electrons?|photo-?electrons?|photons?"
_PER_SECOND = re.compile(
    r"(?P<what>.+?) ?(/ ?(s|sec|seconds?)|[ .*]?(s|sec)(\^|\*\*)?-1|(\^|\*\*)?\(?-1\)? ?(s|sec)|per (s|sec|second))"
)
_FLUXES: Mapping[str, PixelUnit] = {
    "njy": "nJy", "nanojansky": "nJy", "ujy": "uJy", "microjy": "uJy", "mjy": "mJy", "jy": "Jy", "jansky": "Jy",
    "nanomaggy": "nmgy", "nanomaggies": "nmgy", "nmgy": "nmgy", "mjy/sr": "MJy/sr", "mjysr-1": "MJy/sr",
}  # fmt: skip
_SCALED: tuple[PixelUnit, ...] = ("nJy", "uJy", "mJy", "Jy", "MJy/sr")
_JANSKY: Mapping[str, float] = {"nJy": 1e-9, "uJy": 1e-6, "mJy": 1e-3, "Jy": 1.0, "nmgy": 3.631e-6}
_ARCSEC2_PER_SR = (180 * 3600 / math.pi) ** 2


class Unit(NamedTuple):
    """Unit of the pixels, and its origin."""

    name: PixelUnit
    origin: HeaderOrigin

    @property
    def is_flux(self) -> bool:
        """Return whether the unit implies a zero point."""
        return self.name in _JANSKY or self.name == "MJy/sr"

    @property
    def is_rate(self) -> bool:
        """Return whether the unit is per second."""
        return self.name.endswith("/s")

    @property
    def is_electrons(self) -> bool:
        """Return whether the unit is electrons."""
        return self.name.startswith("electron")

    def zero_point(self, wcs: str | None) -> float | None:
        """Return the AB magnitude of one unit if it defines one; for MJy/sr, that of a pixel, by the WCS."""
        if self.name == "MJy/sr":
            if wcs is None:
                return None
            jansky = 1e6 * pixel_area_arcsec2(wcs) / _ARCSEC2_PER_SR
        elif self.name in _JANSKY:
            jansky = _JANSKY[self.name]
        else:
            return None
        return NJY_ZERO_POINT - 2.5 * math.log10(jansky / 1e-9)


def unit_named(text: str) -> PixelUnit:
    """Return the unit that a value of BUNIT names; "unknown" if it is none of ours."""
    plain = " ".join(text.strip().strip("'[]()").split())
    if plain in get_args(PixelUnit):
        return cast("PixelUnit", plain)
    small = plain.lower()
    if (flux := _FLUXES.get(small.replace(" ", "").removesuffix("/pixel").removesuffix("/pix"))) is not None:
        # Case distinguishes mega from milli, if the file respects case at all.
        other = {"mJy": "M", "MJy/sr": "m"}.get(flux)
        return "unknown" if other is not None and plain.startswith(other) else flux
    rate = _PER_SECOND.fullmatch(small)
    what = (rate["what"] if rate else small).strip()
    what = re.sub(r" ?/ ?(pix|pixel)$", "", what)
    for names, whole in ((_COUNTS, "adu"), (_ELECTRONS, "electron")):
        if re.fullmatch(names, what):
            return cast("PixelUnit", f"{whole}/s" if rate else whole)
    return _scaled(plain) if plain[:1].isdigit() else "unknown"


def _scaled(text: str) -> PixelUnit:
    """Return the unit for a multiple of another unit (1e-9 Jy); "unknown" if it is none of ours."""
    given = units.Unit(text, parse_strict="silent")
    for name in _SCALED:
        if given.is_equivalent(units.Unit(name)) and math.isclose(given.to(units.Unit(name)), 1.0, rel_tol=1e-6):
            return name
    return "unknown"


def unit_of(words: Keywords, mapping: KeywordMapping) -> Unit:
    """Return the unit of the pixels: from the settings, else from BUNIT, else adu."""
    if mapping.pixel_unit is not None:
        return Unit(mapping.pixel_unit, HeaderOrigin("pixel_unit", note="of the settings"))
    found = words.find("BUNIT")
    if found is None:
        return Unit("adu", HeaderOrigin("pixel_unit", note="no BUNIT: taken as adu", assumed=True))
    name = unit_named(words.text("BUNIT"))
    if name == "unknown":
        note = "is not a unit known here: gain is left out; name it in the settings, fits.pixel_unit"
        return Unit(name, HeaderOrigin("pixel_unit", "BUNIT", note, UNKNOWN_UNIT))
    return Unit(name, HeaderOrigin("pixel_unit", "BUNIT"))


class PerAdu(NamedTuple):
    """Electrons per adu according to a header, its keyword, how it is known, and whether it is a guess."""

    value: float | None
    keyword: str = ""
    note: str = ""
    guess: bool = False


def electrons_per_adu(words: Keywords, named: str | None) -> PerAdu:
    """Return electrons per adu, from the keyword in the settings, else from EGAIN or GAIN.

    If the comment says adu per electron, the value is inverted; values in other units (dB) are ignored.

    Raises
    ------
    BadInput
        ``missing_keyword``, ``invalid_keyword``: about the keyword in the settings.
    """
    for keyword in ("EGAIN", "GAIN") if named is None else (named,):
        value = words.optional(keyword, least=LEAST_GAIN) if named is None else words.number(keyword, least=LEAST_GAIN)
        comment = words.comment(keyword)
        match gain_unit(comment):
            case "other" if named is not None:
                raise BadInput(
                    "invalid_keyword",
                    words.where,
                    f"{named} is {value!r}, by its comment {comment!r} not in electrons per adu.",
                    "give electrons per pixel unit in the settings, fits.gain.value, or leave fits.gain out.",
                )
            case "adu/e-" if value is not None:
                return PerAdu(1 / value, keyword, f"1 over it: adu per electron by its comment {comment!r}")
            case "e-/adu" | "" as told if value is not None:
                return PerAdu(value, keyword, guess=keyword == "GAIN" and not told)
    return PerAdu(None)


class Gain(NamedTuple):
    """Electrons per pixel unit, None if not known, and their origin."""

    value: float | None
    origin: HeaderOrigin


def gain_of(per_adu: float | None, keyword: str, flag: str, unit: Unit, exposure_time_s: float) -> Gain:
    """Return the electrons per pixel unit.

    Parameters
    ----------
    per_adu, keyword, flag
        Electrons per adu according to a header, the keyword, and a flag if they are in doubt.
    unit
        Unit of the pixels: GAIN, per adu, does not apply to electrons or calibrated fluxes.
    exposure_time_s
        Exposure time, s; a pixel that is a rate stands for so many times more electrons.
    """
    if unit.is_rate and not exposure_time_s > 0:
        return Gain(None, HeaderOrigin("gain", note="pixels are rates, and the exposure time is 0"))
    times, note = (exposure_time_s, f" times {exposure_time_s:g} s") if unit.is_rate else (1.0, "")
    if unit.is_electrons:
        return Gain(times, HeaderOrigin("gain", note=f"pixels are electrons: 1{note}"))
    if unit.is_flux or unit.name == "unknown":
        note = f"{keyword} is of counts, and the pixels are not" if keyword else ""
        return Gain(None, HeaderOrigin("gain", note=note))
    if per_adu is None:
        return Gain(None, HeaderOrigin("gain"))
    return Gain(per_adu * times, HeaderOrigin("gain", keyword, note.strip(), flag))


ASSUMED_PSF_UNIT = "assumed_psf_unit"
"""Exposure flag: the unit of the PSF's width was assumed."""

_WIDTHS: Mapping[str, WidthUnit] = {
    "px": "px", "pix": "px", "pixel": "px", "pixels": "px", "arcsec": "arcsec", "arcsecs": "arcsec",
    "arcsecond": "arcsec", "arcseconds": "arcsec", "asec": "arcsec", '"': "arcsec", "''": "arcsec", "deg": "deg",
    "degree": "deg", "degrees": "deg",
}  # fmt: skip
_WORD = re.compile(r"[a-z]+")


def unit_of_width(comment: str) -> WidthUnit | None:
    """Return the unit of a width in brackets at the start of a comment; None if there is no such unit."""
    return _WIDTHS.get(head_unit(comment).lower())


def fwhm_of(words: Keywords, given: FwhmFromHeader, wcs: str | None) -> tuple[float | None, HeaderOrigin]:
    """Return the FWHM of the PSF from the settings and the header, px; None if they do not give it.

    For several keywords it is their mean. The unit is that of the settings, else that in brackets at the start of the
    comment; else that named in the comment's words, or px, with a flag.

    Raises
    ------
    BadInput
        ``missing_keyword``; ``invalid_keyword``: not such a number, or brackets without a unit of width;
        ``missing_wcs``: a width on the sky requires a WCS.
    """
    widths, notes, flag = list[float](), ["before the pixels blur it"], ""
    for keyword in given.keywords:
        comment = words.comment(keyword)
        unit = _width_unit(keyword, comment, given.unit, words.where)
        if unit is None:
            unit, flag = _worded(comment), ASSUMED_PSF_UNIT
            notes.append(f"{keyword} taken as {unit}: give fits.psf_fwhm.unit")
        elif unit != "px" or given.unit is not None:
            by = f" by the settings, and its comment is {comment!r}" if given.unit and head_unit(comment) else ""
            notes.append(f"{keyword} is in {unit}{by}")
        value = words.number(keyword, least=1e-6 if unit == "deg" else 1e-3)
        widths.append(_pixels(value, unit, wcs, words.where))
    if not widths and given.value is not None:
        widths.append(_pixels(given.value, given.unit or "px", wcs, words.where))
    fwhm = math.fsum(widths) / len(widths) if widths else None
    return fwhm, HeaderOrigin("psf_fwhm", ", ".join(given.keywords), "; ".join(notes), flag)


def _width_unit(keyword: str, comment: str, given: WidthUnit | None, where: str) -> WidthUnit | None:
    head, unit = head_unit(comment), unit_of_width(comment)
    if given is None and head and unit is None:
        raise BadInput(
            "invalid_keyword",
            where,
            f"the comment of {keyword} gives it in [{head}], must be px, arcsec or deg.",
            "correct the comment in the header, or name the unit in the settings, fits.psf_fwhm.unit.",
        )
    return given or unit


def _worded(comment: str) -> WidthUnit:
    told = {_WIDTHS[word] for word in _WORD.findall(comment.lower()) if word in _WIDTHS}
    return told.pop() if len(told) == 1 else "px"


def _pixels(value: float, unit: WidthUnit, wcs: str | None, where: str) -> float:
    if unit == "px":
        return value
    if wcs is None:
        raise BadInput("missing_wcs", where, f"a PSF width in {unit} needs a WCS.", "give fits.psf_fwhm.value in px.")
    return value * (3600 if unit == "deg" else 1) / pixel_scale_arcsec(wcs)
