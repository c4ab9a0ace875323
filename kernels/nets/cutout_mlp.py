"""A multi-layer perceptron on the pixels of a cutout: the simplest network."""

import torch
from torch import nn


class CutoutMlp(nn.Module):
    """Flatten, fully connected 256 and 64 with ReLU and dropout 0.2, two class scores.

    Parameters
    ----------
    planes, side
        Of a cutout.
    """

    def __init__(self, planes: int = 8, side: int = 26) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(planes * side**2, 256), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 2),
        )  # fmt: skip

    @property
    def head(self) -> nn.Module:
        """The last layer, from codes to class scores."""
        return self.layers[-1]

    def codes(self, cutouts: torch.Tensor) -> torch.Tensor:
        """Give what stands for each cutout before the last layer, (n, planes, side, side) -> (n, 64)."""
        return self.layers[:-1](cutouts)

    def forward(self, cutouts: torch.Tensor) -> torch.Tensor:
        """Give the two class scores of each cutout, (n, planes, side, side) -> (n, 2)."""
        return self.layers(cutouts)
