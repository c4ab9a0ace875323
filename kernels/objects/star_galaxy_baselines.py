"""Baselines for stars and galaxies: boosted trees on moments, and the classical cut."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.nets.tree_ensemble import TreeEnsemble, tree_logits
from kernels.objects.cutout_features import MOMENTS, OF_PSF

SETS = ("best", "mean", "least", "greatest")
"""What the trees see of the moments of all bands: see `moments_of`."""

_MOST_SIGNAL = 12.0  # arcsinh of S/N; weights stay finite


class MomentTrees(NamedTuple):
    """Trees that were fitted to what `moments_of` gives."""

    trees: TreeEnsemble

    def log_odds(
        self, features: NDArray[np.float32], usable: NDArray[np.bool_], has_psf: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return the log odds of a star, (n,): see `kernels.objects.cutout_features.BandViews`."""
        return tree_logits(moments_of(features, usable, has_psf), self.trees).astype(np.float64)


def moments_of(
    features: NDArray[np.float32], usable: NDArray[np.bool_], has_psf: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return one set of moments for all bands, whatever their number and order.

    Parameters
    ----------
    features : (n, bands, features)
        See `kernels.objects.cutout_features.FEATURES`; the first are the moments.
    usable, has_psf : (n, bands)
        Which bands count, and which of them with PSF.

    Returns
    -------
    (n, 4 moments + 2) float32
        Moments in the band of highest S/N; their mean over the bands, weighted by S/N squared; the least; the greatest;
        then the numbers of bands and of PSFs. Those that need a PSF are 0 in a band without; the mean leaves it out.
    """
    kept = features[..., : len(MOMENTS)].astype(np.float32)
    psf = has_psf & usable
    kept[..., OF_PSF:] *= psf[..., None]
    signal = np.where(usable, kept[..., 0], -np.inf)
    best = np.take_along_axis(kept, signal.argmax(1)[:, None, None], 1)[:, 0]
    weight = np.where(usable, np.square(np.sinh(np.clip(kept[..., 0], 0, _MOST_SIGNAL))) + 1e-3, 0)
    mean = np.concatenate([_mean(kept[..., :OF_PSF], weight), _mean(kept[..., OF_PSF:], np.where(psf, weight, 0))], 1)
    there, any_there = usable[..., None], usable.sum(1)[:, None] > 0
    edges = [np.where(there, kept, np.inf).min(1), np.where(there, kept, -np.inf).max(1)]
    numbers = [usable.sum(1)[:, None], psf.sum(1)[:, None]]
    found = np.concatenate([best, mean, *edges, *numbers], 1)
    return np.ascontiguousarray(np.where(any_there, found, 0), np.float32)


def _mean(values: NDArray[np.float32], weight: NDArray[np.floating]) -> NDArray[np.floating]:
    total = weight.sum(1)[:, None]
    return (values * weight[..., None]).sum(1) / np.where(total > 0, total, 1)


class LocusCut(NamedTuple):
    """A star is whatever is smaller than ``level + slope * signal``.

    ``signal`` is arcsinh of the S/N of the object's best band, size there is ln of its width, against the PSF's
    where one is known.
    """

    level: float
    slope: float

    def log_odds(self, features: NDArray[np.float32], has_psf: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return how far below the cut each object lies, (n, bands, features) -> (n,)."""
        signal, size = locus(features, has_psf)
        return self.level + self.slope * signal - size


def locus(features: NDArray[np.float32], has_psf: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return signal and size of each object in its best band."""
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
