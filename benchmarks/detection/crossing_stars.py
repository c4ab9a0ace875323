"""What trails across stars are called, and the kinds of the candidates of a night against its truth:

    nightstride simulate --visits 3 --seed 77 --out NIGHT
    python -m benchmarks.detection.crossing_stars NIGHT --length 25 --snr 40

Onto each exposure 40 trails are put across stars of its science image, and 30 off all stars; they are searched and
measured with the science image and without. Then the candidates of the night as it is, if its truth is there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sep
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from benchmarks.support.command_line import command_line
from flows.inputs.ingest import prepare
from flows.inputs.sources import list_sources
from flows.pipeline.models import load_model
from flows.pipeline.search_pixels import search_pixels
from flows.training.candidates import label_candidates
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.statistics.completeness import binomial_interval
from kernels.trails.geometry import LONG, DetectedSegment
from kernels.trails.injection import add_light, flux_of, trail_stamp
from schemas.dia_source import KINDS
from schemas.exposure import ExposureInfo
from schemas.pixels import UNUSABLE
from schemas.settings import MeasureSettings, Settings
from schemas.stage import Context
from stages.measure import describe, measure_all

ACROSS, OFF, APART = 40, 30, 150
"""Trails per exposure, and the minimum distance between any two, px."""
BRIGHT = (30.0, 3000.0)
"""S/N range of the stars that are crossed."""
RATHER = 0.5

Planes = dict[str, NDArray[Any]]


def exposures(night: Path) -> Iterator[tuple[ExposureInfo, Planes]]:
    """Yield the exposures of a night with their planes."""
    for source in list_sources([str(night)], Settings()):
        info, planes = prepare(source, Settings())
        yield info, {name: plane for name, plane in planes.items() if name in ("difference", "science", "mask")}


def places(info: ExposureInfo, planes: Planes, length: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return centres of trails, px: some a random way along a trail from a star, then some off all stars."""
    science = np.ascontiguousarray(planes["science"], np.float32)
    sky = sep.Background(science)
    stars = sep.extract(science - sky.back(), 20.0, err=sky.globalrms, minarea=9)
    snr = stars["flux"] / sky.globalrms / np.sqrt(9 * np.pi)
    some = rng.permutation(np.flatnonzero((snr > BRIGHT[0]) & (snr < BRIGHT[1])))
    taken: list[tuple[float, float]] = []
    for x, y in zip(stars["x"][some], stars["y"][some], strict=True):
        if len(taken) < ACROSS and _free(planes["mask"], taken, x, y, length):
            taken.append((x, y))
    for _ in range(100_000):
        x, y = rng.uniform(0, info.shape[1]), rng.uniform(0, info.shape[0])
        clear = np.hypot(stars["x"] - x, stars["y"] - y).min() > length / 2 + 12
        if len(taken) < ACROSS + OFF and clear and _free(planes["mask"], taken, x, y, length):
            taken.append((x, y))
    return taken


def _free(mask: NDArray[Any], taken: list[tuple[float, float]], x: float, y: float, length: float) -> bool:
    reach = int(length) + 20
    inside = all(reach < place < size - reach for place, size in zip((y, x), mask.shape, strict=True))
    apart = all(np.hypot(x - one[0], y - one[1]) > APART + length for one in taken)
    return inside and apart and not (mask[int(y) - 20 : int(y) + 21, int(x) - 20 : int(x) + 21] & UNUSABLE).any()


def searched(info: ExposureInfo, planes: Planes) -> tuple[dict[str, Any], Context]:
    """Return the inputs of the measurement of an exposure, and its context with the default model."""
    streak = search_pixels(planes, info, Settings(), until="streak", whole=True)["streak"].rows
    models = {"reliability": load_model("reliability", "streak_net")}
    return {"streak": streak, **planes}, Context(info, None, MeasureSettings(), models=models)


def crossed(info: ExposureInfo, planes: Planes, length: float, snr: float, seed: int) -> list[dict[str, Any]]:
    """Return what each trail that is put onto an exposure is called, with the science image and without."""
    rng, psf = np.random.default_rng(seed), moffat_mixture(info.psf.fwhm_px, info.psf.beta)
    seen = {name: np.array(planes[name], np.float32) for name in ("difference", "science")}
    usable, trails = (planes["mask"] & UNUSABLE) == 0, []
    for n, (x, y) in enumerate(places(info, planes, length, rng)):
        angle, along = rng.uniform(0, 180), rng.uniform(-0.5, 0.5) * length if n < ACROSS else 0.0
        step = along * np.exp(1j * np.radians(angle))
        trails.append(DetectedSegment(x + step.real, y + step.imag, length, angle, snr))
        stamp = trail_stamp(trails[-1], psf, info.psf.fwhm_px)
        correlation = np.array(info.noise_correlation)
        flux = flux_of(trails[-1], stamp, planes["difference"], usable, info.noise, correlation)
        for image in seen.values():  # of the same light, with the same noise
            add_light(image, stamp, flux, info.gain, np.random.default_rng([seed, n]))
    rows = []
    for science in (True, False):
        given = {**planes, **seen} if science else {"difference": seen["difference"], "mask": planes["mask"]}
        table = pl.DataFrame(pl.from_arrow(measure_all(*searched(info, given))))
        for n, one in enumerate(trails):
            near = table.filter(((pl.col("x") - one.x) ** 2 + (pl.col("y") - one.y) ** 2).sqrt() < length / 2 + 3)
            best = near.sort("reliability").tail(1).to_dicts()
            rows.append({"across": n < ACROSS, "science": science, "found": bool(best), **(best[0] if best else {})})
    return rows


def report_crossed(rows: list[dict[str, Any]]) -> None:
    """Print how many of the trails that were found are called satellites."""
    print("| trails | science image | put | found | pSatellite above 0.5 | and 60 px or more |")
    print("|---|---|---|---|---|---|")
    for across in (True, False):
        for science in (True, False):
            some = [one for one in rows if (one["across"], one["science"]) == (across, science)]
            found = [one for one in some if one["found"]]
            likely = [one for one in found if one["pSatellite"] > RATHER]
            classed = sum(one["trailLengthPx"] >= LONG for one in likely)
            words = ("across a star" if across else "off all stars", "yes" if science else "no")
            print("| " + " | ".join(map(str, (*words, len(some), len(found), len(likely), classed))) + " |")


def report_kinds(night: Path) -> None:
    """Print the confusion matrix of the kinds of a night's real candidates of reliability 0.5 and more."""
    truth, true, stated = pq.read_table(night / "truth.parquet"), [], []
    for info, planes in exposures(night):
        of = (pc.field("visit") == info.visit) & (pc.field("detector") == info.detector)
        given, context = searched(info, planes)
        candidates, model = describe(given, context), context.models["reliability"]
        kind = label_candidates(candidates, truth.filter(of)).kind
        reliability = model(candidates.features, candidates.stamps)
        asked = (kind >= 0) & (reliability >= RATHER)
        true.append(kind[asked])
        stated.append(model.classes(candidates.features, reliability)[asked, : len(KINDS)].argmax(axis=1))
    kinds, called = np.concatenate(true), np.concatenate(stated)
    right = int((kinds == called).sum())
    low, high = binomial_interval(right, len(kinds))
    print(f"\n{right / len(kinds):.3f} ({low:.3f}-{high:.3f}) of {len(kinds)} are called what they are, {KINDS}:")
    print(confusion_matrix(kinds, called, labels=range(len(KINDS))))


def main() -> None:
    """Measure and print."""
    given = command_line(
        __doc__,
        ("night", "folder of images with science images"),
        length=(25.0, "of the trails, px"),
        snr=(40.0, "of the trails"),
        seed=5,
    )
    night = enumerate(exposures(given.night))
    report_crossed([row for n, one in night for row in crossed(*one, given.length, given.snr, given.seed + n)])
    if (given.night / "truth.parquet").exists():
        report_kinds(given.night)


if __name__ == "__main__":
    main()
