"""Our network for pictures: small enough to learn from hundreds of them, and for two cores."""

from copy import deepcopy
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kernels.nets.cutout_nets import ResidualBlock

_WIDTHS = (32, 64, 128)  # channels of the blocks; the first also of the stem


class PictureNet(nn.Module):
    """Residual network (He et al. 2016, CVPR, 770) of 7 convolutions: 0.31 million parameters.

    conv 3x3 stride 2 to 32 channels; three blocks of two 3x3 convolutions with batch norm and a short cut, to 32, 64
    and 128 channels, each with stride 2; mean and maximum over the picture; dropout; class scores.
    Pictures may have any side from 16 px on.

    Parameters
    ----------
    classes
        Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, _WIDTHS[0], 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(_WIDTHS[0]), nn.ReLU()
        )
        before = (_WIDTHS[0], *_WIDTHS[:-1])
        self.blocks = nn.Sequential(*(ResidualBlock(a, b, 2) for a, b in zip(before, _WIDTHS, strict=True)))
        self.dropout, self.last = nn.Dropout(0.3), nn.Linear(2 * _WIDTHS[-1], classes)

    def codes(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return what stands for each picture before the last layer, (n, 3, side, side) -> (n, 256)."""
        maps = self.blocks(self.stem(pictures))
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the class scores of each picture, (n, 3, side, side) -> (n, classes)."""
        return self.last(self.dropout(self.codes(pictures)))

    def fused(self) -> "PictureNet":
        """Return a copy for verdicts only: batch norms are parts of the convolutions, which takes a third less time."""
        net = deepcopy(self).eval()
        net.stem[0], net.stem[1] = with_norm(net.stem[0], net.stem[1]), nn.Identity()
        for block in net.blocks:
            _fuse(cast(ResidualBlock, block))
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def with_norm(convolution: nn.Module, norm: nn.Module) -> nn.Module:
    """Return a convolution that does what it and the batch norm after it do, for verdicts only."""
    return fuse_conv_bn_eval(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm))


def _fuse(block: ResidualBlock) -> None:
    block.first, block.second = with_norm(block.first, block.norms[0]), with_norm(block.second, block.norms[1])
    block.norms = nn.ModuleList([nn.Identity(), nn.Identity()])
