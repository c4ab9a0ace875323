"""Errors of fits on files as Rubin's pipelines write them, without a keyword that tells PSF, gain or noise.

``python -m benchmarks.measurement.rubin_file [--files N]`` prints a table of docs/measured/measurement.md. GalSim
renders the files (`tests.support.lsst_file`): a sheared PSF whose width and shape vary, noise that rises over the
image, and light that adds its own. Fits start at the true places, so nothing here depends on a network.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.support.command_line import command_line
from flows.inputs.ingest import prepare
from flows.inputs.source import Source
from schemas.dia_source import STREAK
from schemas.settings import MeasureSettings, Settings
from schemas.stage import Context
from stages.measure import describe
from tests.support.lsst_file import write_lsst_file

STARS = 40


def trails(rng):
    return float(rng.uniform(4, 40)), float(np.exp(rng.uniform(np.log(8), np.log(50))))


def points(rng):
    return 0.0, float(np.exp(rng.uniform(np.log(8), np.log(50))))


def bright_points(_):
    return 0.0, 100.0


def measured(path, planted, *, without=()):
    """Return the rows of the sources of a file, in their order, None for those lost, and its exposure.

    ``without`` may hold "psf" and "noise": what is known of their change over the image is left out then.
    """
    info, planes = prepare(Source(str(path)), Settings())
    if "psf" in without:
        info = info.model_copy(update={"psf": info.psf.model_copy(update={"variation": None})})
    if "noise" in without:
        info, planes = info.model_copy(update={"noise_variation": None}), {**planes}
        del planes["variance"]
    known = {"snr": 10.0, "logitSum": 1.0, "logitPeak": 1.0, "nHits": 1, "trailClass": "", "halfWidth": 0.0}
    streaks = [known | {name: getattr(one, name) for name in ("x", "y", "length", "angle")} for one in planted]
    inputs = {"streak": pa.Table.from_pylist(streaks, STREAK.schema), **planes}
    rows = describe(inputs, Context(exposure=info, settings=MeasureSettings())).table.to_pylist()
    found = []
    for one in planted:
        near = [row for row in rows if np.hypot(row["x"] - one.x, row["y"] - one.y) < 3]
        found.append(near[0] if len(near) == 1 and near[0]["trailLengthPxErr"] else None)
    return found, info


def figures(pairs):
    """Return bias of magAB, pulls of the flux that holds, of magnitude and of length, share of lengths within 2."""
    rows = [(one, row) for one, row in pairs if row is not None]
    magnitude = np.array([row["magAB"] - 31.4 + 2.5 * np.log10(one.flux) for one, row in rows])
    flux = [
        (row[name] - one.flux) / row[f"{name}Err"]
        for one, row in rows
        for name in ("trailFlux" if one.length else "psfFlux",)
    ]
    length = np.array([(row["trailLengthPx"] - one.length) / row["trailLengthPxErr"] for one, row in rows])
    by_error = magnitude / np.array([row["magABErr"] for _, row in rows])
    return {
        "n": len(rows),
        "magAB": magnitude.mean(),
        "magPull": by_error.std(),
        "fluxPull": (np.mean(flux), np.std(flux)),
        "lengthPull": (length.mean(), length.std()),
        "within2": float(np.mean(np.abs(length) <= 2.01)),
    }


def main():
    options = command_line(__doc__, files=3, seed=1)
    print("| sources | known | n | magAB, mag | its pull | flux, pull | length, pull | length within 2 errors |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for sources in (trails, points, bright_points):
            files = []
            for seed in range(options.seed, options.seed + options.files):
                path = Path(folder) / f"{sources.__name__}_{seed}.fits"
                files.append((path, write_lsst_file(path, seed, 2000, sources, stars=STARS, uneven=3.0)))
            for known, without in (("all", ()), ("no change of PSF", ("psf",)), ("one noise", ("noise",))):
                pairs = []
                for path, planted in files:
                    rows, _ = measured(path, planted, without=without)
                    pairs += list(zip(planted, rows, strict=True))[STARS:]
                told = figures(pairs)
                pulls = ("{:+.2f} ± {:.2f}".format(*told[name]) for name in ("fluxPull", "lengthPull"))
                first = f"| {sources.__name__.replace('_', ' ')} | {known} | {told['n']} | {told['magAB']:+.3f} |"
                print(first, f"{told['magPull']:.2f} |", " | ".join(pulls), f"| {told['within2']:.2f} |")


if __name__ == "__main__":
    main()
