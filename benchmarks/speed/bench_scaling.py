"""Growth of time and memory with image size, quadrants and workers: ``python -m benchmarks.speed.bench_scaling``.

Image size: a simulated exposure repeated to 1,024 ... 8,192 px square, in tile stores; each is searched, merged and
measured in a fresh process, the second time timed, and its peak memory read. No satellite crosses the exposure: cut up
and repeated, its trail would have another length in each size, and a fit takes time with its length. Quadrants and
workers: `nightstride run` as a user starts it, from the moment its workers stand to the last catalogue.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.support.night_runs import quadrants, searching_seconds
from benchmarks.support.page import IMAGES, machine, options, show, table
from benchmarks.support.plot import log_axes, panels
from benchmarks.support.power_law import fit_power_law
from flows.results.evaluation.pictures import save
from flows.storage.zarr_tiles import write_exposure
from flows.training.bench.exposure import bench_exposure
from schemas.settings import Settings

SIDES = (1024, 2048, 4096, 8192)
EMPTY_OF_SATELLITES = 12
"""Seed without satellites."""
COUNTS = (1, 2, 4, 8, 16, 32, 64)
SMALL = (770, 768)
"""Sides, px, of a sixteenth of a quadrant: 64 of these are four quadrants."""

FEW, MANY = 4, 16
"""Full quadrants per worker count: their difference excludes the fixed costs of a run."""


@dataclass(frozen=True)
class Sizes:
    """Medians by side of the image: s, s, MiB and MiB above the warm process."""

    search: list[float]
    finish: list[float]
    peak_search: list[float]
    peak_all: list[float]
    idle: float


def sizes(folder, threads, repeats):
    """Time each size in fresh processes, in turns."""
    small = _store(folder, 512)
    stores = [_store(folder, side) for side in SIDES]
    rounds = [[_size_pass(small, store, threads) for store in stores] for _ in range(repeats)]

    def medians(of):
        return [median(of(found[i]) for found in rounds) for i in range(len(SIDES))]

    return Sizes(
        medians(lambda one: one["search"]),
        medians(lambda one: one["finish"]),
        medians(lambda one: one["peaks"][1]),
        medians(lambda one: one["peaks"][2]),
        median(medians(lambda one: one["peaks"][0])),
    )


def _store(folder, side):
    exposure = bench_exposure(seed=EMPTY_OF_SATELLITES)
    ny, nx = exposure.info.shape
    margins = ((0, max(side - ny, 0)), (0, max(side - nx, 0)))
    planes = {
        "difference": np.pad(exposure.difference, margins, "wrap")[:side, :side],
        "mask": np.pad(exposure.mask, margins, "wrap")[:side, :side],
    }
    path = folder / f"{side}.zarr"
    write_exposure(path, exposure.info.model_copy(update={"shape": (side, side)}), planes, Settings().tiles, "bench")
    return path


def _size_pass(small, store, threads):
    command = [sys.executable, "-m", "benchmarks.speed.size_pass", str(small), str(store), str(threads)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def many_quadrants(folder, workers):
    """Return the seconds for 1 to 64 small quadrants."""
    files = quadrants(folder / "small", max(COUNTS), SMALL)
    return [searching_seconds(files[:count], folder / f"out-{count}", workers) for count in COUNTS]


def per_quadrant(files, folder, workers, repeats):
    """Return the seconds for one more full quadrant, by number of workers; medians over rounds that take turns."""
    searching_seconds(files[:1], folder / "warm", 1)  # compiles, fills the page cache
    rounds = {count: [] for count in workers}
    for turn in range(repeats):
        for count in workers:
            few, many = (
                searching_seconds(files[:number], folder / f"out-{turn}-{count}-{number}", count)
                for number in (FEW, MANY)
            )
            rounds[count].append((many - few) / (MANY - FEW))
    return {count: median(seconds) for count, seconds in rounds.items()}


def without_science(files, folder):
    """Link difference images and their PSFs into a folder of their own; return the former."""
    folder.mkdir()
    for file in files:
        for one in (file, file.with_name(file.name.replace("scimrefdiffimg.fits.fz", "diffimgpsf.fits"))):
            (folder / one.name).symlink_to(one)
    return [folder / file.name for file in files]


def draw(found, counts, workers):
    """Draw time and memory against size, time against quadrants, throughput against workers."""
    figure, ((time, memory), (night, speed)) = panels(2, 2)
    pixels, names = np.array(SIDES, float) ** 2 / 1e6, [f"{side:,}²" for side in SIDES]
    for label, seconds, colour in (("search", found.search, "#1f5fa8"), ("merge, measure", found.finish, "#c8791a")):
        power_line(time, pixels, seconds, label, colour)
    log_axes(time, pixels, names, "pixels", "s")
    for label, peak, colour in (("search", found.peak_search, "#1f5fa8"), ("all", found.peak_all, "#c8791a")):
        memory.plot(pixels, peak, "o-", color=colour, linewidth=1, label=label)
    memory.axhline(found.idle, color="#9a9a9a", linestyle="--", linewidth=1, label="warm process")
    memory.set(xscale="log", ylim=(0, 1.15 * max(found.peak_all)), xlabel="pixels", ylabel="peak memory, MiB")
    memory.set_xticks(pixels, names)
    memory.minorticks_off()
    power_line(night, COUNTS, counts, f"{max(workers)} workers", "#1f5fa8")
    log_axes(night, COUNTS, COUNTS, f"quadrants of {SMALL[0]} x {SMALL[1]} px", "s")
    rates = [workers[min(workers)] / seconds for seconds in workers.values()]
    speed.plot(list(workers), rates, "o-", color="#1f5fa8", label="full quadrants")
    speed.plot(list(workers), list(workers), color="#9a9a9a", linestyle="--", linewidth=1, label="ideal")
    speed.set(xlabel="workers", ylabel="times faster than one", xticks=list(workers), ylim=(0, None))
    for panel in (time, memory, night, speed):
        panel.legend(fontsize=8)
    return save(figure, IMAGES / "bench_scaling.png")


def power_line(panel, x, y, label, colour):
    """Draw points and the power law through them."""
    law = fit_power_law(x, y)
    panel.plot(x, y, "o", color=colour, label=f"{label}: exponent {law}")
    panel.plot(x, law(x), color=colour, linewidth=1)


def describe(found, counts, workers, with_science, chosen):
    """Return the Markdown of the section."""
    pixels = np.array(SIDES, float) ** 2
    by_size = [
        (f"{side} x {side} px", f"{a:.2f}", f"{b:.2f}", f"{a + b:.2f}", f"{c:.0f}", f"{d:.0f}")
        for side, a, b, c, d in zip(SIDES, found.search, found.finish, found.peak_search, found.peak_all, strict=True)
    ]
    series = (found.search, found.finish, np.add(found.search, found.finish), found.peak_search, found.peak_all)
    by_size.append(("**exponent, in pixels**", *(str(fit_power_law(pixels, one)) for one in series)))
    law = fit_power_law(COUNTS, counts)
    slope = (counts[-1] - counts[-4]) / (COUNTS[-1] - COUNTS[-4])
    speed = [
        (count, *(f"{value:.2f}" for one in (workers, with_science) for value in (one[count], one[1] / one[count])))
        for count in workers
    ]
    return "\n\n".join(
        (
            f"Image size, one process, {machine(chosen.threads)}; medians of {chosen.repeats} fresh processes (the "
            f"warm process alone: {found.idle:.0f} MiB):",
            table(
                ("image", "search, s", "merge + measure, s", "together, s", "peak, search, MiB", "peak, all, MiB"),
                by_size,
            ),
            f"Workers of one thread each, `nightstride run` on full quadrants, seconds for one more quadrant (a run of "
            f"{MANY} less one of {FEW}, over {MANY - FEW}); medians of {chosen.repeats}:",
            table(
                (
                    *("workers", "difference image alone, s / quadrant", "times faster than 1"),
                    *("with its science image, s / quadrant", "times faster than 1"),
                ),
                speed,
            ),
            f"Quadrants, {max(workers)} workers, `nightstride run` on quadrants of {SMALL[0]} x {SMALL[1]} px (a "
            f"sixteenth of a full one), one run each, start-up and page left out "
            f"(the exponent is below 1 because the flow itself takes most of a second to begin and to end):",
            table(
                ("quadrants", *(str(count) for count in COUNTS), "exponent", "s / quadrant, last 56"),
                [("s", *(f"{seconds:.1f}" for seconds in counts), law, f"{slope:.2f}")],
            ),
            "![Scaling](../images/bench_scaling.png)",
        )
    )


def main():
    """Measure and print."""
    chosen = options(__doc__, repeats=3)
    workers = list(range(1, chosen.threads + 1))
    with tempfile.TemporaryDirectory(prefix="nightstride-bench-") as scratch:
        folder = Path(scratch)
        found = sizes(folder, chosen.threads, chosen.repeats)
        files = quadrants(folder / "full", MANY)
        alone = without_science(files, folder / "alone")
        speed = per_quadrant(alone, folder / "alone-out", workers, chosen.repeats)
        with_science = per_quadrant(files, folder / "full-out", workers, chosen.repeats)
        counts = many_quadrants(folder, max(workers))
    if chosen.draw:
        draw(found, counts, speed)
    show(describe(found, counts, speed, with_science, chosen))


if __name__ == "__main__":
    main()
