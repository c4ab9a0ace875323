"""Our networks for stars and galaxies, in any bands."""

from dataclasses import dataclass

import numpy as np
import torch

from kernels.cutout_features import BandViews
from kernels.cutout_planes import Planes
from kernels.moment_trees import MomentTrees
from kernels.nets.band_set_net import BandSetNet
from kernels.star_galaxy_model import Raw, StarGalaxyModel, signals


@dataclass(frozen=True)
class StarGalaxyNet(StarGalaxyModel):
    """Networks, and trees beside them; any number of bands, in any order.

    Attributes
    ----------
    nets
        Members; their log odds are averaged, the codes of the first tell outliers.
    trees, share
        Trees on moments, and the weight of their log odds beside those of the networks, 0 to 1.
    """

    nets: tuple[BandSetNet, ...]
    trees: MomentTrees
    share: float

    def raw(self, planes: Planes, views: BandViews) -> Raw:
        """Apply networks and trees to objects that have a usable band each."""
        return with_trees(apply_nets(self.nets, views), views, self.trees, self.share)


def with_trees(said: Raw, views: BandViews, trees: MomentTrees, share: float) -> Raw:
    """Mix the log odds of trees into those of networks, with the weight ``share``."""
    if not share:
        return said
    odds = (1 - share) * said.log_odds + share * trees.log_odds(views.features, views.usable, views.has_psf)
    return said._replace(log_odds=odds.astype(np.float32))


def apply_nets(nets: tuple[BandSetNet, ...], views: BandViews) -> Raw:
    """Give the mean log odds of networks, the codes of the first, and the best S/N of each object."""
    inputs = tuple(torch.from_numpy(np.ascontiguousarray(one)) for one in views)
    with torch.inference_mode():
        said = [net(*inputs) for net in nets]
    odds = torch.stack([one[0] for one in said]).mean(0)
    return Raw(odds.numpy(), said[0][1].numpy(), signals(views))
