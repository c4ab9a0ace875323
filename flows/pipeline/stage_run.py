"""Running stages in order, on tiles, on whole exposures, and on copies of a piece of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from schemas.stage import Context, Search, Stage
from stages import PIPELINE


def run_stages(
    stages: Sequence[Stage],
    inputs: dict[str, Any],
    info: ExposureInfo,
    tile: Tile | None,
    settings: Settings,
    laps: Timer,
    search: Search | None = None,
) -> None:
    """Run stages in order and put what they give into ``inputs``.

    Parameters
    ----------
    stages, inputs
        What to run, and the datasets by name that are there.
    info, tile, settings, search
        For the contexts of the stages.
    laps
        Told of the time of each stage, under its name.
    """
    for stage in stages:
        # Loading a model is paid once per worker, and is no part of the stage's time.
        models = models_of(stage, settings)
        section = getattr(settings, stage.name, None)
        laps.lap("other")
        inputs[stage.gives.name] = stage(inputs, Context(info, tile, section, models, search))
        laps.lap(stage.name)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of those of several tiles, with the metadata of the first."""
    whole = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    return whole.replace_schema_metadata(tables[0].schema.metadata)


def gathered(stage: Stage, tables: Sequence[pa.Table]) -> pa.Table:
    """One table of all tiles; its order does not depend on how the image was tiled."""
    whole = joined(tables or [table_of(stage).empty()])
    return whole.sort_by([(column, "ascending") for column in whole.column_names])


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
        inputs = {**planes, **self._of_tiles(graph, planes, exposure)}
        run_stages(graph.at("exposure"), inputs, exposure, None, self.settings, Timer(spans=False))
        found: pa.Table = inputs[DIA_SOURCE.name]
        return found.set_column(0, DIA_SOURCE.schema.field(0), pa.array(-1 - found["diaSourceId"].to_numpy()))

    def _of_tiles(self, graph: Graph, planes: Mapping[str, Any], exposure: ExposureInfo) -> dict[str, pa.Table]:
        """Run the stages of a tile on all of them, and gather what they give."""
        stages = graph.at("tile")
        found: dict[str, list[pa.Table]] = {stage.gives.name: [] for stage in stages}
        for tile in self.grid.tiling(exposure.shape, self.settings.tiles.tile).tiles():
            here = np.s_[tile.y0 : tile.y1, tile.x0 : tile.x1]
            inputs = {name: np.ascontiguousarray(pixels[here]) for name, pixels in planes.items()}
            run_stages(stages, inputs, exposure, tile, self.settings, Timer(spans=False))
            for name, tables in found.items():
                tables.append(inputs[name])
        return {stage.gives.name: gathered(stage, found[stage.gives.name]) for stage in stages}
