"""Width of the PSF from the stars in an image."""

import numpy as np
import sep
from numpy.typing import NDArray

from kernels.moffat_fit import fit_moffat

_HALF = 10  # half the side of a stamp, px
_STARS = 25
_LEAST = 3  # stars, for a median to mean something


def estimate_psf(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: float,
    noise: float,
    saturation: float | None = None,
) -> tuple[float, float] | None:
    """Estimate FWHM and beta of a Moffat PSF from the brightest round, positive, isolated sources.

    Parameters
    ----------
    image, usable : (ny, nx)
        Direct or difference image, any unit; finite where usable.
    background, noise
        See `kernels.noise.background_and_noise`.
    saturation
        Sources that reach 0.8 of it are left out; unit of ``image``.

    Returns
    -------
    (fwhm_px, beta) or None
        Medians of fits to up to 25 sources; None if fewer than 3 are fit for it.
    """
    stars = _candidates(image, usable, background, noise, saturation)
    fits = np.array([fit_moffat(stamp) for stamp in stars]) if stars else np.empty((0, 2))
    # Narrower than a pixel: a cosmic ray or a hot pixel; as wide as the stamp: a galaxy or a ghost.
    fits = fits[(fits[:, 0] > 0.9) & (fits[:, 0] < _HALF)]
    if len(fits) < _LEAST:
        return None
    fwhm, beta = np.median(fits, axis=0)
    return float(fwhm), float(beta)


def _candidates(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: float,
    noise: float,
    saturation: float | None,
) -> list[NDArray[np.float32]]:
    data = np.where(usable, image - np.float32(background), np.float32(0))
    try:
        found = sep.extract(data, 8.0, err=noise, minarea=5, mask=~usable, deblend_cont=1.0)
    except Exception:  # sep raises bare Exception when its pixel stack is full: a frame of nothing but sources
        return []
    limit = np.inf if saturation is None else 0.8 * saturation - background
    elongation = found["a"] / np.maximum(found["b"], 1e-3)
    found = found[(found["flag"] == 0) & (elongation < 1.4) & (found["peak"] > 20 * noise) & (found["peak"] < limit)]
    stamps = []
    for source in np.sort(found, order="peak")[::-1]:
        y, x = round(float(source["y"])), round(float(source["x"]))
        box = np.s_[y - _HALF : y + _HALF + 1, x - _HALF : x + _HALF + 1]
        stamp = data[box]
        inside = min(y, x) >= _HALF and stamp.shape == (2 * _HALF + 1, 2 * _HALF + 1) and usable[box].all()
        # A dipole has a hole beside it; a neighbour would be fitted as wings.
        if inside and stamp.min() > -5 * noise - 0.1 * source["peak"] and _alone(stamp, float(source["peak"])):
            stamps.append(stamp)
        if len(stamps) == _STARS:
            break
    return stamps


def _alone(stamp: NDArray[np.float32], peak: float) -> bool:
    y, x = np.mgrid[-_HALF : _HALF + 1, -_HALF : _HALF + 1]
    return bool(stamp[np.hypot(y, x) > 0.7 * _HALF].max() < 0.3 * peak)
