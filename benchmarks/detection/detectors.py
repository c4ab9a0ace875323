"""Comparison of the shipped detectors: ``python -m benchmarks.detection.detectors``.

Simulates exposures that no training has seen, searches them with every detector of ``stages/weights/detect``, and
prints completeness at equal numbers of false positions per image: by the detector's own scores, and by the reliability
model on what the stages behind it make of them. Writes ``docs/measured/detectors.json`` and, of the first and the last
sky, ``docs/images/detectors_SKY.png``; its tables are of ``docs/measured/detection.md``.
"""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from scipy.stats import binomtest, norm

from benchmarks.support.command_line import command_line
from benchmarks.support.page import IMAGES, ROOT, show, table
from flows.pipeline.models import load_model
from flows.pipeline.search_pixels import search_pixels
from flows.results.evaluation.pictures import new_figure, save
from flows.storage.zarr_tiles import TileStore
from flows.training.cells import RecoveryCurve, level_at, share_found
from flows.training.detect import MOVING
from flows.training.example_sets import make_examples
from flows.training.examples import Example, Wanted, truth_targets
from kernels.measure.vetoes.evidence import refused
from kernels.search.detector import Detector
from kernels.statistics.completeness import SNR_EDGES, Share, fit_completeness
from schemas.exposure import ExposureInfo
from schemas.settings import NOISE_ALONE, Settings
from schemas.stage import Context
from stages.measure import measure_all

NAMES = sorted(card.stem for card in (ROOT / "stages" / "weights" / "detect").glob("*.json"))
RATES = (0.5, 1.0)
REFERENCE = "streak_net"
SETTINGS = Settings.model_validate({})  # whatever the environment says


Detections = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""x, y, px, and reliability of detections that are bright enough to be published and not refused."""


@dataclass(frozen=True)
class Found:
    """Detections of a detector: by its own scores, by the reliability model with and without science images.

    ``published_false``, per image, is counted at the threshold of the card; seconds are processor time of the detector,
    per image.
    """

    own: list[RecoveryCurve]
    judged: list[RecoveryCurve]
    blind: list[RecoveryCurve]
    seconds: list[float]
    published_false: float


def look(name: str, examples: Sequence[Example]) -> Found:
    """Search exposures with a detector, one tile each."""
    detector: Detector = load_model("detect", name, precision="auto")
    verdict = load_model("reliability", name)
    found, false = Found([], [], [], [], 0.0), 0
    for example in examples:
        store = TileStore.open(example.store)
        planes = {plane: store.read_all(plane) for plane in ("difference", "mask", "science")}
        start = time.process_time()
        hits = search_pixels(planes, store.info, SETTINGS, until="hit", models={"detect": detector}, whole=True)["hit"]
        found.seconds.append(time.process_time() - start)
        planes["streak"] = search_pixels(planes, store.info, SETTINGS, until="streak", given={"hit": hits})[
            "streak"
        ].rows
        found.own.append(recovered(spots(hits.rows, detector), example))
        found.judged.append(recovered(judge(planes, store.info, verdict), example))
        found.blind.append(recovered(judge(planes | {"science": None}, store.info, verdict), example))
        false += int((found.judged[-1].false >= verdict.card.threshold).sum())
    return replace(found, published_false=false / len(examples))


def judge(planes: Mapping[str, Any], info: ExposureInfo, verdict: Any) -> Detections:
    """Measure and judge candidates."""
    settings = SETTINGS.measure
    inputs = {name: plane for name, plane in planes.items() if plane is not None}
    table = measure_all(inputs, Context(info, None, settings, {"reliability": verdict}))
    bright = table["snr"].to_numpy() >= settings.min_snr
    table = table.filter(pa.array(bright & ~refused(table)))
    table = table.filter(pc.equal(table["trailClass"], ""))
    x, y, reliability = (table[column].to_numpy().astype(np.float64) for column in ("x", "y", "reliability"))
    return x, y, reliability


def recovered(found: Detections, example: Example) -> RecoveryCurve:
    """Compare scored positions with the truth."""
    return RecoveryCurve.of(*found, truth_targets(example.truth), example.truth["snr"].to_numpy().astype(np.float64))


def spots(hits: pa.Table, detector: Detector) -> tuple[NDArray[np.float64], ...]:
    """Join neighbouring hits: centre of each group, weighted, px, and the sum of its log odds above the floor."""
    grid = detector.grid
    row, column = (hits[name].to_numpy().astype(int) for name in ("row", "column"))
    if not len(row):
        return np.empty(0), np.empty(0), np.empty(0)
    odds = np.zeros((row.max() + 1, column.max() + 1))
    odds[row, column] = hits["logit"].to_numpy() - hits["logit"].to_numpy().min() + 1e-3
    label, count = ndimage.label(odds > 0, np.ones((3, 3)))
    index = np.arange(1, count + 1)
    centre = np.array(ndimage.center_of_mass(odds, label, index)).reshape(-1, 2)
    y, x = (centre * grid.stride + (grid.window - 1) / 2).T
    return x, y, np.asarray(ndimage.sum(odds, label, index))


def paired(reference: Sequence[RecoveryCurve], other: Sequence[RecoveryCurve], false: float = 0.5) -> dict[str, float]:
    """Count the streaks of S/N >= 7 that only one of two finds at a number of false positions per image.

    With the probability that chance alone divides them so unequally (McNemar 1947, Psychometrika 12, 153; exact).
    """
    passed = []
    for found in (reference, other):
        snr, score = (np.concatenate([getattr(one, name) for one in found]) for name in ("snr", "score"))
        passed.append((score >= level_at(found, false)) & (score > -np.inf) & (snr >= 7))
    only, none = int((passed[0] & ~passed[1]).sum()), int((~passed[0] & passed[1]).sum())
    chance = float(binomtest(only, only + none).pvalue) if only + none else 1.0
    return {"only_reference": only, "only_other": none, "chance": chance}


def half_complete(found: Sequence[RecoveryCurve], false: float) -> float | None:
    """Return the S/N at which half of the streaks are found, at a number of false positions per image."""
    level = level_at(found, false)
    snr, score = (np.concatenate([getattr(one, name) for one in found]) for name in ("snr", "score"))
    fit = fit_completeness(snr, (score >= level) & (score > -np.inf))
    return None if fit is None else fit.s50


def shown(share: Share) -> str:
    """Return the share with its interval."""
    low, high = share.interval
    return f"{share.value:.3f} ({low:.2f}-{high:.2f})" if share.n else "-"


def main() -> None:
    """Run the comparison."""
    options = command_line(
        __doc__,
        seed=4321,
        exposures=(16, "like ztf; half as many of each other sky"),
        names=NAMES,
        work=Path,
        threads=1,
    )
    torch.set_num_threads(options.threads)
    figures: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        half = options.exposures // 2
        skies = {
            "ztf": Wanted("ztf", options.exposures),
            "llnl": Wanted("llnl", half),
            "zogy": Wanted("ztf", half, subtract="zogy", lengths=MOVING),
        }
        for n, (sky, wanted) in enumerate(skies.items()):
            folder = (options.work or Path(scratch)) / sky
            figures[sky] = compare(sky, options.names, make_examples(folder, wanted, options.seed + n, options.threads))
    (ROOT / "docs" / "measured" / "detectors.json").write_text(json.dumps(figures, indent=1) + "\n")
    weights = [f"{kind}/{name}" for name in options.names for kind in ("detect", "reliability")]
    show(tables(figures), weights)


KINDS = {"own": "its own", "verdict": "reliability", "verdict, no science": "reliability, no science images"}


def tables(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the Markdown of all figures: completeness, and which streaks only one of two detectors finds."""
    ztf, llnl, zogy = (figures[sky] for sky in ("ztf", "llnl", "zogy"))
    names = [name.removesuffix(", verdict") for name in ztf if name.endswith(", verdict")]
    names.sort(key=lambda name: (-ztf[f"{name}, verdict"]["shares"][0][0], name))
    rows = []
    for name in names:
        for kind, words in KINDS.items():
            one, dark, subtracted = (sky[f"{name}, {kind}"] for sky in (ztf, llnl, zogy))
            half = one["s50_at_1_false"]
            published = (f"{sky['false_per_image_published']:.2f}" for sky in (one, subtracted))
            rows.append((
                f"`{name}`", words, *(shown(Share(*one["shares"][place])) for place in (0, 1)),
                "-" if half is None else f"{half:.1f}", shown(Share(*dark["shares"][0])),
                shown(Share(*subtracted["shares"][0])),
                *((*published, f"{one['seconds']:.2f}") if kind == "verdict" else ("", "", "")),
            ))  # fmt: skip
    headings = (
        "detector", "scores", "`ztf`, S/N ≥ 7", "S/N ≥ 10", "S/N of half", "`llnl`, S/N ≥ 7", "`zogy`, S/N ≥ 7",
        "false at its threshold, `ztf`", "`zogy`", "s per image",
    )  # fmt: skip
    pairs = [
        (name, sky, figures[sky][f"{name}, against {REFERENCE}"])
        for name in names if name != REFERENCE for sky in ("ztf", "zogy")
    ]  # fmt: skip
    found = [
        (f"`{name}`", f"`{sky}`", one["only_reference"], one["only_other"], f"{one['chance']:.2g}")
        for name, sky, one in pairs
    ]
    return (
        f"{table(headings, rows)}\n\nStreaks of S/N ≥ 7 that only one of two finds, by reliability at 0.5 false per "
        f"image (exact McNemar test):\n\n"
        f"{table(('', 'sky', f'only `{REFERENCE}`', 'only this', 'chance'), found)}"
    )


def compare(sky: str, names: Sequence[str], examples: Sequence[Example]) -> dict[str, object]:
    """Search with every detector; print the table, draw the picture, return the figures."""
    console = Table(
        "detector", "score", *(f"c{least} at {rate:g}" for rate in RATES for least in (7, 10)), "S/N 50 %", "s"
    )
    figures: dict[str, object] = {}
    curves = {}
    everything = {name: look(name, examples) for name in names}
    for name, found in everything.items():
        kinds = {"own": found.own, "verdict": found.judged, "verdict, no science": found.blind}
        for kind, several in kinds.items():
            shares = [share_found(several, level_at(several, rate), least) for rate in RATES for least in (7.0, 10.0)]
            half = half_complete(several, 1.0)
            seconds = float(np.median(found.seconds))
            console.add_row(name, kind, *map(shown, shares), "-" if half is None else f"{half:.1f}", f"{seconds:.2f}")
            figures[f"{name}, {kind}"] = {
                "shares": [[share.found, share.n] for share in shares],
                "s50_at_1_false": half,
                "seconds": seconds,
                "false_per_image_published": found.published_false,
            }
        if REFERENCE in everything:
            figures[f"{name}, against {REFERENCE}"] = paired(everything[REFERENCE].judged, found.judged)
        level = level_at(found.judged, 1.0)
        curves[name] = [share_found(found.judged, level, low, high) for low, high in pairwise(SNR_EDGES)]
    Console(width=150).print(f"{sky}: {len(examples)} exposures", console)
    if sky != "llnl":  # whose streaks are all bright
        draw(sky, curves)
    return figures


def draw(sky: str, curves: dict[str, list[Share]]) -> None:
    """Draw completeness against S/N at 1 false position per image."""
    figure, (axis,) = new_figure()
    middle = np.sqrt(np.array(SNR_EDGES[:-1]) * np.array(SNR_EDGES[1:]))
    for name, shares in curves.items():
        known = [n for n, share in enumerate(shares) if share.n]
        value = np.array([shares[n].value for n in known])
        low, high = np.array([shares[n].interval for n in known]).T
        axis.errorbar(middle[known], value, [value - low, high - value], fmt="o-", ms=3, capsize=2, lw=1, label=name)
    snr = np.geomspace(SNR_EDGES[0], 60, 200)
    axis.plot(snr, norm.cdf(snr - NOISE_ALONE), "k--", lw=1, label="oracle, in noise alone")
    axis.set(xscale="log", xlabel="S/N in the noise as it is", ylabel="completeness", ylim=(0, 1.02))
    ticks = [3, 5, 7, 10, 15, 25, 50]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.set_title(f"{sky}: at 1 false detection per image, with the reliability model")
    axis.legend(frameon=False, fontsize=8)
    save(figure, IMAGES / f"detectors_{sky}.png")


if __name__ == "__main__":
    main()
