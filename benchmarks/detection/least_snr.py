"""Completeness and false streaks at different values of `measure.min_snr`:
``python -m benchmarks.detection.least_snr``.

Simulates exposures that no training has seen, searches them with the default detector, and takes as detections what
passes the threshold on the card of its reliability model, is not refused, and has the least S/N or more.
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.support.command_line import command_line
from flows.pipeline.models import load_model
from flows.training.candidates import candidate_completeness, candidates, publishable
from flows.training.example_sets import make_sets
from flows.training.examples import Wanted
from kernels.statistics.completeness import fit_completeness
from schemas.settings import MeasureSettings

DETECTOR, LEVELS = "streak_net", (5.0, 5.4, 5.6, MeasureSettings().min_snr, 5.9, 6.2)


def half_found(examples, scores, threshold):
    """Return in words the S/N at which half of the streaks are found."""
    snr, found = [], []
    for one, score in zip(examples, scores, strict=True):
        taken = np.zeros(len(one.snr), bool)
        taken[one.target[(score >= threshold) & (one.label == 1)]] = True
        snr.append(one.snr[one.targets.counted])
        found.append(taken[one.targets.counted])
    fit = fit_completeness(np.concatenate(snr), np.concatenate(found))
    return "below the faintest" if fit is None or fit.s50 is None else f"{fit.s50:.2f}"


def row(found, model, least):
    """Return the cells of the table for a least S/N."""
    kept, threshold = [publishable(one, least) for one in found], model.card.threshold
    scores = [model(one.features, one.stamps) for one in kept]
    cells = []
    for asked in (7.0, 10.0):
        hit, present, false = candidate_completeness(kept, scores, threshold, asked)
        cells.append(f"{hit / present:.3f} of {present}")
    return [*cells, half_found(kept, scores, threshold), f"{false:.2f} of {len(kept)}"]


def report(preset, count, seed, folder, workers, model):
    """Simulate and search exposures like a preset's, and print their table."""
    examples = make_sets(folder / preset, [Wanted(preset, count)], seed, workers, print)
    found = [candidates(example, DETECTOR, wrong_psf=False)[0] for example in examples]
    print(f"\n| `{preset}`, least S/N | S/N ≥ 7 | S/N ≥ 10 | half found at | false per image |\n|---|---|---|---|---|")
    for least in LEVELS:
        print(f"| {least} | " + " | ".join(row(found, model, least)) + " |")


def main():
    """Measure and print."""
    given = command_line(__doc__, ztf=(12, "exposures"), llnl=(4, "exposures"), seed=88001, workers=1)
    model = load_model("reliability", DETECTOR)
    with tempfile.TemporaryDirectory(prefix="nightstride-least-") as scratch:
        for preset, count in (("ztf", given.ztf), ("llnl", given.llnl)):
            report(preset, count, given.seed, Path(scratch), given.workers, model)


if __name__ == "__main__":
    main()
