"""FITS headers of an exposure: keywords, identity, time."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.time import Time, TimeDelta
from erfa import ErfaWarning
from numpy.typing import NDArray

from flows.inputs.fits_damage import require_one_value, value_of
from kernels.sky.times import night_label, tai
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureInfo, ExposureKey, PsfModel
from schemas.keyword_mapping import KeywordMapping, TimeScale
from schemas.pixels import is_large

Headers = tuple[fits.Header, ...]

AMBIGUOUS_TIME = "ambiguous_time"
"""Exposure flag: its time, time scale or duration is in doubt."""


class HeaderOrigin(NamedTuple):
    """Origin of a quantity.

    Attributes
    ----------
    quantity
        Its name in the settings: ``time``, ``gain``, ...
    keyword
        Keyword of the header; "" if it comes from none.
    note
        How it was found, unless simply as the keyword's value.
    flag
        Exposure flag if it was assumed or is in doubt; otherwise "".
    assumed
        Whether it is a guess, although there is no flag for it in catalogues.
    """

    quantity: str
    keyword: str = ""
    note: str = ""
    flag: str = ""
    assumed: bool = False

    @property
    def doubt(self) -> str:
        """Return the flag of the exposure; for a guess ``assumed_`` and the quantity; otherwise ""."""
        return self.flag or (f"assumed_{self.quantity}" if self.assumed else "")


class Identity(NamedTuple):
    """Identity of an exposure, and when and how it was taken."""

    key: ExposureKey
    instrument: str
    band: str
    midpoint_mjd_tai: float
    exposure_time_s: float
    longitude_deg: float | None = None
    origins: tuple[HeaderOrigin, ...] = ()


class IdentityParts(NamedTuple):
    """Known parts of an identity: values under the names of `ExposureKey` and `Identity`, and their origins."""

    values: Mapping[str, Any]
    origins: tuple[HeaderOrigin, ...]


class HeaderCalibration(NamedTuple):
    """Calibration of the pixel values; None where the header does not say."""

    pixel_unit: str
    zero_point: float | None
    zero_point_err: float | None
    gain: float | None
    saturation: float | None
    psf: PsfModel | None
    origins: tuple[HeaderOrigin, ...] = ()


@dataclass(frozen=True)
class FitsFormat:
    """Kind of FITS file.

    Parameters
    ----------
    name
        Name for messages.
    matches
        Whether headers are of this kind, judged by their keywords alone.
    layout
        Plane -> index of its HDU; always includes ``difference``.
    identity
        Headers, uri, mapping -> `Identity`.
    calibration
        Headers, uri, mapping, WCS cards -> `HeaderCalibration`.
    mask_bits
        A mask of this kind and its header -> bits of `MaskPlane`.
    band, saturation
        Headers, uri, mapping -> value for a template, which may lack time and zero point.
    wcs_required
        Whether an image without a WCS is bad input; otherwise it is only flagged.
    asked
        Quantity -> keywords that are looked up for it, in order, if `Identity` and `HeaderCalibration` do not name
        them.
    parts
        Headers, uri, mapping -> the parts known of an incomplete identity, and their origins.
    """

    name: str
    matches: Callable[[Headers], bool]
    layout: Callable[[Headers, str, KeywordMapping], Mapping[str, int]]
    identity: Callable[[Headers, str, KeywordMapping], Identity]
    calibration: Callable[[Headers, str, KeywordMapping, str | None], HeaderCalibration]
    mask_bits: Callable[[NDArray[Any], fits.Header], NDArray[Any]]
    band: Callable[[Headers, str, KeywordMapping], str]
    saturation: Callable[[Headers, str, KeywordMapping], float | None]
    wcs_required: bool
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    parts: Callable[[Headers, str, KeywordMapping], IdentityParts] = lambda *_: IdentityParts({}, ())


@dataclass(frozen=True)
class Keywords:
    """Headers of a file, in the order in which they are searched.

    Attributes
    ----------
    where
        URI, for messages.
    headers
        The image's own header first, then the primary one.
    mapped
        Whether settings can name other keywords.
    """

    where: str
    headers: tuple[fits.Header, ...]
    mapped: bool = True

    def find(self, *names: str) -> tuple[str, Any] | None:
        """Return the first of ``names`` that is present and not empty, with its value."""
        return next(self._found(names), None)

    def has(self, *names: str) -> bool:
        """Return whether any of ``names`` is present and not empty."""
        return self.find(*names) is not None

    def required(self, *names: str) -> tuple[str, Any]:
        """Return the first of ``names`` that is present and not empty, with its value.

        Raises
        ------
        BadInput
            ``missing_keyword``; ``invalid_keyword``: it is there several times, with different values.
        """
        found = self.find(*names)
        if found is None:
            empty = next((name for name in names if any(name in header for header in self.headers)), None)
            raise BadInput(
                "missing_keyword",
                self.where,
                f"the header has no keyword {' or '.join(names)}."
                if empty is None
                else f"{empty} has no value that can be read.",
                "add it to the file's header, or map another one in the settings, section [fits]: "
                "nightstride inspect FILE --write shows which there are."
                if self.mapped
                else "add it to the file's header.",
            )
        if (header := self._header(found[0])) is not None:
            require_one_value(header, found[0], self.where)
        return found

    def text(self, *names: str) -> str:
        """Return a value as text without blanks around it.

        Raises
        ------
        BadInput
            ``missing_keyword``.
        """
        return str(self.required(*names)[1]).strip()

    def number(self, *names: str, least: float = -math.inf, most: float = math.inf) -> float:
        """Return a finite number within [least, most].

        Raises
        ------
        BadInput
            ``missing_keyword``; ``invalid_keyword`` if it is not such a number.
        """
        name, value = self.required(*names)
        return as_number(value, name, self.where, least, most)

    def integer(self, *names: str, below: int) -> int:
        """Return a whole number in [0, below).

        Raises
        ------
        BadInput
            ``missing_keyword``; ``invalid_keyword`` if it is not such a number.
        """
        name, value = self.required(*names)
        return as_integer(value, name, self.where, below)

    def optional(self, *names: str, least: float = -math.inf) -> float | None:
        """Return a finite number above ``least``; None without one: an exposure is usable without it."""
        found = self.find(*names)
        if found is None:
            return None
        try:
            number = float(found[1])
        except (TypeError, ValueError):
            return None
        return number if math.isfinite(number) and number > least else None

    def comment(self, name: str) -> str:
        """Return the comment of the card whose value `find` returns; "" if there is none."""
        header = self._header(name)
        return "" if header is None else str(header.comments[name])

    def primary_first(self) -> "Keywords | None":
        """Return the same keywords, primary header first; None if the image's own header is the primary one."""
        own, primary = self.headers[0], self.headers[-1]
        return None if own is primary else Keywords(self.where, (primary, own))

    def _header(self, name: str) -> fits.Header | None:
        """Return the header whose value `find` returns."""
        return next((one for one in self.headers if Keywords(self.where, (one,)).has(name)), None)

    def _found(self, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name in names:
            for header in self.headers:
                value = value_of(header, name)
                if value is not None and not isinstance(value, fits.card.Undefined) and str(value).strip():
                    yield name, value


def as_number(value: Any, name: str, where: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Return ``value`` as a finite float within [least, most].

    Raises
    ------
    BadInput
        ``invalid_keyword``.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number) and least <= number <= most:
        return number
    raise BadInput(
        "invalid_keyword",
        where,
        f"{name} is {value!r}, must be a number{_range(least, most)}.",
        f"correct {name} in the header.",
    )


def as_integer(value: Any, name: str, where: str, below: int) -> int:
    """Return ``value`` as an int in [0, below).

    Raises
    ------
    BadInput
        ``invalid_keyword``.
    """
    number = as_number(value, name, where)
    # Not via float: a visit has up to 42 bits, but the text may be longer than float's 53 bits.
    whole = int(value) if isinstance(value, int) else int(number)
    if whole == number and 0 <= whole < below:
        return whole
    raise BadInput(
        "invalid_keyword",
        where,
        f"{name} is {value!r}, must be a whole number from 0 to {below - 1}.",
        f"correct {name} in the header.",
    )


def _range(least: float, most: float) -> str:
    if math.isinf(least) and math.isinf(most):
        return ""
    if math.isinf(most):
        return f" of at least {least:g}"
    return f" from {least:g} to {most:g}"


_FIRST, _LAST = 40587.0, 88069.0
"""MJD of 1970 and 2100: the header of a survey image dated outside is wrong."""


SCALES: Mapping[str, TimeScale] = {
    "UTC": "utc", "UT": "utc", "GMT": "utc", "TAI": "tai", "IAT": "tai", "TT": "tt", "TDT": "tt", "ET": "tt",
    "TDB": "tdb", "GPS": "gps",
}  # fmt: skip
"""TIMESYS (FITS 4.0, table 30) -> scale; UT1, TCG, TCB and local time are not supported."""


def time_scale(words: Keywords, otherwise: TimeScale) -> TimeScale:
    """Return the time scale named by TIMESYS; ``otherwise`` if there is none.

    Raises
    ------
    BadInput
        ``unknown_time_scale``; ``invalid_keyword``: it is there several times, with different values.
    """
    if not words.has("TIMESYS"):
        return otherwise
    _, value = words.required("TIMESYS")
    name = str(value).partition("(")[0].strip().upper()
    if name not in SCALES:
        raise BadInput(
            "unknown_time_scale",
            words.where,
            f"TIMESYS is {value!r}, must be one of {', '.join(SCALES)}.",
            "correct it in the header, or name the scale in the settings, fits.time.scale.",
        )
    return SCALES[name]


_FORMS = {"isot": "a date and time (YYYY-MM-DDThh:mm:ss)", "mjd": "a day number (MJD)", "jd": "a day number (JD)"}


class _Outside(ValueError):
    """A date that no image can have."""


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
    scale: TimeScale = "utc",
    at: Literal["start", "middle", "end"] = "start",
) -> When:
    """Find the middle of an exposure.

    Parameters
    ----------
    value, name, where
        Value in the header, its keyword, and the file.
    exposure_time_s
        Exposure time, s.
    longitude_deg
        East longitude of the site.
    form, scale, at
        Format, time scale and instant of ``value``.

    Raises
    ------
    BadInput
        ``invalid_keyword``: not a date, or not between 1970 and 2100.
    """
    try:
        with warnings.catch_warnings():
            # "dubious year": after the last known leap second; astropy can only assume that no more follow.
            warnings.simplefilter("ignore", ErfaWarning)
            moment = tai(value, form, scale)
            if not _FIRST <= moment.mjd <= _LAST:
                raise _Outside(f", between 1970 and 2100: it is MJD {moment.mjd:.1f}")
            days = exposure_time_s / 86400 * {"start": 0.5, "middle": 0.0, "end": -0.5}[at]
            midpoint = moment + TimeDelta(days, format="jd", scale="tai")
            return When(float(midpoint.mjd), night_label(float(midpoint.utc.mjd), longitude_deg))
    except (TypeError, ValueError) as error:
        limits = str(error) if isinstance(error, _Outside) else ""
        raise BadInput(
            "invalid_keyword",
            where,
            f"{name} is {value!r}, must be {_FORMS[form]} in {scale.upper()}{limits}.",
            f"correct {name} in the header, or name another keyword of the time in the settings, section [fits.time]"
            + ("." if form == "isot" else ", or its format."),
        ) from error


def exposure_end(info: ExposureInfo) -> datetime:
    """Return the end of an exposure, UTC: half its duration after the middle."""
    end = Time(info.midpoint_mjd_tai, format="mjd", scale="tai") + TimeDelta(info.exposure_time_s / 2, format="sec")
    return end.utc.to_datetime(timezone=UTC)


def is_image(header: fits.Header) -> bool:
    """Return whether an HDU holds pixels."""
    if header.get("ZIMAGE"):
        return True
    kind = str(header.get("XTENSION", "IMAGE")).strip()
    return kind == "IMAGE" and int(header.get("NAXIS", 0)) > 0


MOST_AXES = 999
"""Maximum number of axes (FITS 4.0, section 4.4.1)."""


def image_shape(header: fits.Header) -> tuple[int, ...]:
    """Return the shape of an image, slowest axis first, as in numpy; of a compressed image, unpacked.

    Axes of length 1 beyond the second are left out: `one_image` removes them from the pixels.

    Raises
    ------
    ValueError
        These axes are not those of an image.
    """
    prefix = "Z" if header.get("ZIMAGE") else ""
    axes = int(header.get(f"{prefix}NAXIS", 0))
    if not 0 <= axes <= MOST_AXES:
        raise ValueError(f"{prefix}NAXIS = {axes}")
    sides = tuple(int(header.get(f"{prefix}NAXIS{axis}", 0)) for axis in range(axes, 0, -1))
    if min(sides, default=0) < 0:
        raise ValueError(f"negative axis among {sides}")
    while len(sides) > 2 and sides[0] == 1:
        sides = sides[1:]
    return sides


def one_image(axes: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index of an image of shape ``shape`` in pixels with so many axes: 0 along those of length 1."""
    return (0,) * (axes - len(shape))


def no_image(where: str) -> BadInput:
    """Return the error for a file without an image."""
    return BadInput(
        "no_image", where, "the HDU holds no image.", "name the image's extension in the settings, fits.extension."
    )


def unmapped(field: str) -> Misconfigured:
    """Return the error for a required field that the settings leave empty."""
    return Misconfigured(
        "unmapped_field",
        field,
        "neither keyword nor value is given.",
        "name the keyword in the settings file; the files in examples/ show how.",
    )


def has_large_image(headers: Headers) -> bool:
    """Return whether any image in a file is large: see `schemas.pixels.WHOLE_PIXELS`."""
    return any(is_image(header) and is_large(image_shape(header)) for header in headers)


def true_pixels(pixels: NDArray[Any], header: fits.Header) -> NDArray[Any]:
    """Return pixels linear in flux, with NaN where integers have the value of ``BLANK``.

    ``BLANK`` refers to the stored numbers, before ``BZERO`` makes them unsigned (FITS 4.0, 4.4.2.5).
    """
    blank = value_of(header, "BLANK")
    if isinstance(blank, int | float) and pixels.dtype.kind in "iu":
        pixels = np.where(pixels == blank + int(header.get("BZERO", 0)), np.float32(np.nan), pixels)
    if not is_asinh(header):
        return pixels
    with np.errstate(over="ignore"):  # pixels without a finite value are masked
        return np.asarray(header["BOFFSET"] + 2 * header["BSOFTEN"] * np.sinh(pixels / _ASINH))


_ASINH = 2.5 * math.log10(math.e)


def is_asinh(header: fits.Header) -> bool:
    """Return whether pixels are inverse hyperbolic sines of the flux, as in the stacks of Pan-STARRS.

    The rule is given at http://svn.pan-starrs.ifa.hawaii.edu/trac/ipp/wiki/asinh_compression.
    """
    return all(isinstance(value_of(header, name), int | float) for name in ("BSOFTEN", "BOFFSET"))
