"""Search every window of a tile for streaks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import logit

from kernels.windows import fill_windows
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
        ``tile``; ``exposure`` (background); ``settings`` (`DetectSettings`); ``models["detect"]`` maps
        (batch, 1, side, side) float32 windows to log odds and has a ``card``.

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
    logits, unscored = _score(image[None], usable, context, (tile.rows, tile.columns))
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


def _score(
    image: np.ndarray[Any, np.dtype[np.float32]],
    usable: np.ndarray[Any, np.dtype[np.bool_]],
    context: Context,
    grid: tuple[int, int],
) -> tuple[np.ndarray[Any, np.dtype[np.float32]], int]:
    """Log odds of every window of the grid, -inf where it cannot be scored, and the number of those."""
    settings, background = context.settings, context.exposure.background if context.exposure else 0.0
    batch = np.empty((settings.batch, len(image), settings.window, settings.window), np.float32)
    logits = np.empty(grid[0] * grid[1], np.float32)
    unscored = 0
    for start in range(0, len(logits), settings.batch):
        count, scored = fill_windows(image, usable, background, grid, settings.stride, start, batch)
        # The whole batch, also its empty rest: equal sizes give equal bits whatever the tiling.
        found = context.models["detect"](batch) if scored.any() else np.zeros(settings.batch, np.float32)
        logits[start : start + count] = np.where(scored, found, -np.inf)[:count]
        unscored += count - int(scored[:count].sum())
    return logits, unscored


STAGE = Stage(
    name="detect",
    version="1",
    per="tile",
    needs=(DIFFERENCE, MASK),
    gives=HIT,
    run=detect,
    weights=("detect",),
)
