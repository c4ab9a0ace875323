"""Search of an image in memory."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from flows.results.catalogue_rows import MemoryRows
from nightstride.arguments import path_of
from nightstride.table import Table
from schemas.errors import BadInput
from schemas.exposure import PsfModel

if TYPE_CHECKING:
    from astropy.time import Time


def search(
    array: ArrayLike,
    *,
    wcs: Any = None,
    psf: float | ArrayLike | PsfModel | None = None,
    mask: ArrayLike | None = None,
    science: ArrayLike | None = None,
    zero_point: float | None = None,
    zero_point_err: float | None = None,
    gain: float | None = None,
    saturation: float | None = None,
    time: "Time | float | None" = None,
    exposure_time: float = 0.0,
    band: str = "unknown",
    unit: str | None = None,
    settings: str | Path | None = None,
) -> Table:
    """Search a difference image in memory with the stages of a nightly run: detect, merge, measure.

    Parameters
    ----------
    array : (ny, nx) floating point
        Difference image; NaN where there is no value. Position (0, 0) is the centre of the first pixel. An astropy
        `CCDData` brings its mask, WCS and unit.
    wcs
        astropy WCS or FITS header. None: the sky columns are null.
    psf
        FWHM as seen on the image, px, or an astropy quantity (arcsec needs a ``wcs``); a stamp of the PSF; or a
        `PsfModel` (before the pixels blur it). A FWHM does not determine the wings: unless stars of ``science`` do,
        flux errors are larger, so give a stamp if you need fluxes. None: measured on stars of ``science``, or else on
        bright sources in ``array``. If neither is possible, 2.5 px is assumed, with a warning, and every row has the
        flag ASSUMED_PSF. Give the PSF if you can: a width that is 15 % too large may lose every detection.
    mask : (ny, nx)
        Pixels not to be trusted: True, or the bits of `MaskPlane`.
    science : (ny, nx)
        Science image before subtraction of the template, in the unit of ``array``; shows stars and saturated pixels.
    zero_point, zero_point_err
        AB magnitude of one pixel unit, and its error. None: fluxes and magnitudes are null, unless ``unit`` is nJy,
        whose zero point is 31.4; any other is refused.
    gain
        Electrons per pixel unit (per adu for rates); not needed for pixels in electrons. None: the Poisson noise of
        the source is left out, so flux errors are too small, and ``snr`` and ``reliability`` of bright sources are
        higher than with a gain.
    saturation
        Level of ``science`` from which a pixel is saturated, pixel units.
    time, exposure_time
        Middle of the exposure (astropy Time, or MJD TAI), and its length, s, which converts rates to electrons.
        Without a time ``midpointMjdTai`` is null.
    band
        Filter.
    unit
        adu, adu/s, electron, electron/s or nJy. None: the unit of ``array`` if it has one, else adu.
    settings
        Settings file (TOML). None: ``nightstride.toml`` in the working folder, if it exists, and the environment, as
        for every command.

    Returns
    -------
    Table
        Rows of ``dia_source``, with ids that count from 0. Convert it with ``Table.to_arrow()`` or another method.

    Raises
    ------
    BadInput
        The array is not two-dimensional, holds integers (which may have overflowed), has a side of less than 26 px or
        more than 37,748,736 px in all, or has no usable pixel; another argument has a different shape or an impossible
        value; the PSF is wider than a quarter of the shorter side.
    Misconfigured
        The settings are wrong, or a model is missing.
    """
    from flows.pipeline.array_facts import PIXEL_UNITS, ArrayFacts
    from flows.pipeline.search_array import search_array
    from flows.runtime.settings import load_settings

    given: Any = array
    if _is_image(given):
        wcs = given.wcs if wcs is None else wcs
        mask = _mask_of(given) if mask is None else mask
    pixels, found_unit = _plain(given)
    pixel_unit = _one_unit(unit, found_unit, PIXEL_UNITS)
    facts = ArrayFacts(
        wcs=wcs,
        psf=psf,
        mask=mask,
        science=None if science is None else _science(science, pixel_unit),
        zero_point=zero_point,
        zero_point_err=zero_point_err,
        gain=gain,
        saturation=saturation,
        mjd_tai=_mjd_tai(time),
        exposure_time_s=exposure_time,
        band=band,
        pixel_unit=pixel_unit,
    )
    found = search_array(pixels, facts, load_settings(None if settings is None else path_of(settings, "settings")))
    if found.info.psf.source == "assumed":
        lost = f"; {found.unreliable} bright candidates were left out as unreliable" if found.unreliable else ""
        warnings.warn(
            f"nothing tells the PSF: {found.info.psf.fwhm_px:.1f} px are assumed, and trails may be missed{lost}. "
            "Give psf, its FWHM in pixels.",
            stacklevel=2,
        )
    return Table(MemoryRows("dia_source", found.rows))


def _one_unit(given: str | None, found: str | None, known: Sequence[str]) -> str:
    if given in (None, found):
        return found or "adu"
    if given in known and found is None:
        return given
    problem = (
        f"is {given}, must be one of {', '.join(known)}."
        if found is None
        else f"is {given}, that of the array {found}."
    )
    raise BadInput("bad_unit", "array in memory: unit", problem, "convert the array, or leave the unit out.")


def _science(science: Any, unit: str) -> Any:
    """Return the values of the science image, whose unit, if any, must be that of the difference image."""
    numbers, found = _plain(science)
    if found not in (None, unit):
        problem = f"is in {found}, the difference image in {unit}."
        raise BadInput("bad_unit", "array in memory: science", problem, "convert one of them.")
    return numbers


def _is_image(array: Any) -> bool:
    """Return whether an array is an astropy `CCDData` or a similar image with its own mask and WCS."""
    return all(hasattr(array, name) for name in ("data", "uncertainty", "wcs", "mask"))


def _mask_of(image: Any) -> Any:
    """Return the mask of an image: the mask bits of a `PlaneImage`, which hold more, else ``mask``."""
    from nightstride.pictures import PlaneImage

    return image.flags if isinstance(image, PlaneImage) else image.mask


def _mjd_tai(time: Any) -> Any:
    return time.tai.mjd if hasattr(time, "tai") else time


def _plain(array: Any) -> tuple[Any, str | None]:
    """Return the values of an array and its unit; None if it has none."""
    unit, numbers = getattr(array, "unit", None), array.data if _is_image(array) else array
    if unit is None:
        return numbers, None
    from astropy import units

    from flows.pipeline.array_facts import PIXEL_UNITS

    quantity = units.Quantity(numbers, unit, copy=False, subok=False)
    for name in PIXEL_UNITS:
        if units.Unit(unit).is_equivalent(name):
            return quantity.to_value(name), name
    raise BadInput(
        "bad_unit", "array in memory", f"has the unit {unit}, must be one of {', '.join(PIXEL_UNITS)}.",
        "convert it, or give its plain numbers and unit='adu' with their zero_point.",
    )  # fmt: skip
