"""Truth tables of simulated exposures and of the objects of a night."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.simulation.canvas import Canvas, DrawnFootprint, PsfStamp, Row
from flows.simulation.conditions import Conditions, conditions_of
from flows.simulation.galaxies import BANDS, galaxies_on, star_colours
from flows.simulation.presets import Preset
from flows.simulation.stars import stars_on
from schemas.pixels import UNUSABLE
from schemas.truth import TRUTH, TRUTH_OBJECT


def source_row(
    kind: str,
    name: str,
    conditions: Conditions,
    centre: tuple[float, float],
    flux: float,
    snr: float,
    trail: tuple[float, float] = (0.0, 0.0),
) -> Row:
    """Return the row of one source, all but ``visible``.

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


def stamp_footprint(stamp: PsfStamp, shape: tuple[int, int]) -> DrawnFootprint:
    """Return the footprint of a template on an image of (ny, nx) px."""
    height, width = stamp.pixels.shape
    rows, columns = np.mgrid[stamp.y0 : stamp.y0 + height, stamp.x0 : stamp.x0 + width]
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return DrawnFootprint(rows[inside], columns[inside], stamp.pixels[inside], float(stamp.pixels.sum()))


def visible_share(mask: NDArray[np.uint16], footprint: DrawnFootprint) -> float:
    """Return the share of a source's light on pixels that exist and may be used."""
    usable = (mask[footprint.rows, footprint.columns] & np.uint16(UNUSABLE)) == 0
    seen = float(footprint.light[usable].sum(dtype=np.float64))
    return min(max(seen / footprint.total, 0.0), 1.0)


def truth_table(canvas: Canvas) -> pa.Table:
    """Return the truth about a finished canvas as a table of schema `TRUTH`."""
    rows = [row | {"visible": visible_share(canvas.mask, footprint)} for row, footprint in canvas.truth]
    return pa.Table.from_pylist(rows, schema=TRUTH.schema)


def night_objects(preset: Preset, seed: int, visits: int, detectors: int) -> pa.Table:
    """Return a table of schema `TRUTH_OBJECT`: stars and galaxies of each field and detector that lie on its image.

    Parameters
    ----------
    preset, seed, visits, detectors
        As of `flows.simulation.night.SimulatedNight`; the preset has ``field_bands``.
    """
    starts = range(0, visits, preset.visits_per_field)
    tables = [_field(conditions_of(preset, seed, start, one)) for start in starts for one in range(detectors)]
    return pa.concat_tables(tables)


def _field(first: Conditions) -> pa.Table:
    stars, galaxies = stars_on(first, first), galaxies_on(first, first)
    colours = star_colours(len(stars.x), first.field_stream("colours"))
    ra, dec = first.to_sky(stars.x, stars.y)
    here: dict[str, Any] = {
        "kind": "star",
        "ra": ra,
        "dec": dec,
        "halfLightRadius": 0.0,
        "axisRatio": 1.0,
        "positionAngle": 0.0,
    }
    magnitude = stars.magnitude - colours[first.band]
    here |= {"sersic": 0.0} | {f"{band}_mag": magnitude + colours[band] for band in BANDS}
    there: dict[str, Any] = {
        "kind": "galaxy",
        "ra": galaxies.ra,
        "dec": galaxies.dec,
        "halfLightRadius": galaxies.half_light,
    }
    there |= {"axisRatio": galaxies.axis_ratio, "positionAngle": galaxies.angle, "sersic": galaxies.sersic}
    there |= {f"{band}_mag": galaxies.magnitudes[band] for band in BANDS}
    ny, nx = first.preset.shape
    inside = [(one.x >= 0) & (one.x <= nx - 1) & (one.y >= 0) & (one.y <= ny - 1) for one in (stars, galaxies)]
    columns = {
        field.name: np.concatenate(
            [
                np.broadcast_to(part.get(field.name, first.detector), on.shape)[on]
                for part, on in zip((here, there), inside, strict=True)
            ]
        )
        for field in TRUTH_OBJECT.schema
    }
    return pa.table({name: values.astype(str) if name == "kind" else values for name, values in columns.items()}).cast(
        TRUTH_OBJECT.schema
    )
