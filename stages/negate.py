"""Stage: search of negated copies of a few tiles, where nothing that moves is bright: what is found is false."""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.image.pixel_state import usable_pixels
from kernels.image.tile_copy import TileCopy, copy_tile, copying_memory, drawn_tiles
from kernels.trails.geometry import DetectedSegment, distance
from schemas.dataset import DatasetError
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureInfo
from schemas.negative import NEGATIVE
from schemas.objects import SOURCE
from schemas.pixels import DIFFERENCE, MASK, SCIENCE, VARIANCE
from schemas.settings import NegateSettings
from schemas.stage import Context, Stage

_PURPOSE = zlib.crc32(b"negation")
_LONGEST = 60.0  # px; a longer trail in the middle of a tile is still seen whole
_AT_SOURCE = 1.0  # FWHM
_CORE, _LEVEL = 1.0, (2.5, 8.0)  # FWHM from the line: light of the template, and its level
_ENOUGH = 0.5  # of what is missing, which must be on the template of what has faded
_SEEN = 3.0  # sigma of that light
_NEAR_DETECTION = 6.0  # FWHM: subtraction by deconvolution leaves dark rings around bright light

Floats = NDArray[np.float64]


def negate(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return what the search publishes on negated tiles of an exposure.

    Parameters
    ----------
    inputs
        ``difference`` and ``mask`` of the whole exposure, and ``science`` if there is one, which are not changed;
        ``dia_source``, what is found on the image as it is; ``source``, if there is a science image.
    context
        Its exposure, the section `NegateSettings`, and the pipeline's ``search``.

    Returns
    -------
    table
        `NEGATIVE`, a row per tile searched. Which tiles are follows from night, visit, detector and the settings.

    Raises
    ------
    DatasetError
        The exposure or the search is missing.
    """
    exposure, search = context.exposure, context.search
    if exposure is None or search is None:
        raise DatasetError("stage 'negate' needs an exposure and a search. To fix, give both in the context.")
    rows = []
    for tile, box, _ in drawn_tiles(exposure, context.settings.share, _PURPOSE):
        copy = copy_tile(inputs, tile, box, _LONGEST, exposure, search.grid)
        turn_over(copy.planes, exposure.background)
        found = search(copy.planes, copy.exposure(exposure))
        rows.append(_row(copy, found, inputs, exposure))
    return pa.Table.from_pylist(rows, NEGATIVE.schema)


def turn_over(planes: Mapping[str, Any], background: float) -> None:
    """Negate a difference image about its background, in place, and take from the science image what that takes.

    With ``science = template + difference`` before, it is so after as well: what does not move stays.
    """
    image = planes[DIFFERENCE.name]
    if SCIENCE.name in planes:
        planes[SCIENCE.name][...] -= 2 * (image - np.float32(background))
    image[...] = 2 * np.float32(background) - image


def _row(copy: TileCopy, found: pa.Table, inputs: Mapping[str, Any], exposure: ExposureInfo) -> dict[str, Any]:
    y0, x0, y1, x1 = copy.box
    segments = _segments(found)
    x, y = (found[name].to_numpy() + start for name, start in (("x", copy.x0), ("y", copy.y0)))
    inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    satellite = np.array(found["trailClass"].to_pylist(), dtype=np.str_) != ""
    fwhm = exposure.psf.fwhm_px
    near = _near_detection(x, y, inputs[DIA_SOURCE.name], _NEAR_DETECTION * fwhm)
    at_source = _at_source(x, y, inputs.get(SOURCE.name), _AT_SOURCE * fwhm)
    at_source |= np.array([_may_have_faded(copy.planes, one, fwhm, exposure.background) for one in segments], np.bool_)
    here = np.s_[y0:y1, x0:x1]
    kinds = (satellite, near, at_source, np.ones(len(x), np.bool_))
    first = np.argmax(kinds, axis=0)[inside]
    names = ("nSatellites", "nNearDetection", "nAtSource", "nFalse")
    return {
        "visit": exposure.visit,
        "detector": exposure.detector,
        "tile": copy.tile,
        "nPixels": int(usable_pixels(inputs[DIFFERENCE.name][here], inputs[MASK.name][here]).sum()),
        "nDetections": int(inside.sum()),
        **dict(zip(names, np.bincount(first, minlength=len(names)).tolist(), strict=True)),
        "band": exposure.band,
        "midpointMjdTai": exposure.midpoint_mjd_tai,
    }


def _segments(found: pa.Table) -> list[DetectedSegment]:
    columns = (found[name].to_pylist() for name in ("x", "y", "trailLengthPx", "trailAnglePx", "snr"))
    return [DetectedSegment(*(value or 0.0 for value in one)) for one in zip(*columns, strict=True)]


def _near_detection(x: Floats, y: Floats, detections: pa.Table, reach: float) -> NDArray[np.bool_]:
    near = np.zeros(len(x), np.bool_)
    for one in _segments(detections):
        near |= distance(x, y, one) < reach
    return near


def _may_have_faded(planes: Mapping[str, Any], found: DetectedSegment, fwhm_px: float, background: float) -> bool:
    """Return whether the template, science less difference, has the light that is missing."""
    if SCIENCE.name not in planes:
        return False
    reach = _LEVEL[1] * fwhm_px + 0.5 * found.length
    y0, x0 = (max(0, math.floor(at - reach)) for at in (found.y, found.x))
    here = np.s_[y0 : math.ceil(found.y + reach) + 1, x0 : math.ceil(found.x + reach) + 1]
    missing = planes[DIFFERENCE.name][here] - np.float32(background)
    template = planes[SCIENCE.name][here] - missing
    rows, columns = np.indices(template.shape, float)
    apart = distance(columns + x0, rows + y0, found) / fwhm_px
    known = np.isfinite(template)
    core, ring = known & (apart <= _CORE), template[known & (apart > _LEVEL[0]) & (apart <= _LEVEL[1])]
    if not core.any() or not len(ring):
        return False
    level = np.median(ring)
    noise = 1.4826 * np.median(np.abs(ring - level)) * math.sqrt(core.sum())
    return bool((template[core] - level).sum() >= max(_ENOUGH * missing[core].sum(), _SEEN * noise))


def _at_source(x: Floats, y: Floats, sources: pa.Table | None, reach: float) -> NDArray[np.bool_]:
    if sources is None or not sources.num_rows:
        return np.zeros(len(x), np.bool_)
    from scipy.spatial import KDTree

    tree = KDTree(np.column_stack([sources[name].to_numpy() for name in ("x", "y")]))
    return np.asarray(tree.query(np.column_stack([x, y]))[0] < reach)


STAGE = Stage(
    name="negate",
    version="3",
    per="exposure",
    needs=(DIFFERENCE, MASK, DIA_SOURCE),
    optional=(SCIENCE, SOURCE, VARIANCE),
    gives=NEGATIVE,
    run=negate,
    settings=NegateSettings,
    memory=copying_memory,
    searches=True,
)
