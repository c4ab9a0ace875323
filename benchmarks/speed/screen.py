"""Search with its screen and without, on simulated exposures:

    python -m benchmarks.speed.screen [--streaks 2000]

Both search the same tiles, in turns, in this process; both are merged, measured and matched to the truth. Every
exposure is new: training used other seeds. Only a search of windows can have a screen.
"""

import os
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter, process_time

import pyarrow as pa

from benchmarks.detection.peers.scenes import true_scenes
from benchmarks.support.command_line import command_line
from benchmarks.support.page import machine, show, table
from flows.pipeline.models import load_model
from flows.pipeline.search_pixels import search_pixels
from flows.results.evaluation.evaluate import Image, evaluate
from flows.results.evaluation.published import evaluated
from flows.simulation.presets import find_preset
from flows.training.bench.exposure import use_threads
from kernels.statistics.completeness import Share
from schemas.settings import Settings

PRESETS = ("ztf", "ztf", "llnl")
"""Presets used in turns."""

SEED = 910_000
"""Seed of the first exposure; training used others."""

SETTINGS = Settings()


@dataclass(frozen=True)
class Outcome:
    """Detections of one way of searching on one exposure, and the seconds of its search: elapsed, and of processors."""

    hits: pa.Table
    sources: pa.Table
    wall: float
    cpu: float


@dataclass(frozen=True)
class Row:
    """Exposure with the outcome of each way, its number of windows, and the number that the screen lets pass."""

    preset: str
    truth: object
    outcomes: dict
    windows: int
    passed: int


def ways(model):
    """Return the searches that are compared, by name."""
    return {
        "float32": replace(load_model("detect", model), screen=None),
        "fastest precision": replace(load_model("detect", model, precision="auto"), screen=None),
        "with the screen": load_model("detect", model, precision="auto"),
    }


def search(exposure, scorer):
    """Search all tiles of an exposure."""
    models = {"detect": scorer}
    return search_pixels(exposure.planes, exposure.info, SETTINGS, until="hit", models=models)["hit"]


def run(exposure, scorer, verdict):
    """Search, merge and measure an exposure."""
    wall, cpu = perf_counter(), process_time()
    hits = search(exposure, scorer)
    wall, cpu = perf_counter() - wall, process_time() - cpu
    models = {"reliability": verdict}
    found = search_pixels(exposure.planes, exposure.info, SETTINGS, given={"hit": hits}, models=models)
    return Outcome(hits.rows, found["dia_source"].rows, wall, cpu)


def passed(exposure, scorer):
    """Count the windows that are scored, and those that the screen leaves to the network."""
    pixels, found = exposure.pixels, scorer.windows
    features, scored = found.features(pixels.image, pixels.usable, pixels.background, pixels.grid, pixels.stride)
    return int(scored.sum()), int((found.screen(features[scored]) >= found.screen.level).sum())


def measure(model, wanted, per_image, seed):
    """Simulate and search exposures until they hold that many streaks that count; yield a row for each."""
    scorers, verdict = ways(model), load_model("reliability", model)
    streaks = number = 0
    while streaks < wanted:
        preset = PRESETS[number % len(PRESETS)]
        (scene,) = true_scenes(find_preset(preset, per_image), 1, seed + number)
        if not number:  # compiles
            for scorer in scorers.values():
                search(scene.exposure, scorer)
        turn = list(scorers) if number % 2 else list(scorers)[::-1]
        outcomes = {name: run(scene.exposure, scorers[name], verdict) for name in turn}
        outcomes = {name: outcomes[name] for name in scorers}
        yield Row(preset, scene.truth, outcomes, *passed(scene.exposure, scorers["with the screen"]))
        streaks += int(scene.truth.targets.counted.sum())
        number += 1


def summary(rows, name, exact):
    """Return the row of the table for one way, compared with another."""
    mine = [row.outcomes[name] for row in rows]
    judged = evaluate(Image(evaluated(one.sources), row.truth) for one, row in zip(mine, rows, strict=True))
    others = [row.outcomes[exact] for row in rows]
    share = Share(int(judged.found.sum()), len(judged.found))
    bright = judged.snr >= 10
    share10 = Share(int(judged.found[bright].sum()), int(bright.sum()))
    return (
        name,
        f"{median(one.cpu for one in mine):.3f}",
        f"{median(one.wall for one in mine):.3f}",
        sum(missing(other.hits, one.hits) for other, one in zip(others, mine, strict=True)),
        sum(
            missing(other.sources, one.sources) + missing(one.sources, other.sources)
            for other, one in zip(others, mine, strict=True)
        ),
        interval(share),
        interval(share10),
        f"{judged.false_per_image:.2f}",
    )


def missing(these, those):
    """Return the number of rows of one table that another does not have, to the last bit."""
    kept = set(map(repr, those.to_pylist()))
    return sum(repr(row) not in kept for row in these.to_pylist())


def interval(share):
    low, high = share.interval
    return f"{share.found} of {share.n}: {share.value:.4f} ({low:.4f}–{high:.4f})"


def report(rows, threads):
    """Return the Markdown of what was measured."""
    headings = ("search", "processor s", "elapsed s", "hits lost", "detections changed",
                "completeness (95 %)", "S/N ≥ 10", "false per image")  # fmt: skip
    counts = {preset: sum(row.preset == preset for row in rows) for preset in dict.fromkeys(PRESETS)}
    images = " and ".join(f"{count} `{preset}`" for preset, count in counts.items() if count)
    hits = sum(len(row.outcomes["float32"].hits) for row in rows)
    detections = sum(len(row.outcomes["float32"].sources) for row in rows)
    share = sum(row.passed for row in rows) / sum(row.windows for row in rows)
    each = [row.passed / row.windows for row in rows]
    ratios = {
        kind: median(getattr(row.outcomes["float32"], kind) / getattr(row.outcomes["with the screen"], kind)
                     for row in rows)
        for kind in ("cpu", "wall")
    }  # fmt: skip
    return (
        f"{images} exposures of 3080 x 3072 px, {hits} hits, {detections} detections. "
        f"{machine(threads)}.\n\n"
        + table(headings, [summary(rows, name, "float32") for name in rows[0].outcomes])
        + f"\n\nWindows that the screen left to the network: {share:.2%} ({min(each):.2%} to {max(each):.2%} of an "
        f"exposure's). Times are medians per exposure; the search with the screen takes {ratios['cpu']:.1f} times less "
        f"processor time than float32, {ratios['wall']:.1f} times less elapsed time."
    )


def main():
    """Measure and print; exit status 1 if the screen costs a detected streak."""
    chosen = command_line(
        __doc__,
        streaks=(2000, "injected streaks to look at, at least"),
        model=("basic_cnn", "shipped name, folder or URL"),
        per_image=(100, "streaks on each exposure"),
        seed=(SEED, "of the first exposure"),
        threads=len(os.sched_getaffinity(0)),
    )
    threads = use_threads(chosen.threads)
    rows = []
    for row in measure(chosen.model, chosen.streaks, chosen.per_image, chosen.seed):
        rows.append(row)
        lost = missing(row.outcomes["float32"].hits, row.outcomes["with the screen"].hits)
        print(f"exposure {len(rows)}: {row.passed / row.windows:.2%} of windows passed, {lost} hits lost", flush=True)
    found = [
        evaluate(Image(evaluated(row.outcomes[name].sources), row.truth) for row in rows).found
        for name in ("float32", "with the screen")
    ]
    lost = int((found[0] & ~found[1]).sum())
    print(f"\nstreaks found without the screen and not with it: {lost}")
    shipped = ("detect/basic_cnn", "screen/basic_cnn", "reliability/basic_cnn")
    show(report(rows, threads), shipped if chosen.model == "basic_cnn" else ())
    raise SystemExit(int(lost > 0))


if __name__ == "__main__":
    main()
