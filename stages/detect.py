"""Search every place of a tile for streaks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from kernels.image.search_image import Places, SearchImage
from schemas.dataset import DatasetError
from schemas.dia_source import HIT
from schemas.pixels import DIFFERENCE, MASK, UNUSABLE
from schemas.stage import Context, Stage


def detect(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the places of a tile whose log odds reach the threshold.

    Parameters
    ----------
    inputs
        ``difference`` and ``mask``: the pixels of the tile with its halo, ``context.tile``'s y0:y1, x0:x1.
    context
        ``tile``; ``exposure`` (background, noise, PSF); ``settings`` (`DetectSettings`); ``models["detect"]``, a
        detector: see `kernels.search.detector`.

    Returns
    -------
    table
        `HIT` rows in order of the grid. Its metadata: ``windows``, how many places were searched; ``unscored``, how
        many of them could not be scored (masked or without spread); and ``window``, ``stride`` and ``claim`` of the
        `SearchGrid`.

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
    plane = SearchImage.of(context.exposure, image, (mask & np.uint16(UNUSABLE)) == 0)
    logits, unscored = model.search(plane, Places(*first, tile.rows, tile.columns, grid.stride))
    hit = np.flatnonzero(logits >= logit(model.card.threshold if threshold is None else threshold))
    row, column = np.divmod(hit, tile.columns)
    numbers = {"windows": len(logits), "unscored": unscored, "window": grid.window, "stride": grid.stride}
    return pa.table(
        {
            "row": (row + tile.row0).astype(np.int32),
            "column": (column + tile.column0).astype(np.int32),
            "logit": logits[hit],
        },
        schema=HIT.schema,
    ).replace_schema_metadata({key: str(value) for key, value in (numbers | {"claim": grid.claim}).items()})


STAGE = Stage(
    name="detect",
    version="3",
    per="tile",
    needs=(DIFFERENCE, MASK),
    gives=HIT,
    run=detect,
    weights=("detect",),
)
