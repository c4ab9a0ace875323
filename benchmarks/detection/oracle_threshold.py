"""False alarms of a bank of trail templates on pure correlated noise, against the threshold.

``python -m benchmarks.detection.oracle_threshold [--fields N] [--smoothing SIGMA]`` prints the peaks per image of 3080
x 3072 px and the two constants of `kernels.trails.matched_filter.false_alarms` that fit them.
"""

import time

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.optimize import minimize

from benchmarks.support.command_line import command_line
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.trail_model import trail_image

SIDE = 1024
STAMP = 101
BATCH = 25
IMAGE_PX = 3080 * 3072
NEIGHBOURHOOD = 15
THRESHOLDS = np.arange(4.4, 6.41, 0.1)
ANGLES = {0: 1, 2: 4, 4: 8, 7: 12, 11: 16, 16: 24, 24: 30, 35: 36, 48: 36, 60: 36}


def bank(fwhm):
    """Yield Fourier transforms of unit-flux trails about pixel (0, 0)."""
    psf = moffat_mixture(fwhm, 3.0)
    half = STAMP // 2
    for length, count in ANGLES.items():
        for angle in np.arange(count) * 180 / count:
            template = np.zeros((SIDE, SIDE), np.float32)
            template[:STAMP, :STAMP] = trail_image((STAMP, STAMP), half, half, float(length), float(angle), psf)
            yield np.conj(rfft2(np.roll(template, (-half, -half), (0, 1))))


def peaks(seeds, fwhm, smoothing):
    """Return heights of local maxima of the best template's S/N; noise and filters wrap around the edges."""
    noise = (np.random.default_rng(seed).standard_normal((SIDE, SIDE)).astype(np.float32) for seed in seeds)
    spectra = [rfft2(gaussian_filter(field, smoothing, mode="wrap") if smoothing else field) for field in noise]
    best = np.full((len(spectra), SIDE, SIDE), -np.inf, np.float32)
    for template in bank(fwhm):
        for spectrum, highest in zip(spectra, best, strict=True):
            response = irfft2(spectrum * template, s=(SIDE, SIDE))
            np.maximum(highest, response / response.std(), out=highest)
    tops = [
        field[(field == maximum_filter(field, NEIGHBOURHOOD, mode="wrap")) & (field > THRESHOLDS[0])] for field in best
    ]
    return np.concatenate(tops)


def fit(counts, area):
    """Return density and power of the alarms, by Poisson likelihood of the counts between thresholds."""
    observed = np.append(-np.diff(counts), counts[-1])

    def loss(parameters):
        expected = area * np.exp(parameters[0] + parameters[1] * np.log(THRESHOLDS / 5) - THRESHOLDS**2 / 2)
        between = np.maximum(np.append(-np.diff(expected), expected[-1]), 1e-12)
        return float(np.sum(between - observed * np.log(between)))

    log_density, power = minimize(loss, (1.0, 1.0), method="Nelder-Mead").x
    return float(np.exp(log_density) / 5**power), float(power)


def main():
    options = command_line(
        __doc__,
        fields=(500, "fields of 1024 x 1024 px"),
        fwhm=(2.45, "of the PSF, px"),
        smoothing=(0.6, "sigma of the kernel that correlates the noise, px"),
    )
    start = time.perf_counter()
    batches = [range(first, min(first + BATCH, options.fields)) for first in range(0, options.fields, BATCH)]
    heights = np.concatenate([peaks(seeds, options.fwhm, options.smoothing) for seeds in batches])
    counts = np.array([(heights >= t).sum() for t in THRESHOLDS])
    area = options.fields * SIDE**2
    density, power = fit(counts, area)
    print(f"{options.fields} fields, {sum(ANGLES.values())} templates, {time.perf_counter() - start:.0f} s")
    print(f"false alarms = {density:.4g} * area_px * t**{power:.3f} * exp(-t**2 / 2)")
    print("| threshold, sigma | peaks | per 3080 x 3072 px | fitted |\n|---|---|---|---|")
    for threshold, count in zip(THRESHOLDS, counts, strict=True):
        model = density * IMAGE_PX * threshold**power * np.exp(-(threshold**2) / 2)
        print(f"| {threshold:.1f} | {count} | {count * IMAGE_PX / area:.3g} | {model:.3g} |")


if __name__ == "__main__":
    main()
