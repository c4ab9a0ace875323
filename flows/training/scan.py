"""Run the search, and the pipeline behind it, over examples."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.adapters.weights import load_model
from flows.adapters.zarr_tiles import TileStore
from flows.search_grid import search_grid
from flows.training.examples import Example
from flows.training.window_sample import away, cut_windows
from schemas.exposure import ExposureInfo, PsfModel
from schemas.mask import UNUSABLE
from schemas.settings import DetectSettings, MeasureSettings, MergeSettings
from schemas.stage import Context
from stages.detect import STAGE as DETECT
from stages.measure import describe
from stages.merge import STAGE as MERGE


def search(example: Example, weights: Path, threshold: float) -> pa.Table:
    """Give the hits of all tiles of an example, with the weights in a folder."""
    store = TileStore.open(example.store)
    settings = DetectSettings(model=str(weights), threshold=threshold)
    found = []
    for tile in search_grid(settings).tiling(store.info.shape, 1008).tiles():
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


def candidates(example: Example, weights: Path) -> list[tuple[pa.Table, NDArray[np.float32]]]:
    """Give every candidate of an example, measured, and its features: with the PSF it has, and with another.

    A header does not always give the PSF that the image has. The verdict must not break then, so it learns from
    both; see `misjudged`.
    """
    store = TileStore.open(example.store)
    scorer = _scorer(str(weights), _stamp(weights))
    hits = search(example, weights, scorer.card.threshold)
    planes = {"difference": store.read_all("difference"), "mask": store.read_all("mask")}
    found = []
    for info in (store.info, misjudged(store.info)):
        streaks = MERGE({"hit": hits, **planes}, Context(info, None, MergeSettings()))
        described = describe({"streak": streaks, **planes}, Context(info, None, MeasureSettings()))
        found.append((described.table, described.features))
    return found


def misjudged(info: ExposureInfo) -> ExposureInfo:
    """Give the exposure with a PSF 12 % wider or narrower (one standard deviation), and with wings of any strength."""
    rng = np.random.default_rng([info.visit, info.detector])
    fwhm = info.psf.fwhm_px * float(np.exp(rng.normal(0, 0.12)))
    return info.model_copy(update={"psf": PsfModel(fwhm_px=fwhm, beta=float(rng.choice([2.5, 3.0, 4.0, 100.0])))})


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
