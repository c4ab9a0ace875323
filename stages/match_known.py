"""Stage: detections of known objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.orbits.designations import is_comet
from kernels.orbits.matching import Match, match_ephemerides, near_radius
from schemas.dia_source import DIA_SOURCE, DetectionFlag
from schemas.known_object import SS_EPHEMERIS, SS_SOURCE
from schemas.settings import MatchKnownSettings
from schemas.stage import Context, Stage

_SIGMAS = 3.0
_TRAIL = 3.0  # arcsec: shorter trails have no direction
_BLUR = 2.5  # largest error of a trail's length, arcsec, or
_ALIKE = 0.35  # as a share of the length
_TURNED = 15.0  # largest error of a trail's direction, deg
_MAGNITUDES = 2.5  # mag: colours, light curves and errors of H

Floats = NDArray[np.float64]


def match_known(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the detections explained by known objects.

    Parameters
    ----------
    inputs
        ``dia_source`` and ``ss_ephemeris`` of one exposure.
    context
        The exposure, and the section `MatchKnownSettings`.

    Returns
    -------
    table
        `SS_SOURCE`, by diaSourceId. Pairs that agree are matched one to one, closest first; the separation is measured
        in units of the largest allowed one.

    Notes
    -----
    The largest separation across the predicted motion is the sum of the radius in the settings, three times the error
    of the detection and, for near objects, the effect of rounded elements (`kernels.orbits.matching.near_radius`).
    Along the motion the uncertainty of the orbit is added, up to the limit in the settings. If the exposure time is
    known (not 0), a trail must agree with the predicted motion in direction and length. The magnitude must agree
    within 2.5 mag; a comet may be fainter by any amount, since the predicted magnitude is that of the whole coma. A
    detection at the border of the image (``EDGE``) may be part of a trail: shorter, fainter by any amount, and up to
    half the trail from the predicted position along the motion.
    """
    detections, known = inputs[DIA_SOURCE.name], inputs[SS_EPHEMERIS.name]
    detections = detections.filter(pa.array(np.isfinite(_numbers(detections, "ra"))))
    settings: MatchKnownSettings = context.settings
    exposure_time = (context.exposure.exposure_time_s if context.exposure is not None else 0.0) or np.nan
    error = 3600 * np.fmax(_numbers(detections, "raErr"), _numbers(detections, "decErr"))
    ra, dec, angle, further = (_numbers(known, name) for name in ("ephRa", "ephDec", "ephRateAngle", "ephUncertainty"))
    trail = _numbers(known, "ephRate") * exposure_time / 24
    most, edge = settings.max_arcsec, (detections["flags"].to_numpy() & DetectionFlag.EDGE) > 0
    found = match_ephemerides(
        (_numbers(detections, "ra"), _numbers(detections, "dec"), error),
        (ra, dec, angle, np.minimum(further, most)),
        near_radius(settings.radius_arcsec, _numbers(known, "topoRange"), most),
        lambda n, k: _alike(detections, n, known, k, float(trail[k]), bool(edge[n])),
        cut=(edge, trail),
    )
    return _table(detections, known, found)


def _alike(detections: pa.Table, n: int, known: pa.Table, k: int, trail: float, cut: bool) -> bool:
    """Return whether trail and magnitude fit the object, or if ``cut`` a part of its ``trail``."""
    magnitude, predicted = detections["magAB"][n].as_py(), known["ephVmag"][k].as_py()
    if magnitude is not None and predicted is not None:
        fainter = magnitude - predicted
        partial = cut or is_comet(known["designation"][k].as_py())
        if fainter < -_MAGNITUDES or (fainter > _MAGNITUDES and not partial):
            return False
    length = detections["trailLength"][n].as_py()
    if length is None or not np.isfinite(trail):
        return True
    turned = abs((detections["trailAngle"][n].as_py() - known["ephRateAngle"][k].as_py() + 90) % 180 - 90)
    if min(length, trail) >= _TRAIL and turned > _TURNED:
        return False
    error = detections["trailLengthErr"][n].as_py() or 0.0
    if cut and length < trail:
        return True
    return bool(abs(length - trail) <= max(_BLUR, _ALIKE * (length + trail) / 2, _SIGMAS * error))


def _table(detections: pa.Table, known: pa.Table, found: Sequence[Match]) -> pa.Table:
    which = pa.array([one.known for one in found], pa.int64())
    along, across = np.array([one.along for one in found]), np.array([one.across for one in found])
    own = {
        "diaSourceId": detections["diaSourceId"].take(pa.array([one.detection for one in found], pa.int64())),
        "ephOffset": pa.array(np.hypot(along, across), pa.float32()),
        "ephOffsetAlongTrack": pa.array(along, pa.float32()),
        "ephOffsetCrossTrack": pa.array(across, pa.float32()),
    }
    columns = {
        field.name: own[field.name] if field.name in own else known[field.name].take(which)
        for field in SS_SOURCE.schema
    }
    return pa.table(columns, schema=SS_SOURCE.schema).sort_by("diaSourceId")


def _numbers(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(), np.float64)


STAGE = Stage(
    name="match_known",
    version="5",
    per="exposure",
    needs=(DIA_SOURCE, SS_EPHEMERIS),
    gives=SS_SOURCE,
    run=match_known,
    settings=MatchKnownSettings,
)
