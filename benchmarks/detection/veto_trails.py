"""Flags of vetoes on trails drawn into simulated exposures, and on what lies at alerts of real stamps:

    nightstride simulate --preset ztf --subtract none --visits 30 --seed 4177 --out NIGHT
    python -m benchmarks.detection.veto_trails NIGHT [--stamps PACKETS ...]

Trails of 1 to 60 px and S/N 5 to 50, both log-uniform, are drawn one at a time, wherever half of their light is on
usable pixels, and measured from first estimates as rough as those of a search. Prints the share of them with each
flag, per cent, by S/N, length and PSF; in brackets, for the causes that refuse, the share that is refused for it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.detection.crossing_stars import Planes, exposures
from benchmarks.support.command_line import command_line
from flows.inputs.packet_files import read_packets
from flows.pipeline.packet_search import packet_exposure, packet_planes, place_on_canvas
from flows.results.evaluation.stamps import group
from kernels.measure.detection import measure_candidate
from kernels.measure.vetoes.evidence import LEAST_EVIDENCE, REFUSING, Evidence
from kernels.statistics.matching import LEAST_VISIBLE
from kernels.trails.geometry import DetectedSegment, Segment
from kernels.trails.injection import TrailStamp, add_light, draw_trails, flux_of, trail_stamp, visible_stamp_share
from kernels.trails.scene import Scene
from schemas.dia_source import CAUSES
from schemas.exposure import ExposureInfo
from schemas.settings import MeasureSettings
from stages.measure import scene_of

LENGTHS, SNRS = (1.0, 60.0), (5.0, 50.0)
NAMES = [name for name, _, _ in CAUSES]
STOPS = [NAMES.index(name) for name in REFUSING]
APERTURE = MeasureSettings().aperture_fwhm


class Measured(NamedTuple):
    """Trail that was drawn, the PSF's FWHM, px, and the evidence of each cause."""

    snr: float
    length: float
    fwhm: float
    evidence: Evidence


def rough(trail: DetectedSegment, rng: np.random.Generator) -> Segment:
    """Return a first estimate of a trail, as rough as that of a search."""
    length = max(trail.length * rng.uniform(0.7, 1.3) + rng.normal(), 0.0)
    turn = rng.normal(0, 4 if trail.length > 10 else 15)
    return Segment(trail.x + rng.normal(), trail.y + rng.normal(), length, trail.angle + turn)


def evidence_on(
    scene: Scene, mask: np.ndarray, trail: DetectedSegment, stamp: TrailStamp, rng: np.random.Generator
) -> Evidence:
    """Draw a trail, measure it, and take it away again; return the evidence."""
    (height, width), (ny, nx) = stamp.pixels.shape, scene.shape
    here = np.s_[max(stamp.y0, 0) : min(stamp.y0 + height, ny), max(stamp.x0, 0) : min(stamp.x0 + width, nx)]
    before = scene.pixels[here].copy()
    flux = flux_of(trail, stamp, scene.pixels, scene.usable, scene.noise.sigma, scene.noise.correlation)
    add_light(scene.pixels, stamp, flux, scene.noise.gain if np.isfinite(scene.noise.gain) else None, rng)
    found = measure_candidate(scene, mask, rough(trail, rng), APERTURE * scene.fwhm_px)
    scene.pixels[here] = before
    return found.evidence


def drawn(info: ExposureInfo, planes: Planes, count: int, seed: int) -> Iterator[Measured]:
    """Draw trails into an exposure and measure each."""
    scene, rng = scene_of(planes, info, np.zeros), np.random.default_rng([seed, info.visit, info.detector])
    left = count
    while left:
        (trail,) = draw_trails(rng, 1, (0, 0, *info.shape), LENGTHS, SNRS, 0.0)
        stamp = trail_stamp(trail, scene.psf, scene.fwhm_px)
        if visible_stamp_share(scene.usable, stamp) >= LEAST_VISIBLE:
            found = evidence_on(scene, planes["mask"], trail, stamp, rng)
            yield Measured(trail.snr, trail.length, scene.fwhm_px, found)
            left -= 1


def report(rows: list[Measured]) -> None:
    """Print the table of trails."""
    snr, length, fwhm = (np.array([getattr(one, name) for one in rows]) for name in ("snr", "length", "fwhm"))
    evidence = np.array([one.evidence for one in rows])
    groups = {"all": snr > 0}
    groups |= {f"S/N {a} to {b}": (snr >= a) & (snr < b) for a, b in ((5, 7), (7, 10), (10, 20), (20, 50))}
    groups |= {f"{a} to {b} px": (length >= a) & (length < b) for a, b in ((1, 3), (3, 8), (8, 20), (20, 40), (40, 60))}
    groups["FWHM below 2 px"] = fwhm < 2
    print("| trails | number | " + " | ".join(flag.name for _, flag, _ in CAUSES) + " | any | refused |")
    print("|---|---|" + "---|" * (len(CAUSES) + 2))
    for name, chosen in groups.items():
        print(f"| {name} | {chosen.sum():,} | " + " | ".join(shares(evidence[chosen])) + " |")


def shares(evidence: np.ndarray) -> list[str]:
    """Return per cent of candidates with each flag, in brackets of those refused for it; with any; refused."""
    refusing = (evidence >= LEAST_EVIDENCE) & np.isin(np.arange(len(NAMES)), STOPS)
    flagged = evidence >= 1
    every = np.column_stack([flagged, flagged.any(1), refusing.any(1)])
    cells = [f"{share:.2f}" for share in 100 * every.mean(0)]
    return [f"{cell} ({100 * refusing[:, n].mean():.2f})" if n in STOPS else cell for n, cell in enumerate(cells)]


def report_stamps(paths: list[Path]) -> None:
    """Print how many alerts of each group have each flag, measured as point sources where the packets have them."""
    rows: dict[str, list[Evidence]] = {}
    for packet in (packet for path in paths for packet in read_packets(path)):
        info = packet_exposure(packet)
        planes = packet_planes(packet, info)
        start = Segment(*place_on_canvas(packet), 0.0, 0.0)
        found = measure_candidate(scene_of(planes, info, np.zeros), planes["mask"], start, APERTURE * info.psf.fwhm_px)
        rows.setdefault(group(packet), []).append(found.evidence)
    print("\n| alerts | number | " + " | ".join(flag.name for _, flag, _ in CAUSES) + " | any | refused |")
    print("|---|---|" + "---|" * (len(CAUSES) + 2))
    for name, evidence in sorted(rows.items()):
        print(f"| {name} | {len(evidence)} | " + " | ".join(shares(np.array(evidence))) + " |")


def main() -> None:
    """Measure and print."""
    given = command_line(
        __doc__, ("night", "folder of simulated images with science images"), trails=(400, "on each exposure"), seed=1,
        stamps=([Path], "folders or tarballs of ZTF alert packets"),
    )  # fmt: skip
    report([one for info, planes in exposures(given.night) for one in drawn(info, planes, given.trails, given.seed)])
    if given.stamps:
        report_stamps(given.stamps)


if __name__ == "__main__":
    main()
