"""Times of a 3080 x 3072 exposure step by step, and the plain way's search:
``python -m benchmarks.speed.bench_quadrant``."""

import resource
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.speed.exposure_pass import SETTINGS, Clock, finish, ingest, search
from benchmarks.support.page import IMAGES, machine, options, show, table
from flows.inputs.sources import list_sources
from flows.results.evaluation.pictures import new_figure, save
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from flows.storage.zarr_tiles import TileStore
from flows.training.bench.exposure import shipped_net
from flows.training.bench.ways import Pixels, plain_logits

COLOURS = ("#8a5aa8", "#b9a3cc", "#c8c8c8", "#1f5fa8", "#3d8f5f", "#c8791a")


def one_pass(source, path):
    """Run every step on an exposure; return seconds by step, hits, candidates and detections."""
    clock = Clock()
    ingest(source, path, clock)
    hits = search(path, clock)
    streaks, sources = finish(path, hits, clock)
    return clock, (hits.rows.num_rows, streaks.num_rows, sources.num_rows)


def plain_seconds(path, net):
    """Return the seconds of the plain way's search of the same pixels, with `basic_cnn`."""
    store = TileStore.open(path)
    pixels = Pixels.of(store.info, store.read_all("difference"), store.read_all("mask"))
    start = perf_counter()
    plain_logits(pixels, net)
    return perf_counter() - start


def measure(repeats):
    """Return medians of the steps, counts and the median of the plain way; exposure and plain way take turns."""
    net, _ = shipped_net()
    with tempfile.TemporaryDirectory(prefix="nightstride-bench-") as scratch:
        folder = Path(scratch)
        simulate_night(SimulatedNight(find_preset("ztf"), 11, 1, 1, folder / "raw"))
        (source,) = list_sources([str(folder / "raw")], SETTINGS)
        path = folder / "bench.zarr"
        one_pass(source, path)  # compiles
        clocks, plain = [], []
        for _ in range(repeats):
            clock, counts = one_pass(source, path)
            clocks.append(clock)
            plain.append(plain_seconds(path, net))
    return {step: median(clock[step] for clock in clocks) for step in clocks[0]}, counts, median(plain)


def draw(steps, plain):
    """Draw one stacked bar, above that of the plain way's search."""
    figure, (panel,) = new_figure()
    figure.set_size_inches(7.2, 2.6)
    left = 0.0
    for (step, seconds), colour in zip(steps.items(), COLOURS, strict=True):
        panel.barh("nightstride", seconds, left=left, color=colour, label=f"{step}, {seconds:.2f} s")
        left += seconds
    panel.barh("plain way of\nbasic_cnn,\nsearch alone", plain, color="#9a9a9a")
    panel.invert_yaxis()
    panel.set(xlabel="seconds per exposure")
    panel.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return save(figure, IMAGES / "bench_quadrant.png")


def main():
    """Measure and print."""
    chosen = options(__doc__, repeats=5)
    steps, (hits, streaks, sources), plain = measure(chosen.repeats)
    total = sum(steps.values())
    rows = [(step, f"{seconds:.2f}", f"{seconds / total:.0%}") for step, seconds in steps.items()]
    rows += [
        ("**whole exposure**", f"**{total:.2f}**", ""),
        ("plain way of `basic_cnn`, search alone", f"{plain:.2f}", f"whole exposure / this: {total / plain:.2f}"),
    ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    text = (
        f"One 3080 x 3072 px ZTF-like exposure in one warm process, file to catalogue, median of {chosen.repeats}; "
        f"{hits:,} hits, {streaks} candidates, {sources} detections. {machine(chosen.threads)}.\n\n"
        + table(("step", "s", "share"), rows)
        + f"\n\nPeak memory of the process, with the plain way's: {peak:.2f} GiB.\n\n"
        "![Seconds of each step](../images/bench_quadrant.png)"
    )
    if chosen.draw:
        draw(steps, plain)
    show(text)


if __name__ == "__main__":
    main()
