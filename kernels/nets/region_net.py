"""Network that proposes boxes around trails, and judges them."""

from collections.abc import Sequence

import torch
from torch import nn

from kernels.nets.streak_net import PLANES, CellNet

ANCHORS = (
    (9.0, 9.0), (13.0, 13.0), (20.0, 13.0), (13.0, 20.0), (24.0, 24.0),
    (36.0, 15.0), (15.0, 36.0), (42.0, 30.0), (30.0, 42.0), (62.0, 18.0), (18.0, 62.0), (52.0, 52.0),
)  # fmt: skip
"""Width and height of the boxes from which proposals start, px, centred in each cell.

Trails of 0 to 60 px at any angle in PSFs of 1.6 to 3.6 px FWHM have boxes of 7 to 75 px.
"""

BINS = 7
"""Number of parts along each side of a box whose features are used."""

CUT = 24
"""Side of the square of pixels around the centre of a box that is used as well."""

UNIT = (10.0, 10.0, 5.0, 5.0)
"""Factors for the last shifts of a box, which are small."""

_SIZES = 2  # numbers that describe the size of a box


class RegionNet(CellNet):
    """Faster R-CNN (Ren et al. 2015, NeurIPS 28, arXiv:1506.01497), made small for trails of few pixels.

    On the features of `CellNet`, over cells of 4 px: per cell and anchor, how likely it
    holds a trail and how to shift it; then a head that sees the features in a box and the pixels about its middle, and
    gives log odds and a last shift. Parameters as of the backbone.
    """

    def __init__(self, channels: int = 32, dilations: Sequence[int] = (1, 1, 2, 4, 2, 1)) -> None:
        super().__init__(channels, dilations)
        self.objectness = nn.Conv2d(channels, len(ANCHORS), 1)
        self.shift = nn.Linear(channels, 4 * len(ANCHORS))
        self.pixels = nn.Sequential(
            nn.Conv2d(PLANES, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * (CUT // 4) ** 2, 96),
        )
        self.region = nn.Sequential(nn.Flatten(), nn.Linear(channels * BINS**2, 96))
        self.verdict = nn.Sequential(nn.ReLU(), nn.Linear(2 * 96 + _SIZES, 96), nn.ReLU(), nn.Linear(96, 5))
        assert self.objectness.bias is not None
        nn.init.constant_(self.objectness.bias, -3.0)  # few anchors hold anything

    def shifts(self, features: torch.Tensor) -> torch.Tensor:
        """Return the shifts of the anchors of some cells, (k, channels) -> (k, anchors, 4), as `encode` does."""
        return self.shift(features).reshape(len(features), len(ANCHORS), 4)

    def judge(
        self, regions: torch.Tensor, pixels: torch.Tensor, sides: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log odds of boxes, (k,), and their last shifts times `UNIT`, (k, 4).

        Parameters
        ----------
        regions : (k, channels, BINS, BINS)
            Features in the boxes.
        pixels : (k, 3, CUT, CUT)
            Pixels about their middles.
        sides : (k, 2)
            Width and height, px.
        """
        size = torch.log(sides / 16.0)
        found = self.verdict(torch.cat([self.region(regions), self.pixels(pixels), size], 1))
        return found[:, 0], found[:, 1:]
