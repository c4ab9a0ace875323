"""Profiles drawn through Fourier space, where those of many sources share what they have in common."""

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy.fft import ifft, irfft

Waves = NDArray[np.complexfloating]

_GRID = 128  # samples in each direction
_FINE = 2  # samples per px: what a PSF passes beyond that is nothing


def waves(profile: galsim.GSObject, scale: float) -> NDArray[np.complex64]:
    """Give the Fourier transform of a profile, (128, 65), at the waves of a grid of 64 x 64 px.

    Parameters
    ----------
    profile
        In arcsec.
    scale
        arcsec per px.
    """
    step = 2 * np.pi / (_GRID * scale / _FINE)
    half = _GRID // 2
    image = galsim.ImageCF(galsim.BoundsI(0, half, -half, half - 1))
    profile.drawKImage(image=image, scale=step, recenter=False)
    return np.fft.ifftshift(image.array, axes=0)


def pixel_waves(scale: float) -> NDArray[np.complex64]:
    """Give the transform of a square pixel, like `waves`."""
    return waves(galsim.Pixel(scale), scale)


def render(product: Waves, side: int, x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    """Draw what a product of transforms describes; its origin is at pixel (side // 2, side // 2) plus (x, y) px.

    What lies more than 64 - side px away comes in again from the other side.
    """
    frequency = 2 * np.pi / _GRID * _FINE  # rad / px per wave
    ky = frequency * np.fft.fftfreq(_GRID, 1 / _GRID)
    kx = frequency * np.arange(_GRID // 2 + 1)
    down = np.exp(-1j * ky * (side // 2 + y)).astype(np.complex64)
    right = np.exp(-1j * kx * (side // 2 + x)).astype(np.complex64)
    # Rows that are not wanted are left out between the two directions.
    rows = ifft(product * down[:, None], axis=0)[: _FINE * side : _FINE] * right
    return irfft(rows, _GRID, axis=1)[:, : _FINE * side : _FINE].astype(np.float64) * _FINE**2
