"""Exposure while it is drawn and when it is finished, with its truth."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.simulation.conditions import Conditions
from flows.simulation.psf import PsfStamp
from schemas.pixels import UNUSABLE, MaskPlane
from schemas.truth import TRUTH

Row = dict[str, Any]
"""Row of the truth table."""


class DrawnFootprint(NamedTuple):
    """Pixels of a source on the image, its light in each, and its total light, including light outside the image."""

    rows: NDArray[np.int_]
    columns: NDArray[np.int_]
    light: NDArray[np.floating]
    total: float


@dataclass
class Canvas:
    """Layers of one exposure while it is drawn; the only mutable state of the simulation.

    Attributes
    ----------
    signal : (ny, nx) float32
        Noiseless light, pixel units.
    excess : (ny, nx) float32
        Variance in addition to that of the sky, pixel units squared.
    sharp : (ny, nx) float32
        Light not blurred by the telescope: cosmic rays, hot pixels.
    mask : (ny, nx) uint16
        Bits of `MaskPlane`.
    truth
        Rows of the truth table with footprints, from which the visible fraction follows once all masks are drawn.
    """

    signal: NDArray[np.float32]
    excess: NDArray[np.float32]
    sharp: NDArray[np.float32]
    mask: NDArray[np.uint16]
    truth: list[tuple[Row, DrawnFootprint]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """Return (ny, nx), px."""
        ny, nx = self.signal.shape
        return ny, nx

    def block(self, y0: float, y1: float, x0: float, x1: float, plane: MaskPlane) -> None:
        """Mask the rectangle of rows y0..y1 and columns x0..x1, inclusive; parts outside the image are ignored."""
        ny, nx = self.shape
        top, bottom = max(round(y0), 0), min(round(y1) + 1, ny)
        left, right = max(round(x0), 0), min(round(x1) + 1, nx)
        if top < bottom and left < right:
            self.mask[top:bottom, left:right] |= np.uint16(plane)


@dataclass(frozen=True)
class Stars:
    """Stars on one exposure: 0-based positions (px), AB magnitudes, and fluxes in pixel units."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    flux: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> "Stars":
        """Return the chosen stars."""
        return Stars(self.x[chosen], self.y[chosen], self.magnitude[chosen], self.flux[chosen])


@dataclass(frozen=True)
class SimulatedExposure:
    """Difference image with everything known about it.

    Attributes
    ----------
    difference : (ny, nx) float32
        Pixel units; NaN where ``mask`` marks a pixel as unusable (Rubin-like: as without data).
    mask : (ny, nx) uint16
        Bits of `MaskPlane`.
    variance : (ny, nx) float32
        Variance of each pixel, pixel units squared.
    truth
        Table with the schema `TRUTH`.
    conditions
        Times, WCS, PSF, zero point, noise and its correlation.
    stars
        Stars on the science and template images.
    galaxies : (ny, nx) float32
        Light of the galaxies on them, pixel units; None without galaxies, or if the image was subtracted.
    planes
        Science image and template that were subtracted; None if the difference was drawn.
    psf : (side, side) float32
        PSF at the centre of a subtracted difference as known to a pipeline, with unit sum; None if it was drawn.
    """

    difference: NDArray[np.float32]
    mask: NDArray[np.uint16]
    variance: NDArray[np.float32]
    truth: pa.Table
    conditions: Conditions
    stars: Stars
    galaxies: NDArray[np.float32] | None = None
    planes: dict[str, NDArray[np.float32]] | None = None
    psf: NDArray[np.float32] | None = None


def blank_canvas(shape: tuple[int, int]) -> Canvas:
    """Return an empty canvas of (ny, nx) px."""
    signal, excess, sharp = (np.zeros(shape, np.float32) for _ in range(3))
    return Canvas(signal, excess, sharp, np.zeros(shape, np.uint16))


def add_stamp(image: NDArray[np.floating], pixels: NDArray[np.floating], y0: int, x0: int) -> None:
    """Add ``pixels`` to ``image`` in place, with their first pixel at (y0, x0); parts outside are ignored."""
    ny, nx = image.shape
    top, left = max(y0, 0), max(x0, 0)
    bottom, right = min(y0 + pixels.shape[0], ny), min(x0 + pixels.shape[1], nx)
    if top < bottom and left < right:
        image[top:bottom, left:right] += pixels[top - y0 : bottom - y0, left - x0 : right - x0]


def source_row(
    kind: str,
    name: str,
    conditions: Conditions,
    centre: tuple[float, float],
    flux: float,
    snr: float,
    trail: tuple[float, float] = (0.0, 0.0),
) -> Row:
    """Return the row of one source, without ``visible``.

    Parameters
    ----------
    kind, name
        streak, point or satellite; name of the source on all visits, or "".
    conditions
        Conditions of the exposure.
    centre
        (x, y), 0-based px.
    flux, snr
        Flux, pixel units; matched-filter S/N.
    trail
        Length (px) and angle (deg).
    """
    x, y = (float(part) for part in centre)
    length, angle = trail
    ra, dec = conditions.to_sky(x, y)
    fwhm = float(conditions.psf.fwhm_at(np.asarray(x), np.asarray(y)))
    reach_x = length / 2 * abs(np.cos(np.deg2rad(angle))) + 2 * fwhm
    reach_y = length / 2 * abs(np.sin(np.deg2rad(angle))) + 2 * fwhm
    ny, nx = conditions.preset.shape
    return {
        "kind": kind,
        "objectName": name,
        "visit": conditions.visit,
        "detector": conditions.detector,
        "x": x,
        "y": y,
        "ra": float(ra[0]),
        "dec": float(dec[0]),
        "magnitude": conditions.magnitude_of(flux) if flux > 0 else None,
        "flux": flux,
        "snr": snr,
        "length_px": length,
        "angle_deg": angle % 180,
        "fwhm_px": fwhm,
        "beta": conditions.psf.beta,
        "box_xmin": int(np.clip(np.floor(x - reach_x), 0, nx - 1)),
        "box_xmax": int(np.clip(np.ceil(x + reach_x), 0, nx - 1)),
        "box_ymin": int(np.clip(np.floor(y - reach_y), 0, ny - 1)),
        "box_ymax": int(np.clip(np.ceil(y + reach_y), 0, ny - 1)),
    }


def stamp_footprint(stamp: PsfStamp, shape: tuple[int, int]) -> DrawnFootprint:
    """Return the footprint of a template on an image of (ny, nx) px."""
    height, width = stamp.pixels.shape
    rows, columns = np.mgrid[stamp.y0 : stamp.y0 + height, stamp.x0 : stamp.x0 + width]
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return DrawnFootprint(rows[inside], columns[inside], stamp.pixels[inside], float(stamp.pixels.sum()))


def visible_share(mask: NDArray[np.uint16], footprint: DrawnFootprint) -> float:
    """Return the fraction of a source's light on existing and usable pixels."""
    usable = (mask[footprint.rows, footprint.columns] & np.uint16(UNUSABLE)) == 0
    seen = float(footprint.light[usable].sum(dtype=np.float64))
    return min(max(seen / footprint.total, 0.0), 1.0)


def truth_table(canvas: Canvas) -> pa.Table:
    """Return the truth about a finished canvas as a table with the schema `TRUTH`."""
    rows = [row | {"visible": visible_share(canvas.mask, footprint)} for row, footprint in canvas.truth]
    return pa.Table.from_pylist(rows, schema=TRUTH.schema)
