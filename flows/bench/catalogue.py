"""From the log odds of windows to the catalogue that comes of them."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.adapters.weights import load_model
from flows.bench.exposure import BenchExposure
from schemas.hit import HIT
from schemas.settings import Settings
from schemas.stage import Context
from stages.measure import STAGE as MEASURE
from stages.merge import STAGE as MERGE


def catalogue_of(exposure: BenchExposure, logits: NDArray[np.float32], threshold: float) -> pa.Table:
    """Merge and measure the windows that reach a threshold, with the settings' defaults.

    Parameters
    ----------
    exposure
        What was searched.
    logits : (windows,) float32
        In order of its grid.
    threshold
        Log odds from which a window is a hit.

    Returns
    -------
    pyarrow.Table
        `dia_source`.
    """
    settings, pixels = Settings(), exposure.pixels
    planes = {"difference": exposure.difference, "mask": exposure.mask}
    hits = hits_of(logits, pixels.grid[1], threshold)
    streaks = MERGE({"hit": hits, **planes}, Context(exposure.info, None, settings.merge))
    models = {"reliability": load_model("reliability", "basic_cnn")}
    return MEASURE({"streak": streaks, **planes}, Context(exposure.info, None, settings.measure, models))


def hits_of(logits: NDArray[np.float32], columns: int, threshold: float) -> pa.Table:
    """Give the windows that reach a threshold as a table of `HIT`."""
    hit = np.flatnonzero(logits >= threshold)
    row, column = np.divmod(hit, columns)
    return pa.table(
        {"row": row.astype(np.int32), "column": column.astype(np.int32), "logit": logits[hit]}, schema=HIT.schema
    )
