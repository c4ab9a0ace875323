"""Networks of published systems, for comparison."""

import torch
from torch import nn


class SceneCnn(nn.Module):
    """Network of five 3x3 convolutions with ReLU, for scenes of 224 px, and three fully connected layers.

    A 2 x 2 max pool follows the first, second and last. The widths are not published; these are ours.

    Parameters
    ----------
    classes, side
        Number of classes; side of a picture, px.
    norm
        Batch norm after each convolution, which theirs does not have.
    """

    def __init__(self, classes: int = 3, side: int = 224, *, norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for number, width in enumerate((16, 32, 64, 64, 64)):
            layers += [nn.Conv2d(before, width, 3, padding=1), *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU()]
            if number in (0, 1, 4):
                layers.append(nn.MaxPool2d(2))
            before = width
        self.maps = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * (side // 8) ** 2, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(),
            nn.Linear(64, classes),
        )  # fmt: skip

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the class scores of each picture, (n, 3, side, side) -> (n, classes)."""
        return self.dense(self.maps(pictures))
