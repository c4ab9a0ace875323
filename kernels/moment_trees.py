"""Boosted trees on the moments of cutouts."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.cutout_features import MOMENTS, OF_PSF
from kernels.tree_ensemble import TreeEnsemble, tree_logits


class MomentTrees(NamedTuple):
    """Trees that were fitted to the moments of ``bands`` bands side by side."""

    trees: TreeEnsemble
    bands: int

    def log_odds(
        self, features: NDArray[np.float32], usable: NDArray[np.bool_], has_psf: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Give the log odds of a star: see `kernels.cutout_features.BandViews`; (n, bands, features) -> (n,).

        Trees of one band judge every usable band, and their mean counts; others take missing bands for zeros.
        """
        n, bands = usable.shape
        if self.bands == 1:
            each = tree_logits(moments_of(features.reshape(n * bands, 1, -1), has_psf.reshape(-1, 1)), self.trees)
            return (each.reshape(n, bands) * usable).sum(1) / np.maximum(usable.sum(1), 1)
        width = ((0, 0), (0, max(self.bands - bands, 0)), (0, 0))
        padded = np.pad(features, width)[:, : self.bands]
        known = np.pad(has_psf, width[:2])[:, : self.bands]
        return tree_logits(moments_of(padded, known), self.trees).astype(np.float64)


def moments_of(features: NDArray[np.float32], has_psf: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Give the moments of all bands side by side: (n, bands, features) -> (n, bands * moments)."""
    kept = features[..., : len(MOMENTS)].copy()
    kept[..., OF_PSF:] *= has_psf[..., None]
    return np.ascontiguousarray(kept.reshape(len(features), -1))
