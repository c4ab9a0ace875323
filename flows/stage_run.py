"""Running stages in order, and putting together what those of single tiles gave."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from flows.laps import Laps
from flows.model_cache import models_of
from schemas.dataset import DatasetError, TableOf
from schemas.exposure import ExposureInfo
from schemas.settings import Settings
from schemas.stage import Context, Search, Stage
from schemas.tiles import Tile


def run_stages(
    stages: Sequence[Stage],
    inputs: dict[str, Any],
    info: ExposureInfo,
    tile: Tile | None,
    settings: Settings,
    laps: Laps,
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
    """Give the declared form of the table that a stage gives.

    Raises
    ------
    DatasetError
        It gives an array.
    """
    if not isinstance(stage.gives, TableOf):
        raise DatasetError(f"stage {stage.name!r} gives pixels; only tables are gathered and published")
    return stage.gives
