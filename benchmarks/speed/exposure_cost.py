"""Cost of one exposure for a worker: processor seconds by step, bytes by kind; all in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import Any, cast

import torch
from torch.utils.flop_counter import FlopCounterMode

from flows.inputs.source import Source
from flows.inputs.source_state import sha256_of
from flows.inputs.sources import list_sources
from flows.nights.exposure_run import shared_out
from flows.nights.exposure_work import finish_exposure, search_tiles, store_exposure
from flows.nights.nightly import LEAST_TASKS
from flows.nights.recorder import Recorder
from flows.nights.run import planner
from flows.pipeline.lineage import memo_name
from flows.pipeline.models import models_of
from flows.pipeline.outcome import Item, Outcome
from flows.pipeline.stage_run import search_grid
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.settings import Settings
from stages import PIPELINE
from stages.detect import STAGE as DETECT

Cost = dict[str, float]
"""Quantity -> seconds or bytes."""

STEPS = ("plan", "store", "search", "finish", "book")
SIZES = ("input", "tiles", "catalogues", "ledger")


def exposure_costs(raw: Path, out: Path, settings: Settings) -> list[Cost]:
    """Process the exposures of a folder completely, one after the other; return the cost of each.

    The first pays for imports, compilation and models that are loaded: leave it out.
    """
    recorder = Recorder(out, settings, PIPELINE, sha256_of)
    return [_cost(source, out, settings, recorder) for source in list_sources([str(raw)], settings)]


def tasks_of(shape: tuple[int, int], settings: Settings, searches: int) -> dict[str, int]:
    """Return the tasks of an exposure, by kind, for a number of searches that share its tiles; 1: one task does all."""
    if searches == 1:
        return {"work": 1}
    tiles = search_grid(settings.detect).tiling(shape, settings.tiles.tile).tiles()
    return {"store": 1, "search": len(shared_out(tiles, searches)), "finish": 1}


def search_flop_per_pixel(settings: Settings) -> float:
    """Return floating-point operations of the network per pixel, rims of blocks included; a multiply-add is two."""
    net = cast(Any, models_of(DETECT, settings)["detect"]).net.float()
    block = 126
    cells = torch.zeros(1, 48, block + 2 * net.reach, block + 2 * net.reach)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.inside(cells)
    return counter.get_total_flops() / (4 * block) ** 2


def _cost(source: Source, out: Path, settings: Settings, recorder: Recorder) -> Cost:
    cost: Cost = {}
    with _timed(cost, "plan"):
        (item,) = planner(out, settings).plan([source]).todo
    with _timed(cost, "store"):
        stored = store_exposure(source, item.key, item.sha256, out, settings)
    path = tile_path(out, item.key)
    parts = shared_out(search_grid(settings.detect).tiling(stored.info.shape, settings.tiles.tile).tiles(), LEAST_TASKS)
    with _timed(cost, "search"):
        found = [search_tiles(path, part, settings) for part in parts]
    with _timed(cost, "finish"):
        published = finish_exposure(path, found, stored.lineage, out, settings)
    rows = published.datasets[DIA_SOURCE.name].rows
    with _timed(cost, "book"):
        recorder.stored(item, stored)
        recorder.done(
            item, stored, published.datasets, Outcome(item, "done", detections=rows, seconds=published.seconds)
        )
    return {**cost, **_sizes(item, out, settings), "pixels": float(stored.info.shape[0] * stored.info.shape[1])}


def _sizes(item: Item, out: Path, settings: Settings) -> Cost:
    files = [item.source.uri, *(uri for _, uri in item.source.siblings)]
    ledger = Ledger(out)
    record = ledger.get(item.key)
    published = [out / dataset.path for dataset in record.datasets.values()]
    memo = ledger.remembered(memo_name(item.source, settings))
    return {
        "input": float(sum(Path(file).stat().st_size for file in files)),
        "tiles": float(sum(file.stat().st_size for file in tile_path(out, item.key).rglob("*") if file.is_file())),
        "catalogues": float(sum(file.stat().st_size for file in published)),
        "ledger": float(len(record.model_dump_json()) + len(memo.model_dump_json())),
    }


@contextmanager
def _timed(cost: Cost, step: str) -> Iterator[None]:
    start = process_time()
    yield
    cost[step] = process_time() - start
