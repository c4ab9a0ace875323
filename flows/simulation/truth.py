"""Truth tables of simulated exposures and of the objects of a night."""

from typing import Any

import numpy as np
import pyarrow as pa

from flows.simulation.conditions import Conditions, conditions_of
from flows.simulation.galaxies import galaxies_on
from flows.simulation.presets import Preset
from flows.simulation.star_colours import RUBIN_BANDS, star_colours
from flows.simulation.stars import stars_on
from schemas.truth import TRUTH_OBJECT


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
    here |= {"sersic": 0.0} | {f"{band}_mag": magnitude + colours[band] for band in RUBIN_BANDS}
    there: dict[str, Any] = {
        "kind": "galaxy",
        "ra": galaxies.ra,
        "dec": galaxies.dec,
        "halfLightRadius": galaxies.half_light,
    }
    there |= {"axisRatio": galaxies.axis_ratio, "positionAngle": galaxies.angle, "sersic": galaxies.sersic}
    there |= {f"{band}_mag": galaxies.magnitudes[band] for band in RUBIN_BANDS}
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
