"""Time of the default detector's search of cells beside the search of windows:
``python -m benchmarks.speed.search_cells``.

Both search a quadrant of 3080 x 3072 px in both precisions, in turns in one process: processor time on one thread, and
on two threads the least time of all rounds by the clock on the wall. Then the cells' log odds in bfloat16 beside those
in float32 on some exposures: how far they move near the threshold, and how many hits come or go.
"""

from time import perf_counter, process_time

import numpy as np
from scipy.special import logit

from benchmarks.speed.bench_windows import cell_ways
from benchmarks.support.command_line import command_line
from benchmarks.support.page import machine, table
from flows.pipeline.models import load_model
from flows.training.bench.exposure import bench_exposure, shipped_net, use_threads
from flows.training.bench.search import search_variants
from flows.training.bench.ways import interleaved

NEAR = 1.0
"""Log odds on either side of the threshold."""
LABELS = {
    "cells_f32": "`streak_net`, cells, float32",
    "cells_bf16": "`streak_net`, cells, bfloat16",
    "fused_f32": "`basic_cnn`, fused windows, float32",
    "fused_bf16": "`basic_cnn`, fused windows, bfloat16",
}


def ways(exposure):
    """Return the four ways by name."""
    net, card = shipped_net()
    windows = search_variants(exposure.pixels, net, float(logit(card.threshold)))
    both = cell_ways(exposure) | windows
    return {name: both[name] for name in LABELS}


def seconds(variants, threads, repeats):
    """Return processor time on one thread, or the least time by the clock on several, by name; repeats take turns."""
    use_threads(threads)
    for variant in variants.values():
        variant()  # compiles
    timed = interleaved(variants, repeats, process_time if threads == 1 else perf_counter)
    return timed.medians if threads == 1 else {name: min(rounds) for name, rounds in timed.rounds.items()}


def moved(exposures):
    """Return the deviation of bfloat16's log odds near the threshold, the number of hits, and of those that differ."""
    floor = float(logit(load_model("detect", "streak_net").card.threshold))
    differences, hits, changed = [], 0, 0
    for seed in range(exposures):
        exact, half = (way().ravel() for way in cell_ways(bench_exposure(seed=100 + seed)).values())
        near = np.abs(exact - floor) < NEAR
        differences.append(half[near] - exact[near])
        hits += int((exact >= floor).sum())
        changed += int(((exact >= floor) != (half >= floor)).sum())
    return float(np.concatenate(differences).std()), hits, changed


def main():
    """Measure and print."""
    given = command_line(__doc__, repeats=7, exposures=4)
    variants = ways(bench_exposure())
    one, two = (seconds(variants, threads, given.repeats) for threads in (1, 2))
    rows = [
        (label, f"{one[name]:.2f}", f"{one['fused_f32'] / one[name]:.2f}", f"{two[name]:.2f}")
        for name, label in LABELS.items()
    ]
    print(machine(2))
    print(table(("search", "one thread, s of processor", "`basic_cnn` float32 / this", "two threads, s"), rows))
    spread, hits, changed = moved(given.exposures)
    print(f"bfloat16: log odds move by {spread:.3f} near the threshold; {changed} of {hits} hits come or go")


if __name__ == "__main__":
    main()
