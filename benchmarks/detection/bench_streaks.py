"""Streak finding beside peers on the same simulated images: ``python -m benchmarks.detection.bench_streaks``.

Every peer gets the same pixels, mask and background, and is judged by the same truth and matching rule as
`nightstride evaluate detect`. acstools comes with the extra ``bench``; without it findsat_mrt is left out.
"""

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.detection.peers.astride_method import astride_streaks
from benchmarks.detection.peers.findsat import findsat_streaks
from benchmarks.detection.peers.ours import ours
from benchmarks.detection.peers.scenes import true_scenes
from benchmarks.detection.peers.sep_elongation import sep_streaks
from benchmarks.support.page import IMAGES, machine, options, show, table
from flows.results.evaluation.evaluate import Image, evaluate
from flows.results.evaluation.pictures import new_figure, save
from flows.results.evaluation.summary import curve, summarise
from kernels.statistics.matching import on_satellite

SCENES = {"ztf": 6, "llnl": 3}
"""Number of images for each preset."""

SEED = 4711
"""Seed of the simulation; training used others."""


@dataclass(frozen=True)
class Outcome:
    """Result of one peer on the images of one preset."""

    seconds: float
    evaluation: object
    satellites: tuple[int, int]


def peers(threads):
    """Return every peer by name."""
    found = {
        "**nightstride**": ours,
        "findsat_mrt (acstools)": partial(findsat_streaks, threads=threads),
        "ASTRiDE's method": astride_streaks,
        "sep, 1.5 sigma, a/b ≥ 2": partial(sep_streaks, threshold=1.5),
        "sep, 3 sigma, a/b ≥ 2": sep_streaks,
    }
    if find_spec("acstools") is None:
        print("acstools is not installed: findsat_mrt is left out. To fix, pip install '.[bench]'.")
        del found["findsat_mrt (acstools)"]
    return found


def run(peer, scenes):
    """Search the scenes with one peer."""
    images, seconds, satellites = [], [], np.zeros(2, int)
    for scene in scenes:
        start = perf_counter()
        found = peer(scene.exposure)
        seconds.append(perf_counter() - start)
        images.append(Image(found, scene.truth))
        satellites += _satellites(found, scene.truth)
    return Outcome(median(seconds), evaluate(images), tuple(satellites.tolist()))


def _satellites(found, truth):
    """Return the numbers of satellites with a detection on their line, and of all satellites."""
    lines = [truth.take(np.array([i])).targets for i in np.flatnonzero(truth.kind == "satellite")]
    return sum(bool(on_satellite(found.x, found.y, line).any()) for line in lines), len(lines)


def row(name, outcomes):
    """Return the row of the table."""
    ztf, llnl = (summarise(outcomes[preset].evaluation) for preset in SCENES)
    found, there = np.sum([one.satellites for one in outcomes.values()], axis=0)
    return (
        name,
        f"{outcomes['ztf'].seconds:.2f}",
        _share(ztf["c10"]),
        _share(ztf["completeness"]["completeness"]),
        f"{ztf['false_per_image']:.1f}",
        _share(llnl["c10"]),
        _share(llnl["completeness"]["completeness"]),
        f"{llnl['false_per_image']:.1f}",
        f"{found} of {there}",
    )


def _share(value):
    return "" if value is None else f"{value:.2f}"


def draw(found):
    """Draw completeness against false streaks, and seconds per image."""
    figure, (trade, time) = new_figure(2)
    colours = ("#1f5fa8", "#c8791a", "#3d8f5f", "#a83232", "#8a5aa8")
    for (name, outcomes), colour in zip(found.items(), colours, strict=False):
        evaluation, label = outcomes["ztf"].evaluation, name.strip("*")
        points = [(max(each["false_per_image"], 0.1), each["c10"]) for each in curve(evaluation)]
        if points:
            trade.plot(*np.array(points).T, color=colour, linewidth=1)
        figures = summarise(evaluation)
        trade.plot(max(figures["false_per_image"], 0.1), figures["c10"], "o", color=colour, label=label)
        time.barh(label, outcomes["ztf"].seconds, color=colour)
        time.text(outcomes["ztf"].seconds * 1.08, label, f"{outcomes['ztf'].seconds:.2f} s", va="center", fontsize=8)
    trade.set(
        xscale="log", xlabel="false streaks per image (0.1: none)", ylabel="completeness, S/N ≥ 10", ylim=(-0.03, 1)
    )
    trade.legend(fontsize=7, loc="upper right")
    time.set(xscale="log", xlabel="seconds per image", xlim=(0.1, 4 * time.get_xlim()[1]))
    time.invert_yaxis()
    return save(figure, IMAGES / "bench_streaks.png")


def main():
    """Measure and print."""
    chosen = options(__doc__, repeats=1)
    scenes = {preset: true_scenes(preset, count, SEED) for preset, count in SCENES.items()}
    everyone = peers(chosen.threads)
    everyone["**nightstride**"](scenes["ztf"][0].exposure)  # compiles
    found = {name: {preset: run(peer, scenes[preset]) for preset in SCENES} for name, peer in everyone.items()}
    counts = {preset: len(found["**nightstride**"][preset].evaluation.snr) for preset in SCENES}
    headings = ("", "s / image", "`ztf`: S/N ≥ 10", "all", "false / image", "`llnl`: S/N ≥ 10", "all", "false / image")
    images = " and ".join(f"{n} `{preset}` images with {counts[preset]} streaks" for preset, n in SCENES.items())
    text = (
        f"Completeness and false streaks on {images} (3080 x 3072 px, `--seed {SEED}`), median seconds from "
        f"pixels to list. {machine(chosen.threads)}.\n\n"
        + table((*headings, "satellites"), [row(name, outcomes) for name, outcomes in found.items()])
        + "\n\n![Completeness against false streaks, and time](../images/bench_streaks.png)"
    )
    if chosen.draw:
        draw(found)
    show(text)


if __name__ == "__main__":
    main()
