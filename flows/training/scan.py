"""Run the search, and the pipeline behind it, over examples."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.adapters.weights import load_model
from flows.adapters.zarr_tiles import TileStore
from flows.training.examples import Example
from flows.training.window_sample import away, cut_windows
from kernels.verdict import feature_matrix
from schemas.mask import UNUSABLE
from schemas.settings import DetectSettings, MeasureSettings, MergeSettings
from schemas.stage import Context
from schemas.tiles import Tiling
from stages.detect import STAGE as DETECT
from stages.measure import measure_all
from stages.merge import STAGE as MERGE


def search(example: Example, weights: Path, threshold: float) -> pa.Table:
    """Give the hits of all tiles of an example, with the weights in a folder."""
    store = TileStore.open(example.store)
    settings = DetectSettings(model=str(weights), threshold=threshold)
    found = []
    for tile in Tiling(store.info.shape, 1008, settings.window, settings.stride).tiles():
        planes = {name: store.read(name, tile.y0, tile.x0, tile.y1, tile.x1) for name in ("difference", "mask")}
        context = Context(store.info, tile, settings, {"detect": _scorer(str(weights), _stamp(weights))})
        found.append(DETECT(planes, context).replace_schema_metadata(None))
    return pa.concat_tables(found)


def hard_negatives(
    example: Example, weights: Path, threshold: float, most: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Give windows that the network takes for asteroids and that hold nothing real: worst first, ``most`` at most.

    Returns
    -------
    windows : (n, 1, 26, 26) float32
    corners : (n, 2) int64
        Their first pixels.
    """
    hits = search(example, weights, threshold)
    stride = DetectSettings().stride
    corners = np.stack([hits["row"].to_numpy(), hits["column"].to_numpy()], 1).astype(np.int64) * stride
    order = np.argsort(-hits["logit"].to_numpy(), kind="stable")
    corners = corners[order]
    corners = corners[away(example.truth, corners)][:most]
    image, usable, background = pixels(example)
    return cut_windows(image, usable, background, corners), corners


def candidates(example: Example, weights: Path) -> tuple[pa.Table, NDArray[np.float32]]:
    """Give every candidate of an example, measured, and its features."""
    store = TileStore.open(example.store)
    scorer = _scorer(str(weights), _stamp(weights))
    hits = search(example, weights, scorer.card.threshold)
    planes = {"difference": store.read_all("difference"), "mask": store.read_all("mask")}
    streaks = MERGE({"hit": hits, **planes}, Context(store.info, None, MergeSettings()))
    table = measure_all({"streak": streaks, **planes}, Context(store.info, None, MeasureSettings()))
    return table, feature_matrix(table, store.info.psf.fwhm_px)


def pixels(example: Example) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Give image, usable pixels and background of an example."""
    store = TileStore.open(example.store)
    usable = (store.read_all("mask") & np.uint16(UNUSABLE)) == 0
    return store.read_all("difference"), usable, store.info.background


def _stamp(weights: Path) -> int:
    return (weights / "detect.json").stat().st_mtime_ns


@cache
def _scorer(weights: str, stamp: int) -> Any:
    import torch

    torch.set_num_threads(1)
    return load_model("detect", weights)
