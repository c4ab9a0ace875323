"""Time one 3080 x 3072 exposure stage by stage, and the search beside the plain way of doing it.

``python -m benchmarks.bench_quadrant [--threads N]`` prints a Markdown table; see docs/performance.md.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from flows.adapters.sources import list_sources
from flows.adapters.weights import load_model
from flows.adapters.zarr_tiles import TileStore, write_exposure
from flows.ingest import prepare
from flows.simulation.night import Night, simulate_night
from flows.simulation.presets import find_preset
from schemas.mask import UNUSABLE
from schemas.settings import Settings
from schemas.stage import Context
from schemas.tiles import Tiling
from stages.detect import STAGE as DETECT
from stages.measure import STAGE as MEASURE
from stages.merge import STAGE as MERGE


def plain_way(image, usable, background, net):
    """Loop over windows, z-score each with numpy, batches of 64: the probability of every window."""
    found, batch = [], []
    rows, columns = Tiling(image.shape).grid
    with torch.inference_mode():
        for row in range(rows):
            for column in range(columns):
                box = (slice(row * 7, row * 7 + 26), slice(column * 7, column * 7 + 26))
                good, window = usable[box], image[box]
                std = window[good].std() if 2 * good.sum() >= good.size else 0.0
                filled = np.where(good, window, background)
                batch.append((filled - window[good].mean()) / std if std > 0 else np.zeros_like(window))
                if len(batch) == 64:
                    found.append(net(torch.from_numpy(np.stack(batch)[:, None].astype(np.float32))))
                    batch = []
        if batch:
            found.append(net(torch.from_numpy(np.stack(batch)[:, None].astype(np.float32))))
    return torch.cat(found)


def timed(times, name, function):
    """Call ``function``; add the seconds it took to ``times[name]``."""
    start = time.perf_counter()
    result = function()
    times[name] = times.get(name, 0.0) + time.perf_counter() - start
    return result


def pipeline(source, settings, models, folder):
    """Run an exposure through every stage in this process; give seconds per step."""
    times = {}
    info, planes = timed(times, "read and prepare", lambda: prepare(source, settings))
    path = folder / "bench.zarr"
    timed(times, "write tiles", lambda: write_exposure(path, info, planes, settings.tiles, "bench"))

    store = TileStore.open(path)
    hits = []
    for tile in Tiling(info.shape).tiles():
        box = (tile.y0, tile.x0, tile.y1, tile.x1)
        pixels = timed(times, "read tiles", lambda box=box: {n: store.read(n, *box) for n in ("difference", "mask")})
        context = Context(info, tile, settings.detect, models)
        hits.append(timed(times, "detect", lambda p=pixels, c=context: DETECT(p, c)))
    import pyarrow as pa

    hit = pa.concat_tables([one.replace_schema_metadata(None) for one in hits])
    whole = timed(times, "read tiles", lambda: {name: store.read_all(name) for name in ("difference", "mask")})
    streak = timed(times, "merge", lambda: MERGE({"hit": hit, **whole}, Context(info, None, settings.merge)))
    measured = Context(info, None, settings.measure, models)
    timed(times, "measure", lambda: MEASURE({"streak": streak, **whole}, measured))
    return times, (len(hit), len(streak)), (info, whole)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    import numba

    numba.set_num_threads(min(chosen.threads, numba.config.NUMBA_NUM_THREADS))
    settings = Settings()
    models = {"detect": load_model("detect", "basic_cnn"), "reliability": load_model("reliability", "verdict")}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        simulate_night(Night(find_preset("ztf"), 11, 1, 1, folder / "raw"))
        (source,) = list_sources([str(folder / "raw")], settings)
        pipeline(source, settings, models, folder)  # compiles
        runs = []
        for _ in range(chosen.repeats):
            times, counts, (info, whole) = pipeline(source, settings, models, folder)
            runs.append(times)
        usable = (whole["mask"] & np.uint16(UNUSABLE)) == 0
        plain = {}
        timed(plain, "plain", lambda: plain_way(whole["difference"], usable, info.background, models["detect"].net))
    best = {name: sorted(run[name] for run in runs)[len(runs) // 2] for name in runs[0]}
    print(f"{chosen.threads} threads, median of {chosen.repeats}; {counts[0]} hits, {counts[1]} candidates\n")
    print("| step | s | share |\n| --- | ---: | ---: |")
    for name, seconds in best.items():
        print(f"| {name} | {seconds:.2f} | {seconds / sum(best.values()):.0%} |")
    print(f"| **whole exposure** | **{sum(best.values()):.2f}** | |")
    print(f"| plain way, search alone | {plain['plain']:.2f} | {plain['plain'] / best['detect']:.1f} x detect |")
    print(f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
