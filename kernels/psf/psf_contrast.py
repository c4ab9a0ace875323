"""Contrast of a source with its PSF."""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit, prange
from kernels.image.gaussian import FAST

WIDTHS = (0.7, 1.2, 2.0, 3.0)
"""Widths of the Gaussian apertures, in standard deviations of the PSF."""

_FIT = 3.0  # radius of the fit, in standard deviations of the PSF
_PSF_ERROR = np.float32(0.02)  # relative error of the PSF's pixels, which limits the accuracy


@njit(**FAST, parallel=True)
def psf_contrast(
    images: NDArray[np.float32],
    psfs: NDArray[np.float32],
    shift: NDArray[np.float32],
    centre: NDArray[np.float32],
    sigma: NDArray[np.float32],
    features: NDArray[np.float32],
    residuals: NDArray[np.float32],
) -> None:
    """Fit the PSF to each image, and measure what is left over (compiled).

    Parameters
    ----------
    images, psfs : (n, side, side)
        In units of the noise; peak 1.
    shift : (n, 2)
        (x, y) from the PSF to the source, px.
    centre : (n, 2)
        (x, y) of the source from the middle of the image, px.
    sigma : (n,)
        Standard deviation of the PSF, px; 0: no PSF, nothing is written for that image.
    features : (n, 1 + 2 len(WIDTHS))
        Result: ln of chi squared per pixel of the fit; the residual in each aperture in units of its noise (arcsinh);
        the same as a share of the fitted PSF there (-1 to 3).
    residuals : (n, side, side)
        Result: image less fit, in units of the noise and 2 % of the fit.

    Notes
    -----
    The PSF is moved by cubic convolution (Keys 1981, IEEE Trans. ASSP 29, 1153). That the light beyond a PSF fit
    separates galaxies from stars is the idea of SDSS's psfMag - modelMag and of spread_model (Desai et al. 2012, ApJ
    757, 83).
    """
    for n in prange(images.shape[0]):
        if sigma[n] > 0:
            _contrast(images[n], psfs[n], shift[n], centre[n], sigma[n], features[n], residuals[n])


@njit(**FAST)
def _contrast(
    image: NDArray[np.float32],
    psf: NDArray[np.float32],
    shift: NDArray[np.float32],
    centre: NDArray[np.float32],
    sigma: float,
    features: NDArray[np.float32],
    residual: NDArray[np.float32],
) -> None:
    side = image.shape[0]
    half, moved = np.empty((side, side), np.float32), np.empty((side, side), np.float32)
    _move(psf, shift[0], shift[1], half, moved)
    middle = (side - 1) / 2
    x, y, reach = middle + centre[0], middle + centre[1], (_FIT * sigma) ** 2
    product = square = 0.0
    for row in range(side):
        for column in range(side):
            if (row - y) ** 2 + (column - x) ** 2 <= reach:
                product += image[row, column] * moved[row, column]
                square += moved[row, column] ** 2
    flux = np.float32(max(product / square, 0.0)) if square > 0 else np.float32(0)
    chi2, count = 0.0, 0
    for row in range(side):
        for column in range(side):
            fit = flux * moved[row, column]
            scaled = (image[row, column] - fit) / np.sqrt(np.float32(1) + (_PSF_ERROR * fit) ** 2)
            residual[row, column] = scaled
            if (row - y) ** 2 + (column - x) ** 2 <= reach:
                chi2 += scaled**2
                count += 1
    features[0] = np.log(max(chi2 / max(count, 1), 0.01))
    bell_x, bell_y = np.empty(side, np.float32), np.empty(side, np.float32)
    for k in range(len(WIDTHS)):
        for i in range(side):
            bell_x[i] = np.exp(-((i - x) ** 2) / (2 * (WIDTHS[k] * sigma) ** 2))
            bell_y[i] = np.exp(-((i - y) ** 2) / (2 * (WIDTHS[k] * sigma) ** 2))
        over, noise, fitted = _apertures(image, moved, flux, bell_x, bell_y)
        features[1 + k] = np.arcsinh(over / np.sqrt(noise))
        features[1 + len(WIDTHS) + k] = min(max(over / fitted, -1.0), 3.0) if fitted > 0 else 3.0


@njit(**FAST)
def _apertures(
    image: NDArray[np.float32],
    moved: NDArray[np.float32],
    flux: float,
    bell_x: NDArray[np.float32],
    bell_y: NDArray[np.float32],
) -> tuple[float, float, float]:
    """Return the weighted sums of what the fit leaves over, of its variance, and of the fit."""
    over = noise = fitted = 0.0
    for row in range(image.shape[0]):
        a = b = c = np.float32(0)
        for column in range(image.shape[1]):
            weight = bell_x[column]
            fit = flux * moved[row, column]
            a += weight * (image[row, column] - fit)
            b += weight * weight * (np.float32(1) + (_PSF_ERROR * fit) ** 2)
            c += weight * fit
        over += bell_y[row] * a
        noise += bell_y[row] ** 2 * b
        fitted += bell_y[row] * c
    return over, noise, fitted


@njit(**FAST)
def _move(image: NDArray[np.float32], x: float, y: float, half: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Shift an image by (x, y) px, rows and columns in turn; what comes in is 0."""
    side = image.shape[0]
    step = int(np.floor(x))
    a, b, c, d = _cubic(x - step)
    for row in range(side):
        for column in range(side):
            total = 0.0
            for k, weight in ((-1, d), (0, c), (1, b), (2, a)):
                place = column - step - 1 + k
                if 0 <= place < side:
                    total += weight * image[row, place]
            half[row, column] = total
    step = int(np.floor(y))
    a, b, c, d = _cubic(y - step)
    for row in range(side):
        for column in range(side):
            total = 0.0
            for k, weight in ((-1, d), (0, c), (1, b), (2, a)):
                place = row - step - 1 + k
                if 0 <= place < side:
                    total += weight * half[place, column]
            out[row, column] = total


@njit(**FAST)
def _cubic(t: float) -> tuple[float, float, float, float]:
    """Return the weights of the pixels n + 1, n, n - 1 and n - 2 in the value at n - ``t``, 0 <= ``t`` < 1."""
    return (
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (-(t**2) + t**3),
    )
