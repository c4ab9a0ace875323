"""Networks for stars and galaxies that take a fixed number of planes, each z-scored: those of the source."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.cutout_features import BandViews
from kernels.cutout_planes import Planes
from kernels.star_galaxy_model import Raw, StarGalaxyModel, signals
from schemas.errors import BadInput


class PlaneClassifier(Protocol):
    """A network whose last layer, from codes to the scores of galaxy and star, can be had by itself."""

    @property
    def head(self) -> torch.nn.Module:
        """The last layer."""

    def codes(self, cutouts: torch.Tensor, /) -> torch.Tensor:
        """Give what goes into it, (n, planes, side, side) -> (n, codes)."""


@dataclass(frozen=True)
class PlaneNet(StarGalaxyModel):
    """A network with a place for each band.

    Attributes
    ----------
    net
        Takes (n, 2 bands, side, side).
    bands
        Number of bands, in the order of the training cutouts. A missing one is all NaN: its planes are zeros.
    """

    net: PlaneClassifier
    bands: int

    def raw(self, planes: Planes, views: BandViews) -> Raw:
        """Apply the network to objects that have a usable band each."""
        said = said_of_planes(self.net, torch.from_numpy(z_scored(planes)))
        return Raw(*said, signals(views))

    def bands_of(self, cutouts: NDArray[np.float32]) -> int:
        """Give the number of bands of cutouts; raise `BadInput` where they cannot be judged."""
        bands = super().bands_of(cutouts)
        if bands != self.bands:
            problem = f"have {cutouts.shape[1]} planes, but {self.version} takes {2 * self.bands}."
            remedy = "give these bands, missing ones all NaN, or take the model multi_band, which takes any."
            raise BadInput("band_count", "cutouts", problem, remedy)
        return bands


def z_scored(planes: Planes) -> NDArray[np.float32]:
    """Give images, then PSFs, each with mean 0 and standard deviation 1 (ddof 0): (n, 2 bands, side, side).

    A plane that is missing or not usable is all zeros; so is the PSF of a band that is not usable. A missing pixel has
    the value of the background.
    """
    pixels = np.concatenate([planes.image, planes.psf], 1)
    away = pixels - pixels.mean((2, 3), keepdims=True)
    spread = away.std((2, 3), keepdims=True)
    kept = np.concatenate([planes.usable, planes.has_psf], 1)[..., None, None] & (spread > 0)
    return np.divide(away, spread, out=np.zeros_like(away), where=kept)


def said_of_planes(net: PlaneClassifier, pixels: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give log odds of a star, (n,), and codes, (n, codes), of z-scored planes."""
    with torch.inference_mode():
        codes = net.codes(pixels)
        scores = net.head(codes)
    return (scores[:, 1] - scores[:, 0]).numpy(), codes.numpy()
