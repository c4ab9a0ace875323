"""Candidates with the flag of a veto, before the reliability model, by what lies there; and rows on satellites:

    nightstride simulate --preset ztf --subtract none --visits 30 --seed 4177 --out NIGHT
    python -m benchmarks.detection.veto_candidates NIGHT --seed 4177

The simulation draws an exposure in layers, and each layer is drawn here again by itself. A false candidate lies on that
layer which gives most of its light (the trail that was fitted weighs the pixels), if that is a third of it at least.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.detection.crossing_stars import Planes, exposures
from flows.pipeline.models import load_model
from flows.pipeline.search_pixels import search_pixels
from flows.simulation import artefacts, defects
from flows.simulation.asteroids import add_asteroids
from flows.simulation.canvas import blank_canvas
from flows.simulation.conditions import Conditions, conditions_of
from flows.simulation.presets import find_preset
from flows.simulation.stars import add_residuals, mismatch_of, stars_on
from flows.training.candidates import label_candidates
from kernels.measure.vetoes.evidence import refused
from kernels.statistics.matching import SATELLITE_TOLERANCE_PX, segment_distance
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene, trail_shape, view
from schemas.dia_source import CAUSES
from schemas.exposure import ExposureInfo
from schemas.settings import MeasureSettings, Settings
from schemas.stage import Context
from stages.measure import describe, measure, scene_of

LEAST_SHARE = 1 / 3
NOISE = "nothing but noise"
REACH = 2.0  # FWHM around a trail
LABELS = {1: "asteroids", 2: "satellites", 3: "point sources", -1: "sources that count neither way"}


@dataclass
class Tally:
    """Candidates of some exposures: what they are on, and what the vetoes say; satellites, and rows on them."""

    number: Counter = field(default_factory=Counter)
    flagged: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    published: Counter = field(default_factory=Counter)
    published_flagged: Counter = field(default_factory=Counter)
    satellites: list[dict[str, Any]] = field(default_factory=list)
    classed_elsewhere: int = 0


def layers(conditions: Conditions) -> dict[str, np.ndarray]:
    """Return the light of each layer of an exposure, (ny, nx), pixel units."""
    stars = stars_on(conditions, conditions.first)
    saturated = stars.where(stars.magnitude < conditions.preset.saturated_magnitude)
    mismatch = mismatch_of(stars, conditions.preset, conditions.stream("mismatch"))
    drawn = {
        "spikes, bleeds and cores of saturated stars": lambda at: defects.add_saturated(at, saturated, conditions),
        "residuals of stars": lambda at: add_residuals(at, stars, mismatch, conditions),
        "cosmic rays": lambda at: defects.add_cosmic_rays(at, conditions),
        "ghosts": lambda at: artefacts.add_ghosts(at, conditions),
        "bad columns and pixels": lambda at: defects.add_bad_pixels(at, conditions),
        "the wave of the background": lambda at: artefacts.add_background(at, conditions),
        "satellites, 6 px or more from their line": lambda at: artefacts.add_satellites(at, conditions),
        "asteroids that have a candidate already": lambda at: add_asteroids(at, conditions),
    }
    light = {}
    for name, add in drawn.items():
        canvas = blank_canvas(conditions.preset.shape)
        add(canvas)
        light[name] = canvas.signal + canvas.sharp
    return light


def cause(scene: Scene, light: dict[str, np.ndarray], trail: Segment) -> str:
    """Return the layer that a candidate lies on."""
    seen = view(scene, trail, REACH * scene.fwhm_px)
    rows, columns = seen.footprint.y, seen.footprint.x
    weight = trail_shape(scene, seen.footprint, trail) * seen.use
    whole = float(weight @ (seen.values - scene.background))
    parts = {name: float(weight @ pixels[rows, columns]) for name, pixels in light.items()}
    most = max(parts, key=parts.__getitem__)
    return most if parts[most] >= LEAST_SHARE * whole else NOISE


def look(tally: Tally, info: ExposureInfo, planes: Planes, conditions: Conditions, truth: pa.Table, model: Any) -> None:
    """Add the candidates and the satellites of an exposure."""
    streak = search_pixels(planes, info, Settings(), until="streak", whole=True)["streak"].rows
    given, context = {"streak": streak, **planes}, Context(info, None, MeasureSettings(), {"reliability": model})
    found, rows = describe(given, context), measure(given, context).rows
    labels, scene, light = label_candidates(found, truth).label, scene_of(planes, info, np.zeros), layers(conditions)
    flagged = np.any([found.table[f"{name}Evidence"].to_numpy() >= 1 for name, _, _ in CAUSES], axis=0)
    stopped, places = refused(found.table), zip(rows["x"].to_pylist(), rows["y"].to_pylist(), strict=True)
    published = set(places)
    for n, row in enumerate(found.table.to_pylist()):
        trail = Segment(row["x"], row["y"], row["trailLengthPx"], row["trailAnglePx"])
        on = LABELS.get(int(labels[n])) or cause(scene, light, trail)
        given_out = (row["x"], row["y"]) in published
        tally.number[on] += 1
        tally.flagged[on] += bool(flagged[n])
        tally.refused[on] += bool(stopped[n])
        tally.published[on] += given_out
        tally.published_flagged[on] += given_out and bool(flagged[n])
    look_at_satellites(tally, rows, truth)


def look_at_satellites(tally: Tally, rows: pa.Table, truth: pa.Table) -> None:
    """Add the satellites of an exposure, with the published rows on their lines, and rows with a class elsewhere."""
    x, y = rows["x"].to_numpy(), rows["y"].to_numpy()
    classed, on_any = np.array([name != "" for name in rows["trailClass"].to_pylist()], bool), np.zeros(len(x), bool)
    asteroids = truth.filter(pc.equal(truth["kind"], "streak"))
    own = np.zeros(len(x), bool)
    for one in asteroids.to_pylist():
        own |= np.hypot(x - one["x"], y - one["y"]) <= max(3.0, one["length_px"] / 2 + 2)
    for one in truth.filter(pc.equal(truth["kind"], "satellite")).to_pylist():
        line = (one["x"], one["y"], one["length_px"], one["angle_deg"])
        on = (segment_distance(x, y, *line) <= SATELLITE_TOLERANCE_PX) & (classed | ~own)
        on_any |= on
        row = {name: one[name] for name in ("visit", "snr", "length_px", "visible")}
        tally.satellites.append(row | {"rows": int(on.sum()), "classed": int((on & classed).sum())})
    tally.classed_elsewhere += int((classed & ~on_any).sum())


def report(tally: Tally) -> None:
    """Print the tables."""
    print("| candidates on | number | any veto flag | refused | published | of these with a flag |")
    print("|---|---|---|---|---|---|")
    for name, count in tally.number.most_common():
        shares = (f"{100 * part[name] / count:.1f} %" for part in (tally.flagged, tally.refused))
        given, flagged = tally.published[name], tally.published_flagged[name]
        print(f"| {name} | {count} | {' | '.join(shares)} | {given} | {flagged} |")
    print(f"| all | {tally.number.total()} | | | {tally.published.total()} | |\n")
    some = tally.satellites
    rows, classed = np.array([one["rows"] for one in some], int), np.array([one["classed"] for one in some], int)
    print(
        f"{len(some)} satellites: {(rows > 0).sum()} published, {(rows == 1).sum()} of them in one row, "
        f"{(classed > 0).sum()} with a class; {tally.classed_elsewhere} rows with a class on none."
    )
    for one in some:
        if one["rows"] != 1 or one["classed"] != 1:
            print(one)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "night", type=Path, help="folder of simulated images with science images, one detector, --subtract none"
    )
    parser.add_argument("--seed", type=int, required=True, help="of the simulation")
    parser.add_argument("--preset", default="ztf", help="of the simulation")
    given = parser.parse_args()
    truth, tally = pq.read_table(given.night / "truth.parquet"), Tally()
    preset, model = find_preset(given.preset), load_model("reliability", "streak_net")
    visits = sorted(set(truth["visit"].to_pylist()))
    drawn = {one.visit: one for one in (conditions_of(preset, given.seed, n, 0) for n in range(len(visits)))}
    for info, planes in exposures(given.night):
        of = (pc.field("visit") == info.visit) & (pc.field("detector") == info.detector)
        look(tally, info, planes, drawn[info.visit], truth.filter(of), model)
    report(tally)


if __name__ == "__main__":
    main()
