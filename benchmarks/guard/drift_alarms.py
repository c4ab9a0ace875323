"""Rate of drift alarms on ordinary nights, and on nights on which one feature has drifted.

``python -m benchmarks.guard.drift_alarms [--trials 100] [--seed 7]`` draws 30 earlier nights and one to be judged, each
with a Poisson number of detections, in all features independently: a Gaussian over the bins, of width 0.12 of their
range, whose centre scatters from night to night by a share of that width. In the night that is judged the reliability
is shifted. Printed are, out of a number of trials, warnings of the reliability, nights with any warning, and no
verdicts.
"""

from itertools import product

import numpy as np

from benchmarks.support.command_line import command_line
from flows.results.quality.judge import drifts
from kernels.statistics.drift import FEATURES
from schemas.quality import BandMeasures, QualitySettings, Sketch

WIDTH = 0.12
NIGHTS = 30


def night(rng, detections, shift=0.0, scatter=0.0):
    """Draw a night; the shift of reliability and the scatter of all centres are in units of the width."""
    sketches = []
    for name, bins in FEATURES.items():
        centre = rng.normal(0, scatter) + (shift if name == "reliability" else 0.0)
        low, high = (np.log(bins.low), np.log(bins.high)) if bins.log else (bins.low, bins.high)
        values = low + (high - low) * (0.5 + WIDTH * rng.normal(centre, 1, detections))
        counts = bins.histogram(np.exp(values) if bins.log else values)
        found = tuple((int(place), int(counts[place])) for place in np.flatnonzero(counts))
        sketches.append(Sketch(feature=name, counts=found))
    return BandMeasures(
        instrument="simulated", band="r", exposures=9, search="s", models=(), measures=(), sketches=tuple(sketches)
    )


def alarms(detections, shift, scatter, trials, seed):
    """Count warnings of the reliability, nights with any warning, and trials without a verdict on it."""
    rng, found = np.random.default_rng(seed), np.zeros(3, int)
    for _ in range(trials):
        numbers = np.maximum(rng.poisson(detections, NIGHTS + 1), 1)
        earlier = [night(rng, number, 0.0, scatter) for number in numbers[1:]]
        judged = drifts(night(rng, numbers[0], shift, scatter), earlier, QualitySettings())
        one = next(drift for drift in judged if drift.feature == "reliability")
        any_warns = any(drift.verdict == "warn" for drift in judged)
        found += (one.verdict == "warn", any_warns, one.verdict == "no_history")
    return found


def main() -> None:
    """Print a table."""
    given = command_line(__doc__, trials=100, seed=7)
    shifts = (1.0, 1.5, 2.0)
    named = " | ".join(f"shift {shift:g}: reliability warned" for shift in shifts)
    print(f"| detections | scatter | no shift: any warning | no verdict | {named} |\n|---|---|---|---|---|---|---|")
    for detections, scatter in product((10, 20, 40), (0.0, 0.2, 0.5)):
        _, some, none = alarms(detections, 0.0, scatter, given.trials, given.seed)
        warned = [alarms(detections, shift, scatter, given.trials, given.seed)[0] for shift in shifts]
        print(f"| {detections} | {scatter:g} | {some} | {none} | {' | '.join(map(str, warned))} |", flush=True)


if __name__ == "__main__":
    main()
