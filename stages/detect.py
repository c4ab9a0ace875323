"""Search every window of a tile for streaks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import logit

from schemas.dataset import DatasetError
from schemas.hit import HIT
from schemas.mask import UNUSABLE
from schemas.pixels import DIFFERENCE, MASK
from schemas.stage import Context, Stage


def detect(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Give the windows of a tile whose log odds reach the threshold.

    Parameters
    ----------
    inputs
        ``difference`` and ``mask``: the pixels of the tile with its halo, ``context.tile``'s y0:y1, x0:x1.
    context
        ``tile``; ``exposure`` (background); ``settings`` (`DetectSettings`); ``models["detect"]``, a `WindowScorer`.

    Returns
    -------
    table
        `HIT` rows in order of the grid. Its metadata ``windows``, ``unscored``, ``window`` and ``stride`` say how many
        windows were searched, how many of them could not be scored (masked or without spread), their side and step.

    Raises
    ------
    DatasetError
        The pixels do not have the size of the tile.
    """
    tile, settings, model = context.tile, context.settings, context.models["detect"]
    if tile is None or context.exposure is None:
        raise DatasetError("stage 'detect' needs a tile and an exposure. To fix, give both in the context.")
    image, mask = inputs["difference"], inputs["mask"]
    if not image.shape == mask.shape == (tile.y1 - tile.y0, tile.x1 - tile.x0):
        raise DatasetError(f"tile {tile} needs its own pixels, got {image.shape} and mask {mask.shape}.")
    usable = (mask & np.uint16(UNUSABLE)) == 0
    background, grid = context.exposure.background, (tile.rows, tile.columns)
    logits, unscored = model.windows.search(image[None], usable, background, grid, settings.stride)
    threshold = settings.threshold if settings.threshold is not None else model.card.threshold
    hit = np.flatnonzero(logits >= logit(threshold))
    row, column = np.divmod(hit, tile.columns)
    counts = {"windows": len(logits), "unscored": unscored, "window": settings.window, "stride": settings.stride}
    return pa.table(
        {
            "row": (row + tile.row0).astype(np.int32),
            "column": (column + tile.column0).astype(np.int32),
            "logit": logits[hit],
        },
        schema=HIT.schema,
    ).replace_schema_metadata({key: str(value) for key, value in counts.items()})


STAGE = Stage(
    name="detect",
    version="2",
    per="tile",
    needs=(DIFFERENCE, MASK),
    gives=HIT,
    run=detect,
    weights=("detect",),
)
