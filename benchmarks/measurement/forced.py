"""Bias, errors, limits and speed of forced photometry.

``python -m benchmarks.measurement.forced [--trails N] [--seed S]`` prints the tables of docs/measured/measurement.md.
Trails are drawn by GalSim as in benchmarks/measurement/pulls.py, in noise correlated as by resampling and with their
own Poisson noise; place, length, angle and PSF are known.
"""

import time

import numpy as np

from benchmarks.measurement.pulls import GAIN, SIGMA, correlated_noise, galsim_trail
from benchmarks.support.command_line import command_line
from kernels.image.noise import Noise
from kernels.measure.forced import forced_flux, reach, upper_limit
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.matched_filter import template_snr
from kernels.trails.scene import Scene

FWHM, BETA = 2.3, 3.0
SNRS = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0)
LENGTHS = (0.0, 5.0, 20.0, 60.0)


def one(rng, snr, length):
    """Simulate and measure one trail: its pull, error over the least possible one, S/N, whether it beats the limit."""
    side = 2 * reach(length, FWHM) + 1
    x, y = side // 2 + rng.uniform(-0.5, 0.5, 2)
    segment = Segment(x, y, length, rng.uniform(0, 180))
    noise, correlation = correlated_noise(rng, (side, side))
    trail = galsim_trail((side, side), *segment, FWHM, BETA)
    unit = template_snr(1.0, trail, SIGMA, correlation)
    poisson = rng.normal(size=trail.shape) * np.sqrt(snr / unit * np.maximum(trail, 0) / GAIN)
    pixels = (SIGMA * noise + snr / unit * trail + poisson).astype(np.float32)
    scene = Scene(
        pixels, np.ones(pixels.shape, bool), moffat_mixture(FWHM, BETA), FWHM, Noise(SIGMA, correlation, GAIN)
    )
    began = time.perf_counter()
    flux = forced_flux(scene, np.zeros(pixels.shape, np.uint16), segment).trail
    seconds = time.perf_counter() - began
    above = snr / unit > upper_limit(np.array(flux.value), np.array(flux.error), 3.0)
    return (flux.value - snr / unit) / flux.error, flux.error * unit, flux.value / flux.error, above, seconds


def main():
    options = command_line(__doc__, trails=(600, "Of each S/N and length."), seed=1)
    rng = np.random.default_rng(options.seed)
    one(rng, 1.0, 5.0)  # compiles
    found = {
        (snr, length): np.array([one(rng, snr, length) for _ in range(options.trails)])
        for snr in SNRS
        for length in LENGTHS
    }
    print("| true S/N | " + " | ".join(f"length {length:g} px" for length in LENGTHS) + " | above the limit |")
    print("|---|" + "---|" * (len(LENGTHS) + 1))
    for snr in SNRS:
        cells = [found[snr, length] for length in LENGTHS]
        pulls = (f"{part[:, 0].mean():+.2f} ± {part[:, 0].std():.2f}" for part in cells)
        print(f"| {snr:g} | " + " | ".join(pulls) + f" | {np.mean([part[:, 3].mean() for part in cells]):.2%} |")
    for length in LENGTHS:
        part = np.concatenate([found[snr, length] for snr in SNRS if snr <= 10])
        error, milliseconds = np.median(part[:, 1]), 1e3 * np.median(part[:, 4])
        print(f"length {length:g} px: error {error:.3f} of the least, {milliseconds:.2f} ms")


if __name__ == "__main__":
    main()
