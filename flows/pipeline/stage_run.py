"""Running stages in order, on tiles, on whole exposures, and on copies of a piece of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa

from flows.pipeline.graph import OF_EXPOSURE, Graph, resolve
from flows.pipeline.models import models_of
from flows.pipeline.weights import read_card
from flows.runtime.traces import Timer
from schemas.dataset import DatasetError, TableOf
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureInfo
from schemas.pixels import SearchGrid, Tile
from schemas.settings import DetectSettings, Settings
from schemas.stage import Context, Result, Search, Stage
from stages import PIPELINE


def run_stages(
    stages: Sequence[Stage],
    inputs: Mapping[str, Result],
    info: ExposureInfo,
    tile: Tile | None,
    settings: Settings,
    laps: Timer,
    search: Search | None = None,
) -> dict[str, Result]:
    """Run stages in order; return the results by dataset, those that were given among them.

    Parameters
    ----------
    stages, inputs
        What to run, and what is there: dataset -> result.
    info, tile, settings, search
        For the contexts of the stages.
    laps
        Told of the time of each stage, under its name.
    """
    found = dict(inputs)
    for stage in stages:
        # Loading a model is paid once per worker, and is no part of the stage's time.
        models = models_of(stage, settings)
        laps.lap("other")
        rows = {name: result.rows for name, result in found.items()}
        numbers = {name: result.numbers for name, result in found.items()}
        context = Context(info, tile, stage.section(settings), models, search, numbers=numbers)
        found[stage.gives.name] = stage(rows, context)
        laps.lap(stage.name)
    return found


def gathered(stage: Stage, parts: Sequence[Result]) -> Result:
    """Join what a stage gave of all tiles: rows in an order that does not depend on the tiling, and their numbers.

    Raises
    ------
    DatasetError
        The stage gives pixels.
    """
    whole = pa.concat_tables([part.rows for part in parts]) if parts else table_of(stage).empty()
    rows = whole.sort_by([(column, "ascending") for column in whole.column_names])
    numbers = [part.numbers for part in parts if part.numbers is not None]
    return Result(rows, reduce(add, numbers) if numbers else None)


def as_results(planes: Mapping[str, Any]) -> dict[str, Result]:
    """Planes or catalogues, without numbers, as results."""
    return {name: Result(rows) for name, rows in planes.items()}


def table_of(stage: Stage) -> TableOf:
    """Return the declared form of the table that a stage gives.

    Raises
    ------
    DatasetError
        It gives an array.
    """
    if not isinstance(stage.gives, TableOf):
        raise DatasetError(f"stage {stage.name!r} gives pixels; only tables are gathered and published")
    return stage.gives


def search_grid(settings: DetectSettings) -> SearchGrid:
    """Return grid of the detector that the settings name: its card's, or, of a search of windows, the settings' own.

    Raises
    ------
    Misconfigured
        There is no such detector.
    """
    own = read_card("detect", settings.model).input.get("grid")
    return SearchGrid(settings.window, settings.stride, 0, settings.window) if own is None else SearchGrid(**own)


@dataclass(frozen=True)
class CopySearch:
    """A `schemas.stage.Search`: every stage that `dia_source` depends on, in order.

    Parameters
    ----------
    settings
        Of the run.
    """

    settings: Settings

    @property
    def grid(self) -> SearchGrid:
        """Where the search puts its scores."""
        return search_grid(self.settings.detect)

    def __call__(self, planes: Mapping[str, Any], exposure: ExposureInfo) -> pa.Table:
        """Return the `DIA_SOURCE` rows of ``planes``, but with ids below 0, as no ``diaSourceId`` is."""
        whole = resolve(PIPELINE, planes, OF_EXPOSURE)
        graph = Graph(whole.towards({DIA_SOURCE.name}), whole.not_run)
        inputs = as_results(planes) | self._of_tiles(graph, planes, exposure)
        results = run_stages(graph.at("exposure"), inputs, exposure, None, self.settings, Timer(spans=False))
        found: pa.Table = results[DIA_SOURCE.name].rows
        return found.set_column(0, DIA_SOURCE.schema.field(0), pa.array(-1 - found["diaSourceId"].to_numpy()))

    def _of_tiles(self, graph: Graph, planes: Mapping[str, Any], exposure: ExposureInfo) -> dict[str, Result]:
        """Run the stages of a tile on all of them, and gather what they give."""
        stages = graph.at("tile")
        found: dict[str, list[Result]] = {stage.gives.name: [] for stage in stages}
        for tile in self.grid.tiling(exposure.shape, self.settings.tiles.tile).tiles():
            here = np.s_[tile.y0 : tile.y1, tile.x0 : tile.x1]
            inputs = as_results({name: np.ascontiguousarray(pixels[here]) for name, pixels in planes.items()})
            results = run_stages(stages, inputs, exposure, tile, self.settings, Timer(spans=False))
            for name, parts in found.items():
                parts.append(results[name])
        return {stage.gives.name: gathered(stage, found[stage.gives.name]) for stage in stages}
