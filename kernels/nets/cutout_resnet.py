"""A residual network for cutouts."""

import torch
from torch import nn


class CutoutResnet(nn.Module):
    """Residual network of 8 layers (He et al. 2016, CVPR, 770) whose stem has stride 2, as in the larger ones.

    conv 3x3 stride 2 to 16 channels; three blocks of two 3x3 convolutions with batch norm and a short cut, to 16, 32
    and 64 channels, the last two with stride 2; mean over the picture; two class scores.

    Parameters
    ----------
    planes
        Of a cutout; its side may be any.
    """

    def __init__(self, planes: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(planes, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.blocks = nn.Sequential(_Block(16, 16, 1), _Block(16, 32, 2), _Block(32, 64, 2))
        self.last = nn.Linear(64, 2)

    @property
    def head(self) -> nn.Linear:
        """The last layer, from codes to class scores."""
        return self.last

    def codes(self, cutouts: torch.Tensor) -> torch.Tensor:
        """Give what stands for each cutout before the last layer, (n, planes, side, side) -> (n, 64)."""
        return self.blocks(self.stem(cutouts)).mean((2, 3))

    def forward(self, cutouts: torch.Tensor) -> torch.Tensor:
        """Give the two class scores of each cutout, (n, planes, side, side) -> (n, 2)."""
        return self.last(self.codes(cutouts))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        self.short = nn.Identity() if before == after else nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(y)) + self.short(x))
