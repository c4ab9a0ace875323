"""Limit of the linking without trails in three visits: what the best test of true and unrelated tracklets would link.

`python -m benchmarks.motion.linking_limit`. Movers and false detections are those of `benchmarks.motion.linking`: an
hour from the first to the last of three visits, errors of 0.15 arcsec along each axis. A tracklet is three numbers: the
way from the first to the last detection, and how far the middle one is off along and across it. Of true ones both are
Gaussian: the errors of three positions, along the way a rate that changes by 1 % an hour, across it a bend, which the
movers of `benchmarks.motion.linking` do not have and real ones do, by the parallax of the Earth's turn. Unrelated ones
have any. No test of these numbers links more than that of their likelihood ratio (Neyman & Pearson 1933).
"""

import json
from itertools import product

import numpy as np
from scipy.optimize import brentq

from benchmarks.motion.linking import ERROR, MOVERS, SIDE

HOURS, SLOWEST, FASTEST = 1.0, 0.1, 60.0  # deg / day
CHANGE = 0.01  # of the rate, an hour


def spread(way, across):
    """Return how much, arcsec, true tracklets scatter along and across a way; bends are ``across`` of it."""
    noise = ERROR * np.sqrt(1.5)
    return np.hypot(noise, CHANGE * HOURS / 8 * way), np.hypot(noise, across * way)


def found(density, across, least):
    """Return how many true and unrelated tracklets of a night have a likelihood ratio above ``least``, by its log."""
    way = np.geomspace(SLOWEST, FASTEST, 4001) * HOURS / 24 * 3600
    along, across = spread(way, across)
    step = np.log(FASTEST / SLOWEST) / (len(way) - 1)
    true = MOVERS / np.log(FASTEST / SLOWEST)
    unrelated = density * SIDE**2 * 2 * np.pi * np.square(density * way / 3600**2)
    best = np.log(true / (2 * np.pi * along * across) / unrelated)
    inside = 2 * np.maximum(best - least, 0)  # squared, in standard deviations
    counts = np.trapezoid([true * -np.expm1(-inside / 2), unrelated * np.pi * inside * along * across], dx=step)
    return float(counts[0]), float(counts[1])


def limit(density, across, purity=None, false=None):
    """Return completeness and false tracklets a night at a purity, or at a number of false tracklets a night."""

    def excess(least):
        true, unrelated = found(density, across, least)
        return unrelated - (false if purity is None else (true + unrelated) * (1 - purity))

    least = brentq(excess, -30, 10) if excess(-30) > 0 else -30
    true, unrelated = found(density, across, least)
    return true / MOVERS, unrelated


def main():
    """Print a JSON object for each density and bend."""
    for density, across in product((1.0, 10.0, 100.0), (0.0, 0.0005, 0.00125)):
        pure, few = limit(density, across, purity=0.98), limit(density, across, false=0.2)
        print(json.dumps({
            "false per deg2": density, "bend across": across, "at purity 0.98": round(pure[0], 3),
            "false a night": round(pure[1], 2), "at 0.2 false a night": round(few[0], 3),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
