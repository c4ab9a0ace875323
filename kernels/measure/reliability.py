"""Inputs of the reliability model: measurements and stamps of candidates."""

import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.gaussian import FAST
from kernels.image.search_image import squash
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from kernels.trails.trail_model import trail_image
from schemas.dia_source import CAUSES, FEATURES, RESIDUALS, STATIC, DetectionFlag


def feature_matrix(
    table: pa.Table,
    fwhm_px: float,
    trail_snr: NDArray[np.floating],
    residuals: NDArray[np.float32],
    static: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the features of each candidate for the model ``reliability``.

    Parameters
    ----------
    table
        Measured candidates, columns of `schemas.dia_source`; N rows.
    fwhm_px
        FWHM of the exposure's PSF, px.
    trail_snr : (N,)
        Flux of the trail fit over its error, with free position, length and angle.
    residuals : (N, len(RESIDUALS)) float32
        See `kernels.measure.surroundings`.
    static : (N, len(STATIC)) float32
        See `kernels.measure.surroundings`.

    Returns
    -------
    (N, len(FEATURES)) float32
        Features in the order and by the rules of `schemas.model_card`.
    """

    def values(name: str) -> NDArray[np.float64]:
        return np.nan_to_num(table[name].to_numpy().astype(float), nan=0.0, posinf=0.0, neginf=0.0)

    flags = table["flags"].to_numpy()
    pixels, snr = np.maximum(values("trailNdata"), 1), np.nan_to_num(trail_snr, nan=0.0, posinf=0.0, neginf=0.0)
    by_name = {
        "log_logit_sum": np.log1p(np.maximum(values("logitSum"), 0)),
        "logit_peak": values("logitPeak"),
        "log_hits": np.log1p(values("nHits")),
        "log_snr": np.log1p(np.maximum(snr, 0)),
        "log_length": np.log1p(values("trailLengthPx") / fwhm_px),
        "trail_misfit": _misfit(values("trailChi2"), pixels, snr),
        "psf_misfit": _misfit(values("psfChi2"), pixels, snr),
        "log_sharpness": np.log1p(np.maximum(values("sharpness"), 0)),
        "negative_fraction": values("negativeFraction"),
        "masked_fraction": values("maskedFraction"),
        "near_bright_star": (flags & DetectionFlag.NEAR_BRIGHT_STAR) != 0,
        "dipole": (flags & DetectionFlag.DIPOLE) != 0,
        "fit_failed": (flags & DetectionFlag.FIT_FAILED) != 0,
        "log_fwhm": np.full(len(table), np.log(fwhm_px)),
    }
    by_name |= {f"{name}Evidence": values(f"{name}Evidence") for name, _, _ in CAUSES}
    by_name |= dict(zip(RESIDUALS, residuals.T, strict=True)) | dict(zip(STATIC, static.T, strict=True))
    return np.stack([by_name[name] for name in FEATURES], axis=1).astype(np.float32)


def _misfit(chi2: NDArray[np.float64], pixels: NDArray[np.float64], snr: NDArray[np.float64]) -> NDArray[np.float64]:
    excess = np.sqrt(np.maximum(chi2 - pixels - 3 * np.sqrt(2 * pixels), 0.0))
    return np.minimum(excess / np.maximum(snr, 3.0), 3.0)


STAMP_SIDE = 32
"""Side of a picture, which two 2 x 2 max-pools must divide."""

STAMP_CHANNELS = 7
"""Number of pictures of a candidate; `kernels.nets.reliability_cnn.ReliabilityCnn` takes the first 6 or all."""

COARSE = 3
"""Side of the squares summed in the coarse pictures, px."""


class FittedTrail(NamedTuple):
    """Candidate as fitted: trail, flux and level, pixel units."""

    segment: Segment
    flux: float
    level: float


def candidate_stamps(
    scene: Scene, found: list[FittedTrail], science: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the stamps of candidates.

    Parameters
    ----------
    scene
        Image with its PSF and noise.
    found
        Candidates.
    science : (ny, nx)
        Science image on the same pixels and in the same unit, if there is one; may hold NaN.

    Returns
    -------
    (n, CHANNELS, SIDE, SIDE) float32
        Channels around the central pixel (row and column 16). At the pixel scale: the image minus the level of the fit,
        in units of the noise; the same minus the fitted trail; the fitted trail; 1 for unusable pixels. In squares of
        3 x 3 px: the sum of the first channel over 3, and the unusable share. Last, at the pixel scale, the static
        light: science minus difference, minus its median over the stamp, in units of the noise; 0 if it is not known.
        Brightness is passed through `kernels.image.search_image.squash`.
    """
    out = np.zeros((len(found), STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE), np.float32)
    scenes = scene.at_each([one.segment[:2] for one in found])
    for picture, there, (segment, flux, level) in zip(out, scenes, found, strict=True):
        per_noise = 1 / there.noise.sigma
        x, y = math.floor(segment.x + 0.5), math.floor(segment.y + 0.5)
        half = STAMP_SIDE // 2
        model = trail_image(
            (STAMP_SIDE, STAMP_SIDE),
            segment.x - x + half,
            segment.y - y + half,
            segment.length,
            segment.angle,
            there.psf,
        )
        picture[2] = model * (flux * per_noise)
        _fill(scene.pixels, scene.usable, np.float32(level), np.float32(per_noise), y, x, picture)
        picture[1] = np.where(picture[3] > 0, np.float32(0), picture[0] - picture[2])
        if science is not None:
            picture[6] = _static(scene, science, y, x) * per_noise
        for channel in (0, 1, 2, 4, 6):
            squash(picture[channel])
    return out


def _static(scene: Scene, science: NDArray[np.float32], y: int, x: int) -> NDArray[np.float32]:
    """Return science minus difference around a pixel, minus its median; 0 where either is unusable."""
    half = STAMP_SIDE // 2
    rows, columns = (
        slice(max(at - half, 0), max(min(at + half, size), 0)) for at, size in zip((y, x), scene.shape, strict=True)
    )
    light = science[rows, columns] - scene.pixels[rows, columns]
    seen = scene.usable[rows, columns] & np.isfinite(light)
    picture = np.zeros((STAMP_SIDE, STAMP_SIDE), np.float32)
    if seen.any():
        place = picture[rows.start - y + half :, columns.start - x + half :][: light.shape[0], : light.shape[1]]
        place[seen] = light[seen] - np.median(light[seen])
    return picture


@njit(**FAST)
def _fill(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    level: np.float32,
    per_noise: np.float32,
    y: int,
    x: int,
    picture: NDArray[np.float32],
) -> None:
    """Fill channels 0, 3, 4 and 5."""
    ny, nx = pixels.shape
    half = STAMP_SIDE // 2
    for j in range(STAMP_SIDE):
        for i in range(STAMP_SIDE):
            r, c = y + j - half, x + i - half
            if 0 <= r < ny and 0 <= c < nx and usable[r, c]:
                picture[0, j, i] = (pixels[r, c] - level) * per_noise
            else:
                picture[3, j, i] = 1
    first = half * COARSE + COARSE // 2
    for j in range(STAMP_SIDE * COARSE):
        for i in range(STAMP_SIDE * COARSE):
            r, c = y + j - first, x + i - first
            if 0 <= r < ny and 0 <= c < nx and usable[r, c]:
                picture[4, j // COARSE, i // COARSE] += (pixels[r, c] - level) * per_noise * np.float32(1 / COARSE)
            else:
                picture[5, j // COARSE, i // COARSE] += np.float32(1 / COARSE**2)
