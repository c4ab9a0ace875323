"""Constants of the capacity model, measured on simulated exposures: ``python -m benchmarks.scale.capacity_constants``.

Each survey's images of a quarter and of a sixteenth of their pixels; what the model extrapolates is the line through
both. Seconds are processor time of one process with one thread, so what else the machine does hardly matters. Written
to capacity.json.
"""

import json
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.speed.exposure_cost import SIZES, STEPS, Cost, exposure_costs, search_flop_per_pixel
from benchmarks.support.page import machine
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from flows.training.bench.exposure import use_threads
from schemas.settings import Settings

FILE = Path(__file__).with_name("capacity.json")
SURVEYS = ("ztf", "rubin")
SEED = 31
EXPOSURES = 2
"""Number of exposures of each kind; the first one is left out."""

PARTS = (4, 2)
"""Fractions of the side of an image."""


def measure(survey: str, science: bool) -> dict[str, dict[str, float]]:
    """Return the line of each quantity: what an exposure takes whatever its size, and for each pixel."""
    full = find_preset(survey)
    ny, nx = full.shape
    small, large = (_medians(replace(full, shape=(ny // part, nx // part)), science) for part in PARTS)
    lines = {}
    for name in (*STEPS, *SIZES):
        slope = max(0.0, (large[name] - small[name]) / (large["pixels"] - small["pixels"]))
        lines[name] = {"fixed": max(0.0, large[name] - slope * large["pixels"]), "per_pixel": slope}
    return lines


def _medians(preset, science: bool) -> Cost:
    with tempfile.TemporaryDirectory(prefix="nightstride-bench-") as name:
        folder = Path(name)
        simulate_night(SimulatedNight(preset, SEED, EXPOSURES, 1, folder / "raw", science=science))
        costs = exposure_costs(folder / "raw", folder / "out", Settings())[1:]
    return {name: median(cost[name] for cost in costs) for name in costs[0]}


def record(part: str, value: object) -> None:
    """Write one part of the constants again, with what they were measured on."""
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    known[part] = value
    FILE.write_text(json.dumps(known, indent=1) + "\n")


def main() -> None:
    """Measure and write."""
    threads = use_threads(1)
    found = {
        "command": "python -m benchmarks.scale.capacity_constants",
        "machine": machine(threads),
        "search_flop_per_pixel": search_flop_per_pixel(Settings()),
        "surveys": {name: {} for name in SURVEYS},
    }
    for science, survey in product((False, True), SURVEYS):
        found["surveys"][survey]["science" if science else "difference"] = measure(survey, science)
        record("exposure", found)
    print(FILE.read_text())


if __name__ == "__main__":
    main()
