"""A circular Moffat profile through the pixels of a star or a PSF stamp."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

_BETA = (1.1, 20.0)  # beyond 20 a Moffat profile is a Gaussian to 1 %
_SUBPIXELS = 5


def fit_moffat(stamp: NDArray[np.floating]) -> tuple[float, float]:
    """Fit ``A (1 + (r / alpha)^2)^-beta + B``, averaged over each pixel, by least squares.

    Parameters
    ----------
    stamp : (ny, nx)
        Image of one point source near the middle, any unit; not finite pixels are left out.

    Returns
    -------
    fwhm_px, beta
        Full width at half maximum before the pixels blur it, px, and slope, 1.1 to 20
        (Moffat 1969, A&A 3, 455).

    Raises
    ------
    ValueError
        The stamp holds no positive source, or is smaller than 5 x 5 px.
    """
    good = np.isfinite(stamp)
    if min(stamp.shape) < 5 or good.sum() < 25:
        raise ValueError(f"a stamp of {stamp.shape} with {int(good.sum())} finite pixels is too small")
    data = np.where(good, stamp, 0).astype(np.float64)
    peak = float(data.max())
    base = float(np.median(data[good]))
    if peak <= base:
        raise ValueError("the stamp has no peak above its median")
    data = (data - base) / (peak - base)
    y0, x0 = np.unravel_index(np.argmax(np.where(good, data, -np.inf)), data.shape)
    above = max(float((data[good] > 0.5).sum()), 1.0)
    start = [1.0, 0.0, float(x0), float(y0), 2 * np.sqrt(above / np.pi), 3.0]
    bounds = (
        [0.2, -0.5, x0 - 2.0, y0 - 2.0, 0.3, _BETA[0]],
        [20.0, 0.5, x0 + 2.0, y0 + 2.0, 2.0 * max(stamp.shape), _BETA[1]],
    )
    start[4] = float(np.clip(start[4], 0.5, max(stamp.shape)))

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return (_profile(parameters, data.shape) - data)[good]

    fitted = least_squares(residuals, start, bounds=bounds, x_scale=[1, 0.1, 1, 1, 1, 1], max_nfev=200).x
    return float(fitted[4]), float(fitted[5])


def _profile(parameters: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    amplitude, base, x0, y0, fwhm, beta = parameters
    alpha = 0.5 * fwhm / np.sqrt(2 ** (1 / beta) - 1)
    offsets = (np.arange(_SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5
    y = (np.arange(shape[0])[:, None] + offsets).ravel()[:, None] - y0
    x = (np.arange(shape[1])[:, None] + offsets).ravel()[None, :] - x0
    fine = (1 + (x * x + y * y) / alpha**2) ** -beta
    coarse = fine.reshape(shape[0], _SUBPIXELS, shape[1], _SUBPIXELS).mean(axis=(1, 3))
    return amplitude * coarse + base
