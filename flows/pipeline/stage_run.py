"""Execution of stages in order, and merging of the results of tiles."""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa

from flows.pipeline.models import models_of
from flows.pipeline.weights import read_card
from flows.runtime.traces import Timer
from schemas.dataset import DatasetError, TableOf
from schemas.errors import BadInput, NightstrideError
from schemas.exposure import ExposureInfo
from schemas.pixels import SearchGrid, Tile
from schemas.settings import DetectSettings, Settings
from schemas.stage import Context, Result, Search, Stage


def run_stages(
    stages: Sequence[Stage],
    inputs: Mapping[str, Result],
    info: ExposureInfo,
    tile: Tile | None,
    settings: Settings,
    timer: Timer,
    search: Search | None = None,
    loaded: Mapping[str, Any] | None = None,
    allocate: Callable[[tuple[int, ...], str], Any] = np.zeros,
) -> dict[str, Result]:
    """Run stages in order; return the results by dataset, including the given ones.

    Parameters
    ----------
    stages, inputs
        Stages to run, and existing datasets: dataset -> result.
    info, tile, settings, search, allocate
        Values for the contexts of the stages.
    timer
        Receives the time of each stage, under its name.
    loaded
        Models by name, used for stages that need no other models; other stages use the models in the settings.
    """
    found, ready = dict(inputs), loaded or {}
    for stage in stages:
        # A model is loaded once per worker, and loading is not part of the stage's time.
        names = {model.name for model in stage.models}
        models = ready if ready.keys() >= names else models_of(stage, settings)
        timer.lap("other")
        rows = {name: result.rows for name, result in found.items()}
        numbers = {name: result.numbers for name, result in found.items()}
        context = Context(info, tile, stage.section(settings), models, search, None, allocate, numbers)
        with place_of_errors(stage):
            found[stage.gives.name] = stage(rows, context)
        timer.lap(stage.name)
    return found


@contextmanager
def place_of_errors(stage: Stage) -> Iterator[None]:
    """Context that adds the stage and the code line to errors that are not nightstride errors."""
    try:
        yield
    except NightstrideError:
        raise
    except Exception as error:
        passed = traceback.extract_tb(error.__traceback__)
        own = getattr(getattr(stage.run, "__code__", None), "co_filename", None)
        at = ([one for one in passed if one.filename == own] or passed)[-1]
        error.add_note(f"stage {stage.name} {stage.version}, {at.filename} line {at.lineno}, in {at.name}")
        raise


def run_on_tiles(
    stages: Sequence[Stage],
    tiles: Iterable[Tile],
    read: Callable[[Tile], Mapping[str, Any]],
    info: ExposureInfo,
    settings: Settings,
    timer: Timer,
    loaded: Mapping[str, Any] | None = None,
    most: int | None = None,
) -> dict[str, Result]:
    """Run tile-level stages on several tiles; return the gathered results.

    Parameters
    ----------
    stages, tiles
        Stages to run, and tiles.
    read
        Function that returns the padded planes of a tile by name.
    info, settings, timer, loaded
        As in `run_stages`.
    most
        Largest number of rows of a dataset; None: no limit.

    Raises
    ------
    BadInput
        Code ``flood``: the tiles so far have more rows.
    """
    found: dict[str, list[Result]] = {stage.gives.name: [] for stage in stages}
    rows = dict.fromkeys(found, 0)
    for tile in tiles:
        results = run_stages(stages, as_results(read(tile)), info, tile, settings, timer, loaded=loaded)
        for name, parts in found.items():
            parts.append(results[name])
            rows[name] += len(results[name].rows)
            if most is not None and rows[name] > most:
                raise _flood(f"at least {rows[name]} rows of {name}, more than {most}", info)
    return {stage.gives.name: gathered(stage, found[stage.gives.name]) for stage in stages}


def _flood(problem: str, info: ExposureInfo) -> BadInput:
    remedy = "look at the difference image for a failed subtraction."
    return BadInput("flood", f"exposure {info.name}", f"{problem}.", remedy)


def gathered(stage: Stage, parts: Sequence[Result]) -> Result:
    """Return the merged results of a stage on all tiles, with rows in an order independent of the tiling.

    Raises
    ------
    DatasetError
        The stage returns pixels.
    """
    whole = pa.concat_tables([part.rows for part in parts]) if parts else table_of(stage).empty()
    rows = whole.sort_by([(column, "ascending") for column in whole.column_names])
    numbers = [part.numbers for part in parts if part.numbers is not None]
    return Result(rows, reduce(add, numbers) if numbers else None)


def as_results(planes: Mapping[str, Any]) -> dict[str, Result]:
    """Return planes or catalogues as results without numbers."""
    return {name: Result(rows) for name, rows in planes.items()}


def table_of(stage: Stage) -> TableOf:
    """Return the declared schema of the table that a stage returns.

    Raises
    ------
    DatasetError
        The stage returns an array.
    """
    if not isinstance(stage.gives, TableOf):
        raise DatasetError(f"stage {stage.name!r} gives pixels; only tables are gathered and published")
    return stage.gives


def search_grid(settings: DetectSettings) -> SearchGrid:
    """Return the grid of the detector in the settings: from its card, or from the settings for a search of windows.

    Raises
    ------
    Misconfigured
        There is no such detector.
    """
    own = read_card("detect", settings.model).input.get("grid")
    return SearchGrid(stride=settings.stride) if own is None else SearchGrid(**own)
