"""Stage: search for streaks at every place of a tile."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from kernels.image.search_image import Places, SearchImage
from kernels.image.variation import evened
from schemas.dataset import DatasetError
from schemas.dia_source import HIT, SearchCounts
from schemas.pixels import DIFFERENCE, MASK, UNUSABLE
from schemas.settings import DetectSettings
from schemas.stage import Context, Model, Rehearsal, Result, Stage, Weights

TILE_PIXEL = 128
"""Bytes that a pixel of a tile with its halo takes: image, mask, copies, what a network sees, its share of the logits
(7 measured), and what the threads that compute its blocks leave in the allocator (up to 75 more on shared cores)."""

WINDOW = 64 * 2**10
"""Bytes that a window of a batch takes: its pixels and the network's activations (45 kB measured for `basic_cnn`)."""


def detect(inputs: Mapping[str, Any], context: Context) -> Result:
    """Return the places of a tile whose log odds reach the threshold.

    Parameters
    ----------
    inputs
        ``difference`` and ``mask``: the pixels of the tile with its padding, y0:y1, x0:x1 of ``context.tile``.
    context
        ``tile``; ``exposure`` (background, noise, PSF); ``settings`` (`DetectSettings`); ``models["detect"]``, a
        detector (see `kernels.search.detector`).

    Returns
    -------
    Result
        Rows of `HIT` in order of the grid, with `SearchCounts`.

    Raises
    ------
    DatasetError
        The pixels do not have the size of the tile.
    """
    from scipy.special import logit

    tile, model = context.tile, context.models["detect"]
    if tile is None or context.exposure is None:
        raise DatasetError("stage 'detect' needs a tile and an exposure. To fix, give both in the context.")
    image, mask = inputs["difference"], inputs["mask"]
    if not image.shape == mask.shape == (tile.y1 - tile.y0, tile.x1 - tile.x0):
        raise DatasetError(f"tile {tile} needs its own pixels, got {image.shape} and mask {mask.shape}.")
    grid, threshold = model.grid, context.settings.threshold
    first = tile.row0 * grid.stride - tile.y0, tile.column0 * grid.stride - tile.x0
    varying = context.exposure.noise_variation
    image = evened(image, context.exposure.background, varying, tile.y0, tile.x0)
    plane = SearchImage.of(context.exposure, image, (mask & np.uint16(UNUSABLE)) == 0)
    logits, unscored = model.search(plane, Places(*first, tile.rows, tile.columns, grid.stride))
    hit = np.flatnonzero(logits >= logit(model.card.threshold if threshold is None else threshold))
    row, column = np.divmod(hit, tile.columns)
    hits = pa.table(
        {
            "row": (row + tile.row0).astype(np.int32),
            "column": (column + tile.column0).astype(np.int32),
            "logit": logits[hit],
        },
        schema=HIT.schema,
    )
    return Result(hits, SearchCounts(len(logits), unscored, grid))


def known_hits(result: Result, rehearsal: Rehearsal) -> Result:
    """Return the places that hold part of a trail, so that the warm-up does not depend on the detector's weights."""
    where, side = rehearsal.grid, min(rehearsal.shape)
    grid = np.arange((side - where.window) // where.stride + 1) * where.stride + where.window / 2
    found = set()
    for (x0, y0), length, angle in rehearsal.trails:
        for t in np.linspace(-length / 2, length / 2, 9):
            row = int(np.abs(grid - y0 - t * np.sin(angle)).argmin())
            found.add((row, int(np.abs(grid - x0 - t * np.cos(angle)).argmin())))
    rows, columns = (np.array(values, np.int32) for values in zip(*sorted(found), strict=True))
    logits = np.full(len(rows), 4.0, np.float32)
    return result._replace(rows=pa.table({"row": rows, "column": columns, "logit": logits}, schema=HIT.schema))


def _detector(weights: Weights, settings: DetectSettings) -> Any:
    from kernels.search.detector_weights import build_detector  # import torch only if needed

    return build_detector(weights, settings)


def _memory(shape: tuple[int, int], settings: DetectSettings) -> int:
    return shape[0] * shape[1] * TILE_PIXEL + settings.batch * WINDOW


STAGE = Stage(
    name="detect",
    version="7",
    per="tile",
    needs=(DIFFERENCE, MASK),
    gives=HIT,
    run=detect,
    settings=DetectSettings,
    models=(Model("detect", "detect.model", _detector, companion="screen"),),
    numbers=SearchCounts,
    memory=_memory,
    warm_up=known_hits,
)
