"""Runs of `nightstride run` as a user starts it, on simulated quadrants."""

import json
import subprocess
import sys
from pathlib import Path

from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset


def quadrants(folder, count, shape=None):
    """Simulate ``count`` quadrants of one visit; return their files, in order of the detector.

    Those of a ``shape`` of their own are small: drawn here before another process would have begun.
    """
    night = SimulatedNight(find_preset("ztf", shape=shape), 11, 1, count, folder)
    written = simulate_night(night, workers=2 if shape is None else 1)
    return list(written.exposures)


def searching_seconds(files, out, workers):
    """Return the seconds that a run searches, without the start of its services and workers, and without its page."""
    nightstride = Path(sys.executable).with_name("nightstride")
    command = [nightstride, "run", *files, "--out", out, "--workers", workers, "--json"]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    seconds = json.loads(run.stdout.splitlines()[-1])["seconds"]
    return seconds["wall"] - seconds["startup"] - seconds["report"]
