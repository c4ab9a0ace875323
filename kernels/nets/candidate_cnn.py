"""A network that judges a candidate by its cutout and its shape."""

import torch
from torch import nn

from kernels.line_cutouts import CHANNELS


class CandidateCnn(nn.Module):
    """Small convolutional network over a turned cutout, joined with the shape features.

    3 x 3 convolutions to 16, 16, 32 and 32 channels with ReLU, a max-pool of 2 after the first and of 2 after the
    third, then mean and maximum over the picture. Joined with the features, standardised: linear layers to 48 and one
    log odds. About 26,000 weights.

    Parameters
    ----------
    features
        Number of shape features.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.body = nn.Sequential(
            nn.Conv2d(CHANNELS, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.joined = nn.Sequential(nn.Linear(2 * 32 + features, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 1))

    def forward(self, cutouts: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Give the log odds of being real, (n, CHANNELS, WIDE, LONG) and (n, features) -> (n,)."""
        maps = self.body(cutouts)
        shape = torch.clamp((features - self.mean) / self.scale, -5, 5)
        return self.joined(torch.cat([maps.mean((2, 3)), maps.amax((2, 3)), shape], 1))[:, 0]
