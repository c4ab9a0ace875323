"""Network that scores every 4 x 4 px of an image by what lies within 50 px."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

CELL = 4
"""Side of the cells that are scored, px."""

PLANES = 3
"""Number of input planes per pixel; see `kernels.search.dense_search`."""


class CellNet(nn.Module):
    """Backbone over cells: their pixels are its channels, and 3 x 3 convolutions, some dilated, look around.

    A first convolution from the 48 numbers of a cell to ``channels``, and pairs of convolutions around which the input
    is added again (He et al. 2016, CVPR, 770). Dilation (Yu & Koltun 2016, ICLR) lets the view grow to the length of
    the longest trails without a pooling that would blur the shortest.

    Parameters
    ----------
    channels
        Of all layers between.
    dilations
        Of the convolutions in pairs; an even number of them.
    """

    def __init__(self, channels: int = 32, dilations: Sequence[int] = (1, 1, 2, 4, 2, 1)) -> None:
        super().__init__()
        if len(dilations) % 2:
            raise ValueError(f"convolutions come in pairs, got {len(dilations)} dilations")
        self.channels, self.dilations = channels, tuple(dilations)
        self.first = nn.Conv2d(PLANES * CELL**2, channels, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=step, dilation=step) for step in self.dilations
        )

    @property
    def reach(self) -> int:
        """Return how many cells away from a cell still affect its features."""
        return 1 + sum(self.dilations)

    def features(self, cells: torch.Tensor) -> torch.Tensor:
        """Return the features of cells, (n, 48, rows, columns) -> (n, channels, rows, columns); zeros surround them."""
        x = torch.relu(self.first(cells))
        for n in range(0, len(self.body), 2):
            x = torch.relu(x + self.body[n + 1](torch.relu(self.body[n](x))))
        return x


class StreakNet(CellNet):
    """Fully convolutional: a hidden layer per cell on the features of `CellNet`, and log odds; parameters as there."""

    def __init__(self, channels: int = 32, dilations: Sequence[int] = (1, 1, 2, 4, 2, 1)) -> None:
        super().__init__(channels, dilations)
        self.head = nn.Conv2d(channels, channels, 1)
        self.last = nn.Conv2d(channels, 1, 1)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Return the log odds of each cell, (n, 48, rows, columns) -> (n, rows, columns); zeros surround the input."""
        return self.last(torch.relu(self.head(self.features(cells))))[:, 0]

    def inside(self, cells: torch.Tensor) -> torch.Tensor:
        """Return the log odds of the cells whose whole surroundings are in the input.

        The same sums as `forward`, without a value that is thrown away, and nothing is padded: where a library leaves
        out what zeros would add, it may add the rest in another order. Layers change what the one before gave in place.

        Parameters
        ----------
        cells : (n, 48, rows + 2 * reach, columns + 2 * reach)
            Cells with `reach` others around them.

        Returns
        -------
        (n, rows, columns)
        """
        x = _unpadded(self.first, cells).relu_()
        for n in range(0, len(self.body), 2):
            found = _unpadded(self.body[n + 1], _unpadded(self.body[n], x).relu_())
            lost = self.dilations[n] + self.dilations[n + 1]
            x = found.add_(x[:, :, lost:-lost, lost:-lost]).relu_()
        return self.last(self.head(x).relu_())[:, 0]


def _unpadded(layer: Any, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.conv2d(x, layer.weight, layer.bias, dilation=layer.dilation)
