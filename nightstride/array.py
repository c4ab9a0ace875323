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
    """Search a difference image in memory, by the stages that a night runs: detect, merge, measure.

    Parameters
    ----------
    array : (ny, nx) floating point
        Difference image; NaN where there is no value. Pixel (0, 0) is the centre of the first one. An astropy
        `CCDData` brings its mask, WCS and unit.
    wcs
        astropy WCS or FITS header. None: the columns of the sky are null.
    psf
        FWHM as seen on the image, px, or an astropy quantity, in arcsec if there is a ``wcs``; a stamp of the PSF; or a
        `PsfModel` (before the pixels blur it). A FWHM does not tell the wings, and errors of fluxes grow by that where
        no star of ``science`` does: for fluxes give a stamp. None: measured on stars of ``science``, else on what
        is bright in ``array``; where nothing tells it, 2.5 px is assumed, a warning says so, and every row has the flag
        ASSUMED_PSF. Give it if you can: with a width that is 15 % too large all may be lost.
    mask : (ny, nx)
        True, or the bits of `MaskPlane`, where a pixel is not to be trusted.
    science : (ny, nx)
        Science image that the template was subtracted from, in the unit of ``array``: tells stars and saturated pixels.
    zero_point, zero_point_err
        AB magnitude of one pixel unit, and its error. None: fluxes and magnitudes are null, unless ``unit`` is nJy,
        whose zero point is 31.4: another is refused.
    gain
        Electrons per pixel unit, of rates per adu; what is in electrons needs none. None: the noise of the source
        itself is left out, so errors of fluxes are too small, and ``snr`` and ``reliability`` of what is bright are
        higher than with a gain.
    saturation
        Level of ``science`` from which a pixel is saturated, pixel units.
    time, exposure_time
        Middle of the exposure (astropy Time, or MJD TAI), and its length, s, by which rates are multiplied to count
        electrons. Without a time ``midpointMjdTai`` is null.
    band
        Filter.
    unit
        adu, adu/s, electron, electron/s or nJy. None: that of ``array`` if it has one, else adu.
    settings
        File of settings (TOML). None: ``nightstride.toml`` in the working folder if there is one, and the environment,
        as of every command.

    Returns
    -------
    Table
        Rows of ``dia_source``, with ids that count from 0. ``Table.to_arrow()`` and the others convert it.

    Raises
    ------
    BadInput
        The array is not two-dimensional, holds integers (which may have wrapped round), is smaller than 26 px or larger
        than 37,748,736 px, or has no usable pixel; something given with it has another shape or makes no sense; the PSF
        is wider than a quarter of the shorter side.
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
    """Return the numbers of the science image, which may have no other unit than the difference image."""
    numbers, found = _plain(science)
    if found not in (None, unit):
        problem = f"is in {found}, the difference image in {unit}."
        raise BadInput("bad_unit", "array in memory: science", problem, "convert one of them.")
    return numbers


def _is_image(array: Any) -> bool:
    """Return whether it is an astropy `CCDData`, or another image with a mask and a WCS of its own."""
    return all(hasattr(array, name) for name in ("data", "uncertainty", "wcs", "mask"))


def _mask_of(image: Any) -> Any:
    """Return the mask of an image: of one of ours the bits, which say more."""
    from nightstride.pictures import PlaneImage

    return image.flags if isinstance(image, PlaneImage) else image.mask


def _mjd_tai(time: Any) -> Any:
    return time.tai.mjd if hasattr(time, "tai") else time


def _plain(array: Any) -> tuple[Any, str | None]:
    """Return the numbers of an array that may have a unit, and the unit."""
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
