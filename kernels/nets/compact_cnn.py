"""A small window classifier made for the fused search: no layer of it is dense and large."""

import torch
from torch import nn

from kernels.nets.pooling import max_pool_4_2


class CompactCnn(nn.Module):
    """Two convolutions, more channels in the second than `BasicCnn` has, and a short fully connected chain.

    conv 5x5 (bands -> 6), ReLU, max-pool 4 stride 2, conv 4x4 (6 -> 8), ReLU, max-pool 4 stride 2, flatten (32), fully
    connected 64, 32, 2 with ReLU between: 5,190 weights for one band.

    Parameters
    ----------
    bands
        Channels of a window.
    side
        Of a window, pixels; the flattened maps are 32 values at 26 px.
    """

    def __init__(self, bands: int = 1, side: int = 26) -> None:
        super().__init__()
        self.side = side
        pooled = ((side - 4 - 2) // 2 - 3 - 2) // 2
        self.conv1 = nn.Conv2d(bands, 6, 5)
        self.conv2 = nn.Conv2d(6, 8, 4)
        self.fc1 = nn.Linear(8 * pooled**2, 64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, 2)

    def layers(self) -> tuple[nn.Conv2d, nn.Conv2d, tuple[nn.Linear, ...]]:
        """Give both convolutions and the linear layers, for the fused search."""
        return self.conv1, self.conv2, (self.fc1, self.fc2, self.fc3)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Give the two class scores (not asteroid, asteroid) of each window, (n, bands, side, side) -> (n, 2)."""
        x = torch.relu(max_pool_4_2(self.conv1(windows)))
        x = torch.relu(max_pool_4_2(self.conv2(x)))
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(torch.relu(self.fc2(x)))
