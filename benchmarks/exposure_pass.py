"""What a worker does with one exposure, step by step in this process, with the seconds of each step."""

from time import perf_counter

from flows.inputs.prepare import prepare
from flows.pipeline.models import models_of
from flows.pipeline.stage_run import gathered, search_grid
from flows.storage.zarr_tiles import TileStore, write_exposure
from schemas.settings import Settings
from schemas.stage import Context
from stages.detect import STAGE as DETECT
from stages.measure import STAGE as MEASURE
from stages.merge import STAGE as MERGE

SETTINGS = Settings()
PLANES = ("difference", "mask")


class Clock(dict):
    """Seconds by step."""

    def __call__(self, step, function, *arguments):
        """Call a function and add the time it takes to a step."""
        start = perf_counter()
        result = function(*arguments)
        self[step] = self.get(step, 0.0) + perf_counter() - start
        return result


def ingest(source, path, clock):
    """Read an exposure, measure its noise, write its tiles."""
    info, planes = clock("read, check, measure noise", prepare, source, SETTINGS)
    clock("write tiles", write_exposure, path, info, planes, SETTINGS.tiles, "bench")


def search(path, clock):
    """Search an exposure tile by tile; give its hits."""
    store = TileStore.open(path)
    models = models_of(DETECT, SETTINGS)
    hits = []
    for tile in search_grid(SETTINGS.detect).tiling(store.info.shape, SETTINGS.tiles.tile).tiles():
        box = (tile.y0, tile.x0, tile.y1, tile.x1)
        planes = clock("read tiles", _read, store, PLANES, *box)
        context = Context(store.info, tile, SETTINGS.detect, models)
        hits.append(clock("detect", DETECT, planes, context))
    return gathered(DETECT, hits)


def finish(path, hits, clock):
    """Merge and measure; give candidates and detections."""
    store = TileStore.open(path)
    names = (*PLANES, *({"science"} & set(store.planes)))
    planes = clock("read tiles", _read, store, names, 0, 0, *store.info.shape)
    streaks = clock("merge", MERGE, {"hit": hits, **planes}, Context(store.info, None, SETTINGS.merge))
    context = Context(store.info, None, SETTINGS.measure, models_of(MEASURE, SETTINGS))
    return streaks, clock("measure", MEASURE, {"streak": streaks, **planes}, context)


def _read(store, names, *box):
    return {name: store.read(name, *box) for name in names}
