"""Work on one exposure, step by step in this process as in a worker, with the seconds of each step."""

from time import perf_counter

from flows.inputs.ingest import prepare
from flows.nights.exposure_work import search_tiles
from flows.pipeline.search_pixels import search_pixels
from flows.pipeline.stage_run import search_grid
from flows.runtime.traces import OTHER, Timer
from flows.storage.zarr_tiles import TileStore, write_exposure
from schemas.settings import Settings

SETTINGS = Settings()


class Clock(dict):
    """Seconds by step."""

    def __call__(self, step, function, *arguments):
        """Call a function and add the time it takes to a step."""
        start = perf_counter()
        result = function(*arguments)
        self[step] = self.get(step, 0.0) + perf_counter() - start
        return result

    def add(self, seconds):
        """Add the seconds of steps that were timed elsewhere, but not what lies between them."""
        for step, value in seconds.items():
            if step != OTHER:
                self[step] = self.get(step, 0.0) + value


def ingest(source, path, clock):
    """Read an exposure, measure its noise, write its tiles."""
    info, planes = clock("read, check, measure noise", prepare, source, SETTINGS)
    clock("write tiles", write_exposure, path, info, planes, SETTINGS.tiles, "bench")


def search(path, clock):
    """Search an exposure tile by tile; return its hits."""
    shape = TileStore.open(path).info.shape
    searched = search_tiles(path, search_grid(SETTINGS.detect).tiling(shape, SETTINGS.tiles.tile).tiles(), SETTINGS)
    clock.add(searched.seconds)
    return searched.results["hit"]


def finish(path, hits, clock):
    """Merge and measure; return candidates and detections."""
    store = TileStore.open(path)
    names = [name for name in ("difference", "mask", "science") if name in store.planes]
    planes = clock("read tiles", lambda: {name: store.read_all(name) for name in names})
    timer = Timer(spans=False)
    found = search_pixels(planes, store.info, SETTINGS, given={"hit": hits}, timer=timer)
    clock.add(timer.seconds())
    return found["streak"].rows, found["dia_source"].rows
