"""The search of a copied piece of an exposure: the same stages, the same models, nothing published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from flows.graph import OF_EXPOSURE, Graph, resolve
from flows.laps import Laps
from flows.search_grid import search_grid
from flows.stage_run import gathered, run_stages
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureInfo
from schemas.search_grid import SearchGrid
from schemas.settings import Settings
from stages import PIPELINE


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
        """Give the `DIA_SOURCE` rows of ``planes``, but with ids below 0, as no ``diaSourceId`` is."""
        whole = resolve(PIPELINE, planes, OF_EXPOSURE)
        graph = Graph(whole.towards({DIA_SOURCE.name}), whole.not_run)
        inputs = {**planes, **self._of_tiles(graph, planes, exposure)}
        run_stages(graph.at("exposure"), inputs, exposure, None, self.settings, Laps(spans=False))
        found: pa.Table = inputs[DIA_SOURCE.name]
        return found.set_column(0, DIA_SOURCE.schema.field(0), pa.array(-1 - found["diaSourceId"].to_numpy()))

    def _of_tiles(self, graph: Graph, planes: Mapping[str, Any], exposure: ExposureInfo) -> dict[str, pa.Table]:
        """Run the stages of a tile on all of them, and gather what they give."""
        stages = graph.at("tile")
        found: dict[str, list[pa.Table]] = {stage.gives.name: [] for stage in stages}
        for tile in self.grid.tiling(exposure.shape, self.settings.tiles.tile).tiles():
            here = np.s_[tile.y0 : tile.y1, tile.x0 : tile.x1]
            inputs = {name: np.ascontiguousarray(pixels[here]) for name, pixels in planes.items()}
            run_stages(stages, inputs, exposure, tile, self.settings, Laps(spans=False))
            for name, tables in found.items():
                tables.append(inputs[name])
        return {stage.gives.name: gathered(stage, found[stage.gives.name]) for stage in stages}
