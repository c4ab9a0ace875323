"""Stars on a stamp too small for `kernels.seeing`: where they are, and how wide."""

import numpy as np
import sep
from numpy.typing import NDArray

from kernels.moffat_fit import fit_moffat

_HALF = 7  # half the side of what is fitted, px
_LEAST_PEAK = 12.0  # sigma
_LEAST_WIDTH, _MOST_WIDTH = 0.9, 7.0  # px: a cosmic ray; a galaxy


def fit_stars(
    image: NDArray[np.float32], usable: NDArray[np.bool_], background: float, noise: float
) -> NDArray[np.float64]:
    """Fit a Moffat profile to each bright, round, isolated, positive source.

    Parameters
    ----------
    image, usable : (ny, nx)
        Any unit; finite where usable.
    background, noise
        See `kernels.noise.background_and_noise`.

    Returns
    -------
    (n, 4) float64
        x and y, 0-based px; FWHM before the pixels, px; beta. Brightest first.
    """
    data = np.where(usable, image - np.float32(background), np.float32(0))
    found = sep.extract(data, 8.0, err=noise, minarea=5, mask=~usable, deblend_cont=1.0)
    found = found[np.argsort(-found["flux"], kind="stable")]
    stars = []
    for i, source in enumerate(found):
        y, x = round(float(source["y"])), round(float(source["x"]))
        box = np.s_[y - _HALF : y + _HALF + 1, x - _HALF : x + _HALF + 1]
        whole = min(y, x) >= _HALF and data[box].shape == (2 * _HALF + 1,) * 2 and usable[box].all()
        near = np.hypot(found["x"] - source["x"], found["y"] - source["y"]) < 1.5 * _HALF
        alone = found["flux"][near].sum() - source["flux"] < 0.1 * source["flux"]
        round_one = source["flag"] == 0 and source["a"] < 1.4 * source["b"]
        if not (whole and alone and round_one and source["peak"] > _LEAST_PEAK * noise):
            continue
        fwhm, beta = fit_moffat(data[box])
        if _LEAST_WIDTH < fwhm < _MOST_WIDTH:
            stars.append((found["x"][i], found["y"][i], fwhm, beta))
    return np.array(stars, float).reshape(-1, 4)
