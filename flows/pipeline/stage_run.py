"""Running stages in order, and bringing together what those of tiles give."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from flows.pipeline.models import models_of
from flows.pipeline.weights import read_card
from flows.runtime.traces import Timer
from schemas.dataset import DatasetError, TableOf
from schemas.exposure import ExposureInfo
from schemas.pixels import SearchGrid, Tile
from schemas.settings import DetectSettings, Settings
from schemas.stage import Context, Search, Stage


def run_stages(
    stages: Sequence[Stage],
    inputs: dict[str, Any],
    info: ExposureInfo,
    tile: Tile | None,
    settings: Settings,
    laps: Timer,
    search: Search | None = None,
    loaded: Mapping[str, Any] | None = None,
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
    loaded
        Models by name: a stage all of whose models are among them gets these, others those that the settings name.
    """
    ready = loaded or {}
    for stage in stages:
        # Loading a model is paid once per worker, and is no part of the stage's time.
        models = ready if ready.keys() >= set(stage.weights) else models_of(stage, settings)
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
    return SearchGrid(stride=settings.stride) if own is None else SearchGrid(**own)
