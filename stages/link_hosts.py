"""Stage: objects under detections, and possible hosts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.objects.source_photometry import seen_once
from kernels.sky.positions import directional_distance, unit_vectors
from kernels.sky.projection import tangent_offsets
from schemas.dia_source import DIA_SOURCE
from schemas.objects import DIA_LINK, OBJECT
from schemas.settings import LinkHostsSettings
from schemas.stage import Context, Stage


def link_hosts(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the links from detections to objects.

    Parameters
    ----------
    inputs
        ``dia_source`` of all exposures of the patch, and ``object`` of the patch and its margin.
    context
        The section `LinkHostsSettings`.

    Returns
    -------
    pyarrow.Table
        Rows of `DIA_LINK`, one for each detection in the patch, in their order. Any object may be a host, even a star;
        ``hostDlr`` tells how likely it is. An object seen on only one of several exposures, and at the position of
        the detection's own light, is the detection itself and not a host.
    """
    settings: LinkHostsSettings = context.settings
    detections, objects = inputs[DIA_SOURCE.name], inputs[OBJECT.name]
    ra, dec = _numbers(detections, "ra"), _numbers(detections, "dec")
    own = np.isfinite(ra) if context.patch is None else context.patch.holds(ra, dec)
    detections = detections.filter(pa.array(own))
    count = len(detections)
    on, host = np.full(count, -1), np.full(count, -1)
    near, far, dlr = (np.full(count, np.nan) for _ in range(3))
    for n, which, separation, distance in _neighbours(detections, objects, settings):
        closest = int(np.argmin(separation))
        if separation[closest] <= settings.on_arcsec:
            on[n], near[n] = which[closest], separation[closest]
        best = int(np.argmin(np.where(np.isfinite(distance), distance, np.inf)))
        if distance[best] <= settings.max_dlr:
            host[n], far[n], dlr[n] = which[best], separation[best], distance[best]
    ids = objects["objectId"].to_numpy()
    return pa.table(
        {
            "diaSourceId": detections["diaSourceId"],
            "objectId": _ids(ids, on),
            "separation": pa.array(near, pa.float32(), from_pandas=True),
            "hostObjectId": _ids(ids, host),
            "hostSeparation": pa.array(far, pa.float32(), from_pandas=True),
            "hostDlr": pa.array(dlr, pa.float32(), from_pandas=True),
        },
        schema=DIA_LINK.schema,
    )


def _neighbours(detections: pa.Table, objects: pa.Table, settings: LinkHostsSettings) -> Any:
    """Yield, for each detection with neighbours: its index, the objects in reach, separations, distances in DLR."""
    from scipy.spatial import cKDTree

    if not len(detections) or not len(objects):
        return
    ra, dec, ra0, dec0 = (_numbers(table, name) for table in (objects, detections) for name in ("ra", "dec"))
    size, elongation, angle = (_numbers(objects, name) for name in ("halfLightRadius", "elongation", "positionAngle"))
    once, light = seen_once(objects), np.fmax(_numbers(detections, "trailLength") / 2, settings.on_arcsec)
    chord = 2 * np.sin(np.radians(settings.search_arcsec / 3600) / 2)
    tree = cKDTree(unit_vectors(ra, dec))
    for n, found in enumerate(tree.query_ball_point(unit_vectors(ra0, dec0), chord, return_sorted=True)):
        if found:
            which = np.array(found)
            east, north = tangent_offsets(ra0[n], dec0[n], ra[which], dec[which])
            separation = 3600 * np.hypot(east, north)
            other = ~(once[which] & (separation <= light[n]))
            if not other.any():
                continue
            which, separation, east, north = (values[other] for values in (which, separation, east, north))
            direction = np.degrees(np.arctan2(east, north))
            with np.errstate(invalid="ignore", divide="ignore"):
                distance = directional_distance(separation, direction, size[which], elongation[which], angle[which])
            yield n, which, separation, distance


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    return table[name].to_numpy().astype(np.float64)


def _ids(ids: NDArray[np.int64], which: NDArray[np.int_]) -> pa.Array:
    found = np.append(ids, 0)[which]
    return pa.array(found, pa.int64(), mask=which < 0)


STAGE = Stage(
    name="link_hosts",
    version="4",
    per="patch",
    needs=(DIA_SOURCE, OBJECT),
    gives=DIA_LINK,
    run=link_hosts,
    settings=LinkHostsSettings,
    margin=True,
)
