"""Rows of the truth table."""

import numpy as np
import pyarrow as pa

from flows.simulation.canvas import Canvas, Row
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
        "visible": 1.0,
        "fwhm_px": fwhm,
        "beta": conditions.psf.beta,
        "box_xmin": int(np.clip(np.floor(x - reach_x), 0, nx - 1)),
        "box_xmax": int(np.clip(np.ceil(x + reach_x), 0, nx - 1)),
        "box_ymin": int(np.clip(np.floor(y - reach_y), 0, ny - 1)),
        "box_ymax": int(np.clip(np.ceil(y + reach_y), 0, ny - 1)),
    }


def visible_share(canvas: Canvas, stamp: Stamp) -> float:
    """Give the share of a template's weight on pixels that exist and may be used."""
    ny, nx = canvas.shape
    height, width = stamp.pixels.shape
    top, left = max(stamp.y0, 0), max(stamp.x0, 0)
    bottom, right = min(stamp.y0 + height, ny), min(stamp.x0 + width, nx)
    if top >= bottom or left >= right:
        return 0.0
    seen = stamp.pixels[top - stamp.y0 : bottom - stamp.y0, left - stamp.x0 : right - stamp.x0]
    usable = (canvas.mask[top:bottom, left:right] & np.uint16(UNUSABLE)) == 0
    return float(np.clip(seen[usable].sum() / stamp.pixels.sum(), 0.0, 1.0))


def truth_table(rows: list[Row]) -> pa.Table:
    """Give the rows as a table of schema `TRUTH`."""
    return pa.Table.from_pylist(rows, schema=TRUTH.schema)
