"""Pulls of the trail fit: errors in units of their standard errors, on simulated trails.

``python -m benchmarks.measurement.pulls [--trails N] [--seed S]`` prints the table of docs/measured/measurement.md.
Trails are drawn by GalSim (a Moffat profile convolved with a line, integrated over pixels) at random places, in noise
correlated as by resampling, with the Poisson noise of the trail itself; fits start from estimates as rough as those of
a search.
"""

import time

import galsim
import numpy as np
from scipy.signal import fftconvolve

from benchmarks.support.command_line import command_line
from kernels.image.noise import Noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.matched_filter import template_snr
from kernels.trails.scene import Scene
from kernels.trails.trail_fit import fit_trail

SIDE = 91
SIGMA = 10.0
GAIN = 1.5
COLUMNS = ("flux", "x", "y", "length", "angle")


def galsim_trail(shape, x, y, length, angle, fwhm, beta):
    """Draw a unit-flux trail by GalSim; 0-based pixels."""
    profile = galsim.Moffat(fwhm=fwhm, beta=beta)
    if length > 0:
        profile = galsim.Convolve(profile, galsim.Box(length, 1e-3).rotate(angle * galsim.degrees))
    ny, nx = shape
    # `center` would be taken modulo 1 px, for an image that GalSim makes itself.
    offset = (x - (nx - 1) / 2, y - (ny - 1) / 2)
    return profile.drawImage(nx=nx, ny=ny, scale=1, offset=offset, dtype=float).array


def correlated_noise(rng, shape):
    """Return unit noise as after resampling, and its autocorrelation at lags -5..5."""
    kernel = np.array([[0.05, 0.2, 0.05], [0.2, 1.0, 0.2], [0.05, 0.2, 0.05]])
    kernel /= np.sqrt(np.sum(kernel**2))
    noise = fftconvolve(rng.normal(size=(shape[0] + 2, shape[1] + 2)), kernel, mode="valid")
    return noise, np.pad(fftconvolve(kernel, kernel[::-1, ::-1]), 3)


def drawn(rng, length, snr, fwhm=2.3, beta=3.0):
    """Simulate one trail: its scene, a first estimate, and the truth (flux, x, y, length, angle)."""
    angle, (x, y) = rng.uniform(0, 180), SIDE // 2 + rng.uniform(-0.5, 0.5, 2)
    noise, correlation = correlated_noise(rng, (SIDE, SIDE))
    trail = galsim_trail((SIDE, SIDE), x, y, length, angle, fwhm, beta)
    flux = snr / template_snr(1.0, trail, SIGMA, correlation)
    poisson = rng.normal(size=trail.shape) * np.sqrt(np.maximum(flux * trail, 0) / GAIN)
    pixels = (SIGMA * noise + flux * trail + poisson).astype(np.float32)
    scene = Scene(
        pixels, np.ones(pixels.shape, bool), moffat_mixture(fwhm, beta), fwhm, Noise(SIGMA, correlation, GAIN)
    )
    guess = max(length * rng.uniform(0.7, 1.3) + rng.normal(), 0.0)
    rough = Segment(x + rng.normal(), y + rng.normal(), guess, angle + rng.normal(0, 4 if length > 10 else 15))
    return scene, rough, np.array([flux, x, y, length, angle])


def one(rng, length, snr, fwhm=2.3, beta=3.0):
    """Simulate and fit one trail: the fit, and the truth."""
    scene, rough, truth = drawn(rng, length, snr, fwhm, beta)
    return fit_trail(scene, rough), truth


def pulls(trails, seed, lengths=(4.0, 60.0), snrs=(8.0, 50.0)):
    """Simulate trails; return length, S/N and pulls of those whose fit converged, and the number of the others."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(trails):
        length, snr = rng.uniform(*lengths), np.exp(rng.uniform(*np.log(snrs)))
        fit, truth = one(rng, length, snr)
        if fit.converged:
            difference = np.array([fit.flux, *fit.segment]) - truth
            difference[4] = (difference[4] + 90) % 180 - 90
            rows.append([length, snr, *(difference / fit.errors)])
    return np.array(rows), trails - len(rows)


def main():
    options = command_line(__doc__, trails=3000, seed=1)
    began = time.perf_counter()
    rows, failed = pulls(options.trails, options.seed)
    seconds = time.perf_counter() - began
    print(f"{options.trails} trails, {failed} fits failed, {seconds:.0f} s with the simulation")
    print("| trails | n | " + " | ".join(COLUMNS) + " |\n|---|---|" + "---|" * len(COLUMNS))
    length, snr = rows[:, 0], rows[:, 1]
    cuts = {"all": length > 0}
    cuts |= {f"length {a} to {b} px": (length >= a) & (length < b) for a, b in ((4, 8), (8, 20), (20, 40), (40, 60))}
    cuts |= {f"S/N {a} to {b}": (snr >= a) & (snr < b) for a, b in ((8, 11), (11, 16), (16, 25), (25, 50))}
    for name, cut in cuts.items():
        values = rows[cut, 2:]
        cells = (f"{m:+.2f} ± {s:.2f}" for m, s in zip(values.mean(0), values.std(0), strict=True))
        print(f"| {name} | {cut.sum()} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
