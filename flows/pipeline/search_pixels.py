"""Search of pixels in memory, with the stages up to detections in the order of the pipeline's graph.

A night runs the same stages with the same `run_stages`, but tile by tile from its store, as several tasks
(`flows.nights.exposure_work`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from flows.pipeline.graph import OF_EXPOSURE, Graph, resolve
from flows.pipeline.stage_run import as_results, run_on_tiles, run_stages, search_grid
from flows.runtime.traces import Timer
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureInfo
from schemas.pixels import Box, SearchGrid, Tile
from schemas.settings import Settings
from schemas.stage import Result
from stages import PIPELINE

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def search_pixels(
    planes: Mapping[str, Any],
    exposure: ExposureInfo,
    settings: Settings,
    *,
    until: str = DIA_SOURCE.name,
    given: Mapping[str, Result] = _NOTHING,
    models: Mapping[str, Any] = _NOTHING,
    whole: bool = False,
    within: Box | None = None,
    timer: Timer | None = None,
) -> dict[str, Result]:
    """Return the results of detect, merge and measure.

    Parameters
    ----------
    planes
        Pixels by name, all of ``exposure.shape``: ``difference``, ``mask`` and, if there is one, ``science``.
    exposure
        Metadata with the PSF and the noise for the search.
    settings
        Settings of all stages and of the tiles.
    until
        Last dataset that is needed; stages that it does not depend on are not run.
    given
        Existing datasets by name; stages needed only for them are not run.
    models
        Loaded models by name, used instead of those in the settings. A detector must be loaded with the threshold of
        the settings, if they have one, because its results are exact only from its threshold.
    whole
        Whether to search the image as one tile instead of the tiles in the settings. Results do not depend on it.
    within
        Part of the image that is searched, in tiles; all of it by default.
    timer
        Receives the time of each stage, under its name.

    Returns
    -------
    dict
        Dataset -> result, for every stage that was run and for given datasets.

    Raises
    ------
    BadInput
        There are too many candidates on the image.
    Misconfigured
        A model is missing; the side of a tile is not a multiple of the stride.
    """
    watch = Timer(spans=False) if timer is None else timer
    resolved = resolve(PIPELINE, planes, OF_EXPOSURE)
    graph = Graph(resolved.towards({until}, given), resolved.not_run)
    found = {**given, **_of_tiles(graph, planes, exposure, settings, models, whole, within, watch)}
    inputs = as_results(planes) | found
    results = run_stages(graph.at("exposure"), inputs, exposure, None, settings, watch, loaded=models)
    return {name: result for name, result in results.items() if name not in planes}


def _of_tiles(
    graph: Graph,
    planes: Mapping[str, Any],
    exposure: ExposureInfo,
    settings: Settings,
    models: Mapping[str, Any],
    whole: bool,
    within: Box | None,
    timer: Timer,
) -> dict[str, Result]:
    """Return the gathered results of the tile-level stages on all tiles."""
    stages = graph.at("tile")
    if not stages:
        return {}
    read = {dataset.name for stage in stages for dataset in (*stage.needs, *stage.optional)}
    grid = models["detect"].grid if "detect" in models else search_grid(settings.detect)
    tiles = (grid.whole(exposure.shape),) if whole else grid.tiling(exposure.shape, settings.tiles.tile).tiles(within)

    def cut(tile: Tile) -> Mapping[str, Any]:
        here = np.s_[tile.y0 : tile.y1, tile.x0 : tile.x1]
        return {name: np.ascontiguousarray(pixels[here]) for name, pixels in planes.items() if name in read}

    return run_on_tiles(stages, tiles, cut, exposure, settings, timer, models)


@dataclass(frozen=True)
class CopySearch:
    """`schemas.stage.Search` with all stages that `dia_source` depends on, in order.

    Parameters
    ----------
    settings
        Settings of the run.
    """

    settings: Settings

    @property
    def grid(self) -> SearchGrid:
        """Return the grid of the scores."""
        return search_grid(self.settings.detect)

    def __call__(self, planes: Mapping[str, Any], exposure: ExposureInfo, within: Box) -> pa.Table:
        """Return the `DIA_SOURCE` rows of ``planes`` with negative ids, which no real ``diaSourceId`` has."""
        found = search_pixels(planes, exposure, self.settings, within=within)[DIA_SOURCE.name].rows
        return found.set_column(0, DIA_SOURCE.schema.field(0), pa.array(-1 - found["diaSourceId"].to_numpy()))
