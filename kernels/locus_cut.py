"""Stars on their locus of magnitude and size: the classical cut."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.cutout_features import MOMENTS


class LocusCut(NamedTuple):
    """A star is whatever is smaller than ``level + slope * signal``.

    ``signal`` is arcsinh of the S/N of the object's best band, size there is ln of its width, against the PSF's
    where one is known.
    """

    level: float
    slope: float

    def log_odds(self, features: NDArray[np.float32], has_psf: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Give how far below the cut each object lies, (n, bands, features) -> (n,)."""
        signal, size = locus(features, has_psf)
        return self.level + self.slope * signal - size


def locus(features: NDArray[np.float32], has_psf: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give signal and size of each object in its best band."""
    best = features[..., MOMENTS.index("signal")].argmax(1)
    row = features[np.arange(len(features)), best].astype(np.float64)
    ratio = row[:, MOMENTS.index("size_ratio")]
    size = np.where(has_psf[np.arange(len(best)), best], ratio, row[:, MOMENTS.index("size")])
    return row[:, MOMENTS.index("signal")], size


def fit_locus(signal: NDArray[np.float64], size: NDArray[np.float64], star: NDArray[np.bool_]) -> LocusCut:
    """Find the cut of the highest accuracy on a grid: every slope from -0.3 to 0.3, every level between two objects."""
    best, found = -1, LocusCut(0.0, 0.0)
    for slope in np.linspace(-0.3, 0.3, 61):
        height = size - slope * signal
        order = np.argsort(height)
        # Right, if the cut lies above the first k objects: stars among them, galaxies among the others.
        right = (
            np.concatenate([[0], np.cumsum(star[order])])
            + (~star).sum()
            - np.concatenate([[0], np.cumsum(~star[order])])
        )
        k = int(right.argmax())
        if right[k] > best:
            ordered = height[order]
            edges = np.concatenate([[ordered[0] - 0.01], (ordered[1:] + ordered[:-1]) / 2, [ordered[-1] + 0.01]])
            best, found = int(right[k]), LocusCut(float(edges[k]), float(slope))
    return found
