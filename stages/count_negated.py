"""Stage: count of false detections on negated copies of tiles, where no moving object is bright."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.trails.geometry import detected_segments, near_any
from schemas.dataset import DatasetError
from schemas.dia_source import DIA_SOURCE, SEGMENT_COLUMNS
from schemas.exposure import ExposureInfo
from schemas.negative import NEGATED, NEGATIVE
from schemas.objects import SOURCE
from schemas.stage import Context, Stage

_AT_SOURCE = 1.0  # FWHM
_NEAR_DETECTION = 6.0  # FWHM: subtraction by deconvolution leaves dark rings around bright light

Floats = NDArray[np.float64]


def count_negated(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the number of false detections on each negated tile, and the number that may be of real sources.

    Parameters
    ----------
    inputs
        ``negated``; ``dia_source``, detections on the original image; ``source``, if there is a science image.
    context
        The exposure.

    Returns
    -------
    table
        `NEGATIVE`, a row per tile.

    Raises
    ------
    DatasetError
        The exposure is missing.
    """
    if context.exposure is None:
        raise DatasetError("stage 'count_negated' needs an exposure. To fix, give it in the context.")
    tiles = groupby(inputs[NEGATED.name].to_pylist(), key=itemgetter("tile", "nPixels"))
    rows = [_row(tile, pixels, list(found), inputs, context.exposure) for (tile, pixels), found in tiles]
    return pa.Table.from_pylist(rows, NEGATIVE.schema)


def _row(
    tile: int, pixels: int, found: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any], exposure: ExposureInfo
) -> dict[str, Any]:
    there = [one for one in found if one["x"] is not None]
    x, y = (np.array([one[name] for one in there], float) for name in ("x", "y"))
    satellite, faded = (np.array([one[name] for one in there], np.bool_) for name in ("satellite", "mayHaveFaded"))
    fwhm = exposure.psf.fwhm_px
    detections = detected_segments(*(inputs[DIA_SOURCE.name][name].to_pylist() for name in SEGMENT_COLUMNS))
    near = near_any(x, y, detections, _NEAR_DETECTION * fwhm)
    at_source = faded | _at_source(x, y, inputs.get(SOURCE.name), _AT_SOURCE * fwhm)
    kinds = (satellite, near, at_source, np.ones(len(x), np.bool_))
    names = ("nSatellites", "nNearDetection", "nAtSource", "nFalse")
    counts = np.bincount(np.argmax(kinds, axis=0), minlength=len(names)).tolist()
    return {
        "visit": exposure.visit,
        "detector": exposure.detector,
        "tile": tile,
        "nPixels": pixels,
        "nDetections": len(x),
        **dict(zip(names, counts, strict=True)),
        "band": exposure.band,
        "midpointMjdTai": exposure.midpoint_mjd_tai,
    }


def _at_source(x: Floats, y: Floats, sources: pa.Table | None, reach: float) -> NDArray[np.bool_]:
    if sources is None or not sources.num_rows:
        return np.zeros(len(x), np.bool_)
    from scipy.spatial import KDTree

    tree = KDTree(np.column_stack([sources[name].to_numpy() for name in ("x", "y")]))
    return np.asarray(tree.query(np.column_stack([x, y]))[0] < reach)


STAGE = Stage(
    name="count_negated",
    version="1",
    per="exposure",
    needs=(NEGATED, DIA_SOURCE),
    optional=(SOURCE,),
    gives=NEGATIVE,
    run=count_negated,
    columns={DIA_SOURCE.name: SEGMENT_COLUMNS, SOURCE.name: ("x", "y")},
)
