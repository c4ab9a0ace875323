"""Rows of the truth table."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.simulation.canvas import Canvas, Footprint, Row
from flows.simulation.conditions import Conditions
from flows.simulation.psf import Stamp
from schemas.mask import UNUSABLE
from schemas.truth import TRUTH


def source_row(
    kind: str,
    name: str,
    conditions: Conditions,
    centre: tuple[float, float],
    flux: float,
    snr: float,
    trail: tuple[float, float] = (0.0, 0.0),
) -> Row:
    """Give the row of one source, all but ``visible``.

    Parameters
    ----------
    kind, name
        streak, point or satellite; name that it keeps over visits, or "".
    conditions
        The exposure.
    centre
        (x, y), 0-based px.
    flux, snr
        Pixel units; matched-filter S/N.
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


def stamp_footprint(stamp: Stamp, shape: tuple[int, int]) -> Footprint:
    """Give the footprint of a template on an image of (ny, nx) px."""
    height, width = stamp.pixels.shape
    rows, columns = np.mgrid[stamp.y0 : stamp.y0 + height, stamp.x0 : stamp.x0 + width]
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return Footprint(rows[inside], columns[inside], stamp.pixels[inside], float(stamp.pixels.sum()))


def visible_share(mask: NDArray[np.uint16], footprint: Footprint) -> float:
    """Give the share of a source's light on pixels that exist and may be used."""
    usable = (mask[footprint.rows, footprint.columns] & np.uint16(UNUSABLE)) == 0
    seen = float(footprint.light[usable].sum(dtype=np.float64))
    return min(max(seen / footprint.total, 0.0), 1.0)


def truth_table(canvas: Canvas) -> pa.Table:
    """Give the truth about a finished canvas as a table of schema `TRUTH`."""
    rows = [row | {"visible": visible_share(canvas.mask, footprint)} for row, footprint in canvas.truth]
    return pa.Table.from_pylist(rows, schema=TRUTH.schema)
