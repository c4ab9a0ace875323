"""Stage: search of negated copies of a few tiles, where no moving object is bright."""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from kernels.image.pixel_state import usable_pixels
from kernels.image.tile_copy import TileCopy, copy_tile, copying_memory, drawn_tiles
from kernels.trails.geometry import DetectedSegment, detected_segments, distance
from schemas.dataset import DatasetError
from schemas.dia_source import SEGMENT_COLUMNS
from schemas.exposure import ExposureInfo
from schemas.negative import NEGATED
from schemas.pixels import DIFFERENCE, MASK, SCIENCE, VARIANCE
from schemas.settings import NegateSettings
from schemas.stage import Context, Stage

_PURPOSE = zlib.crc32(b"negation")
_LONGEST = 60.0  # px; trails up to this length in the middle of a tile are seen whole
_CORE, _LEVEL = 1.0, (2.5, 8.0)  # FWHM from the line: light of the template, and its level
_ENOUGH = 0.5  # least share of the missing light that the template must have if a source has faded
_SEEN = 3.0  # sigma of that light


def negate(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the detections of the search on negated tiles of an exposure.

    Parameters
    ----------
    inputs
        ``difference`` and ``mask`` of the whole exposure, and ``science`` if there is one; none is changed.
    context
        The exposure, the section `NegateSettings`, and the pipeline's ``search``.

    Returns
    -------
    table
        `NEGATED` for the searched tiles, which depend only on night, visit, detector and the settings.

    Raises
    ------
    DatasetError
        The exposure or the search is missing.
    """
    exposure, search = context.exposure, context.search
    if exposure is None or search is None:
        raise DatasetError("stage 'negate' needs an exposure and a search. To fix, give both in the context.")
    rows = list[dict[str, Any]]()
    for tile, box, _ in drawn_tiles(exposure, context.settings.share, _PURPOSE):
        copy = copy_tile(inputs, tile, box, _LONGEST, exposure, search.grid)
        turn_over(copy.planes, exposure.background)
        found = search(copy.planes, copy.exposure(exposure), copy.searched)
        rows += _rows(copy, found, inputs, exposure)
    return pa.Table.from_pylist(rows, NEGATED.schema)


def turn_over(planes: Mapping[str, Any], background: float) -> None:
    """Negate a difference image about its background, in place, and change the science image by the same amount.

    If ``science = template + difference`` held before, it still holds: sources that do not move stay.
    """
    image = planes[DIFFERENCE.name]
    if SCIENCE.name in planes:
        planes[SCIENCE.name][...] -= 2 * (image - np.float32(background))
    image[...] = 2 * np.float32(background) - image


def _rows(copy: TileCopy, found: pa.Table, inputs: Mapping[str, Any], exposure: ExposureInfo) -> list[dict[str, Any]]:
    y0, x0, y1, x1 = copy.box
    segments = detected_segments(*(found[name].to_pylist() for name in SEGMENT_COLUMNS))
    x, y = (found[name].to_numpy() + start for name, start in (("x", copy.x0), ("y", copy.y0)))
    inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    satellite = np.array(found["trailClass"].to_pylist(), dtype=np.str_) != ""
    fwhm, level = exposure.psf.fwhm_px, exposure.background
    faded = np.array([_may_have_faded(copy.planes, one, fwhm, level) for one in segments], np.bool_)
    here = np.s_[y0:y1, x0:x1]
    pixels = int(usable_pixels(inputs[DIFFERENCE.name][here], inputs[MASK.name][here]).sum())
    of_tile = {"tile": copy.tile, "nPixels": pixels}
    columns = {"x": x, "y": y, "satellite": satellite, "mayHaveFaded": faded}
    values = (column[inside].tolist() for column in columns.values())
    detected = (dict(zip(columns, one, strict=True)) for one in zip(*values, strict=True))
    return [of_tile, *(of_tile | one for one in detected)]


def _may_have_faded(planes: Mapping[str, Any], found: DetectedSegment, fwhm_px: float, background: float) -> bool:
    """Return whether the template (science minus difference) has the missing light."""
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


STAGE = Stage(
    name="negate",
    version="5",
    per="exposure",
    needs=(DIFFERENCE, MASK),
    optional=(SCIENCE, VARIANCE),
    gives=NEGATED,
    run=negate,
    settings=NegateSettings,
    memory=copying_memory,
    searches=True,
)
