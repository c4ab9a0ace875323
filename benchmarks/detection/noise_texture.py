"""Point sources found by the default detector in noise of different texture:

    python -m benchmarks.detection.noise_texture

Real difference images have noise whose neighbours are uncorrelated or contrary, resampled ones smooth noise. For each
texture and each width of the PSF 100 point sources of one S/N lie on 1008 x 1008 px, with the PSF and the
autocorrelation of the noise known. Prints a table: share that becomes a candidate, and share that is published.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve
from scipy.signal import fftconvolve

from benchmarks.support.command_line import command_line
from flows.pipeline.search_pixels import search_pixels
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.matched_filter import template_snr
from kernels.trails.trail_model import trail_image
from schemas.exposure import ExposureInfo
from schemas.settings import DetectSettings, Settings
from tests.support.exposure import exposure_info

SIDE, STAMP, STEP, SIGMA, GAIN = 1008, 61, 100, 10.0, 6.0
WEIGHTS = (-0.1, -0.06, -0.03, 0.0, 0.08, 0.15)
"""Weights of the four neighbours of a pixel in the filter applied to white noise."""
FWHM_PX = (1.8, 2.4, 3.0, 3.6)


class Image(NamedTuple):
    """Image of point sources, with their places (n, 2): x, y, px."""

    info: ExposureInfo
    pixels: NDArray[np.float32]
    places: NDArray[np.float64]


def image(weight: float, fwhm_px: float, snr: float, side: int = SIDE, seed: int = 1) -> Image:
    """Draw point sources of one S/N in noise of a texture, with the Poisson noise of their light."""
    rng, psf = np.random.default_rng(seed), moffat_mixture(fwhm_px, 3.0)
    kernel = np.array([[0, weight, 0], [weight, 1, weight], [0, weight, 0]])
    kernel /= np.sqrt(np.square(kernel).sum())
    correlation = fftconvolve(kernel, kernel[::-1, ::-1])
    noise = convolve(rng.normal(size=(side, side)), kernel, mode="wrap")
    half = STAMP // 2
    flux = snr / template_snr(1.0, trail_image((STAMP, STAMP), half, half, 0.0, 0.0, psf), SIGMA, correlation)
    middles = np.arange(STEP // 2, side - half, STEP)
    places = np.array([(x, y) for y in middles for x in middles]) + rng.uniform(-8, 8, (len(middles) ** 2, 2))
    light = np.zeros((side, side))
    for x, y in places:
        x0, y0 = int(x) - half, int(y) - half
        x1, y1 = max(x0, 0), max(y0, 0)
        stamp = trail_image((STAMP, STAMP), x - x0, y - y0, 0.0, 0.0, psf)[y1 - y0 :, x1 - x0 :]
        here = light[y1 : y0 + STAMP, x1 : x0 + STAMP]
        here += flux * stamp[: here.shape[0], : here.shape[1]]
    pixels = SIGMA * noise + light + rng.normal(size=light.shape) * np.sqrt(np.maximum(light, 0) / GAIN)
    return Image(_described(side, fwhm_px, correlation), pixels.astype(np.float32), places)


def _described(side: int, fwhm_px: float, correlation: NDArray[np.float64]) -> ExposureInfo:
    known: dict[str, Any] = {"zero_point": 26.0, "gain": GAIN, "noise": SIGMA}
    return exposure_info((side, side), fwhm_px, noise_correlation=correlation.tolist(), **known)


def shares(drawn: Image, model: str) -> tuple[float, float]:
    """Return the share of the sources with a candidate, and with a published detection, within 4 px."""
    planes = {"difference": drawn.pixels, "mask": np.zeros(drawn.pixels.shape, np.uint16)}
    found = search_pixels(planes, drawn.info, Settings(detect=DetectSettings(model=model)))
    tables = (found[name].rows for name in ("streak", "dia_source"))
    rows = [np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()]) for table in tables]
    near = [np.linalg.norm(drawn.places[:, None] - one[None], axis=2).min(1, initial=np.inf) < 4 for one in rows]
    return float(near[0].mean()), float(near[1].mean())


def main() -> None:
    """Print the table."""
    given = command_line(__doc__, snr=[8.0, 12.0, 20.0], model=DetectSettings().model)
    print(f"{given.model}: candidates, published, by FWHM in px\n")
    print("| neighbours | S/N | " + " | ".join(f"{fwhm}" for fwhm in FWHM_PX) + " |")
    print("| --- | --- |" + " --- |" * len(FWHM_PX))
    for weight in WEIGHTS:
        for snr in given.snr:
            drawn = [image(weight, fwhm, snr) for fwhm in FWHM_PX]
            correlation = np.array(drawn[0].info.noise_correlation)
            cells = " | ".join("{:.2f}, {:.2f}".format(*shares(one, given.model)) for one in drawn)
            print(f"| {round(correlation[2, 3], 2) + 0.0:.2f} | {snr:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
