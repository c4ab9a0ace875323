"""Magnitudes of points and short trails: bias and pulls of the fit as a trail, as a point, and of ``magAB``.

``python -m benchmarks.measurement.magnitudes [--sources N] [--seed S]`` prints the table of
docs/measured/measurement.md: sources as in `benchmarks.measurement.pulls`, each measured as a night measures it.
"""

import itertools

import numpy as np

from benchmarks.measurement.pulls import SIDE, drawn
from benchmarks.support.command_line import command_line
from kernels.measure.detection import measure_candidate

LENGTHS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
SNRS = (7.0, 10.0, 20.0, 50.0)


def measured(rng, length, snr):
    """Return (flux, error) over the true flux: as a trail, as a point, and of ``magAB``; None where the fit failed."""
    scene, rough, truth = drawn(rng, length, snr)
    found = measure_candidate(scene, np.zeros(scene.shape, np.uint16), rough, 1.5 * scene.fwhm_px)
    if not found.fit.converged:
        return None
    return np.array([flux[:2] for flux in (found.trail, found.psf, found.light)]) / truth[0]


def figures(count, seed, length, snr):
    """Return the number measured, and of each of the three the median error in mag and the scatter of the pulls."""
    rng = np.random.default_rng([seed, round(10 * length), round(snr)])
    found = np.array([one for one in (measured(rng, length, snr) for _ in range(count)) if one is not None])
    value, error = found[..., 0], found[..., 1]
    magnitude = np.median(-2.5 * np.log10(np.maximum(value, 1e-3)), axis=0)
    return len(found), magnitude, np.std((value - 1) / error, axis=0)


def main():
    """Print the table."""
    given = command_line(__doc__, sources=(300, "Sources of each length and S/N."), seed=(0, "Random seed."))
    print(f"stamps of {SIDE} x {SIDE} px")
    print("| length, px | S/N | sources | as a trail | as a point | magAB | pulls |\n|---|---|---|---|---|---|---|")
    for length, snr in itertools.product(LENGTHS, SNRS):
        count, magnitude, pull = figures(given.sources, given.seed, length, snr)
        cells = [*(f"{value:+.3f}" for value in magnitude), ", ".join(f"{value:.2f}" for value in pull)]
        print(f"| {length:g} | {snr:g} | {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
