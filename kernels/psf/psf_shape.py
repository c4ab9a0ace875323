"""Width and ellipticity of the PSF at a place, and the PSF there."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.image.variation import varied
from kernels.psf.gaussian_mixture import GaussianMixture
from schemas.exposure import Variation


class PsfShape(NamedTuple):
    """PSF at n places, relative to the round PSF of the image: (n,) each.

    Attributes
    ----------
    width
        Width over that of the image's PSF.
    e1, e2
        (a2 - b2) / (a2 + b2) of its axes a > b, times the cosine and the sine of twice the angle of a from +x.
    """

    width: NDArray[np.float64]
    e1: NDArray[np.float64]
    e2: NDArray[np.float64]

    @classmethod
    def at(cls, variation: Variation, x: NDArray[Any] | float, y: NDArray[Any] | float) -> "PsfShape":
        """Return that of one place of an image, or of n, px."""
        change, e1, e2 = varied(variation, np.atleast_1d(x), np.atleast_1d(y))
        return cls(np.exp(change), e1, e2)

    def stretch(self) -> NDArray[np.float64]:
        """Return a, b, c, (n, 3), of `kernels.psf.gaussian_mixture.GaussianMixture`: the root of `inverse`."""
        xx, yy, xy = self.inverse().T
        area = np.sqrt(xx * yy - xy * xy / 4)
        return np.stack([xx + area, xy / 2, yy + area], 1) / np.sqrt(xx + yy + 2 * area)[:, None]

    def inverse(self) -> NDArray[np.float64]:
        """Return xx, yy, xy, (n, 3): xx dx2 + yy dy2 + xy dx dy is the squared distance as the image's PSF has it."""
        scale = 1 / (np.sqrt(1 - self.e1**2 - self.e2**2) * self.width**2)
        return np.stack([(1 - self.e1) * scale, (1 + self.e1) * scale, -2 * self.e2 * scale], 1)


def psf_at(psf: GaussianMixture, variation: Variation, x: float, y: float) -> GaussianMixture:
    """Return the PSF of an image at a place, px."""
    return psfs_at(psf, variation, np.array([x]), np.array([y]))[0]


def psfs_at(
    psf: GaussianMixture, variation: Variation, x: NDArray[np.float64], y: NDArray[np.float64]
) -> list[GaussianMixture]:
    """Return the PSFs of an image at n places, px."""
    stretches = PsfShape.at(variation, x, y).stretch()
    stretches.setflags(write=False)
    return [psf._replace(stretch=stretch) for stretch in stretches]
