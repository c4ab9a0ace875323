"""Search of one array in memory with the stages of a night, without files or an output folder."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from flows.inputs.described import described
from flows.inputs.fits_damage import damage
from flows.inputs.source import IN_MEMORY, RawExposure
from flows.inputs.wcs_cards import pixel_scale_arcsec, wcs_cards
from flows.pipeline.array_facts import WIDEST, ArrayFacts, checked_facts
from flows.pipeline.search_pixels import search_pixels
from kernels.psf.flux_error import UNKNOWN_FLATNESS
from kernels.psf.seeing import fit_moffat
from kernels.sky.times import night_label
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, ExposureKey, PsfModel
from schemas.pixels import WHOLE_PIXELS, MaskPlane
from schemas.settings import Settings
from schemas.summary import BRIGHT_UNRELIABLE

_NO_TIME = 0.0
_SIDE = 0.25  # of an image: maximum FWHM of a PSF


class ArraySearch(NamedTuple):
    """Searched exposure, with its measured or assumed metadata, and its rows of `dia_source`.

    ``midpointMjdTai`` is null if no time was given; ``unreliable`` counts the bright candidates that were left out only
    for their reliability.
    """

    info: ExposureInfo
    rows: pa.Table
    unreliable: int = 0


def search_array(array: ArrayLike, facts: ArrayFacts, settings: Settings) -> ArraySearch:
    """Return the detections on a difference image in memory, from detect, merge and measure.

    Parameters
    ----------
    array : (ny, nx) of floating-point numbers
        Difference image; NaN where there is no value. Position (0, 0) is the centre of the first pixel.
    facts
        Metadata of the array.
    settings
        Settings of all stages.

    Raises
    ------
    BadInput
        The array is not two-dimensional, holds integers, is too small or too large, or has no usable pixel; another
        argument has a different shape or an impossible value.
    Misconfigured
        A model is missing.
    """
    difference = _image(array, "array")
    if difference.size > WHOLE_PIXELS:
        raise _bad("too_large", "array", f"has {difference.shape} px, more than {WHOLE_PIXELS:,} pixels", "cut it up")
    planes: dict[str, Any] = {"difference": difference, "mask": _mask(facts.mask, difference.shape)}
    if facts.science is not None:
        planes["science"] = _same_shape(_image(facts.science, "science"), difference.shape, "science")
    raw = _raw(planes, facts)
    _require_narrow(raw.psf, difference.shape)
    info, pixels = described(raw)
    rows, causes = search_pixels(pixels, info, settings)[DIA_SOURCE.name]
    if facts.mjd_tai is None:
        name = "midpointMjdTai"
        place, field = rows.schema.get_field_index(name), rows.schema.field(name).with_nullable(True)
        rows = rows.set_column(place, field, pa.nulls(len(rows), field.type))
    return ArraySearch(info, rows, causes.counts[BRIGHT_UNRELIABLE].refused)


def _raw(planes: Mapping[str, NDArray[Any]], given: ArrayFacts) -> RawExposure:
    facts, shape = checked_facts(given), planes["difference"].shape
    cards = _cards(facts.wcs, (shape[0], shape[1]))
    missing = {
        "no_wcs": cards is None,
        "no_zero_point": facts.zero_point is None and facts.pixel_unit != "nJy",
        "no_time": facts.mjd_tai is None,
    }
    mjd = _NO_TIME if facts.mjd_tai is None else facts.mjd_tai
    return RawExposure(
        key=ExposureKey(night=night_label(mjd, 0.0), visit=0, detector=0),
        instrument="array",
        band=facts.band,
        midpoint_mjd_tai=mjd,
        exposure_time_s=facts.exposure_time_s,
        zero_point=facts.zero_point,
        zero_point_err=facts.zero_point_err,
        gain=_gain(facts),
        saturation=facts.saturation,
        wcs_header=cards,
        psf=_psf(_in_pixels(facts.psf, cards)),
        pixel_unit=facts.pixel_unit,
        planes=planes,
        flags=tuple(name for name, absent in sorted(missing.items()) if absent),
        source_uri=IN_MEMORY,
        source_sha256=sha256(np.ascontiguousarray(planes["difference"]).tobytes()).hexdigest(),
    )


def _gain(facts: ArrayFacts) -> float | None:
    """Return the electrons per pixel unit; None if not known."""
    what, per, _ = facts.pixel_unit.partition("/")
    if what == "electron" and facts.gain not in (None, 1.0):
        raise _bad("bad_gain", "gain", f"is {facts.gain!r}, and the pixels are electrons already", "leave it out")
    gain = 1.0 if what == "electron" else facts.gain
    if gain is None or not per:
        return gain
    if facts.exposure_time_s > 0:
        return gain * facts.exposure_time_s
    if facts.gain is None:
        return None
    raise _bad("bad_gain", "gain", "of pixels that are rates needs the exposure time", "give exposure_time, s")


def _image(given: ArrayLike, name: str) -> NDArray[np.float32]:
    blank = np.ma.getmaskarray(given) if isinstance(given, np.ma.MaskedArray) else None
    try:
        found = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise _bad("not_an_array", name, f"is not an array: {error}", "give a numpy array of two axes") from error
    if found.ndim != 2:
        raise _bad("wrong_dimensions", name, f"has the shape {found.shape}, must be (ny, nx)", "give one image")
    if found.dtype.kind not in "fiub":
        raise _bad("not_floating", name, f"is {found.dtype}, must be of real numbers", "give floating-point numbers")
    if found.dtype.kind != "f":
        raise _bad(
            "not_floating", name, f"is {found.dtype}: integers may have wrapped round, and have no NaN",
            "subtract in floating point, and give array.astype('float32')",
        )  # fmt: skip
    with np.errstate(over="ignore"):
        image = np.array(found, np.float32)
    if blank is not None:
        image[blank] = np.nan
    return image


def _mask(given: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    if given is None:
        return np.zeros(shape, np.uint16)
    found = _same_shape(np.asarray(given), shape, "mask")
    if found.dtype == np.bool_:
        return np.where(found, np.uint16(MaskPlane.BAD), np.uint16(0))
    if found.dtype.kind not in "iu" or (found.size and not 0 <= found.min() <= found.max() < 2**16):
        raise _bad("bad_mask", "mask", f"is {found.dtype}", "give booleans, or the bits of schemas.pixels.MaskPlane")
    return found.astype(np.uint16)


def _same_shape(found: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    if found.shape != shape:
        raise _bad("other_shape", name, f"has the shape {found.shape}, the array {shape}", "give them of one shape")
    return found


def _in_pixels(given: Any, cards: str | None) -> Any:
    """Return a FWHM with a unit in pixels, converted with the WCS if it is an angle; return other values unchanged."""
    if not hasattr(given, "to_value") or np.ndim(given):
        return given
    if given.unit.is_equivalent("pix"):
        return given.to_value("pix")
    if not given.unit.is_equivalent("arcsec"):
        raise _bad("bad_psf", "psf", f"is {given}, and a FWHM is in pixels or an angle", "give its FWHM in pixels")
    if cards is None:
        raise _bad(
            "bad_psf", "psf", f"is {given}, and without a WCS nothing says how wide a pixel is",
            "give its FWHM in pixels, or wcs",
        )  # fmt: skip
    return given.to_value("arcsec") / pixel_scale_arcsec(cards)


def _psf(given: Any) -> PsfModel | None:
    if isinstance(given, PsfModel):  # unlike that of a header, its width is already that before the pixels
        return given.model_copy(update={"source": "stamp"}) if given.source == "header" else given
    if given is None:
        return None
    try:
        stamp = np.asarray(given)
        if stamp.dtype == np.bool_:
            raise ValueError("it is true or false")
        if stamp.ndim == 0:
            width = float(stamp)
            if not 0 < width <= WIDEST:
                raise ValueError(f"a FWHM of {width:g} px")
            return PsfModel(fwhm_px=width, source="header", flatness_err=UNKNOWN_FLATNESS)
        if not min(np.nansum(stamp), np.nanmax(stamp, initial=0)) > 0:
            raise ValueError("the stamp has no positive peak, or its sum is not positive")
        fwhm, beta = fit_moffat(np.asarray(stamp, np.float64))
    except (ValueError, TypeError) as error:
        raise _bad(
            "bad_psf", "psf", f"is not valid: {error}", "give its FWHM in pixels, a stamp of it, or nothing"
        ) from error
    return PsfModel(fwhm_px=fwhm, beta=beta, source="stamp")


def _require_narrow(psf: PsfModel | None, shape: tuple[int, int]) -> None:
    """Refuse a PSF so wide that the image holds too little sky to measure background and noise."""
    if psf is not None and psf.fwhm_px > _SIDE * min(shape):
        raise _bad(
            "bad_psf", "psf",
            f"has a FWHM of {psf.fwhm_px:g} px, must be {_SIDE:g} of the shorter side at most, of {min(shape)} px",
            "give its FWHM in pixels, or a larger image",
        )  # fmt: skip


def _cards(given: Any, shape: tuple[int, int]) -> str | None:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    if given is None:
        return None
    if isinstance(given, WCS):
        header = given.celestial.to_header(relax=True)
    elif isinstance(given, Header):
        header = given
    elif isinstance(given, str):
        with damage(f"{IN_MEMORY}: wcs"):
            header = Header.fromstring(given, sep="\n")
    else:
        raise _bad("bad_wcs", "wcs", f"is a {type(given).__name__}", "give an astropy WCS or a FITS header")
    found = wcs_cards((header,), f"{IN_MEMORY}: wcs", shape)
    if found is None:
        raise _bad("missing_wcs", "wcs", "has no CTYPE1", "solve the image's astrometry first, or leave it out")
    return found


def _bad(code: str, name: str, problem: str, remedy: str) -> BadInput:
    return BadInput(code, f"{IN_MEMORY}: {name}", f"{problem}.", f"{remedy}.")
