"""Network that judges candidates by their pictures and measurements."""

import torch
from torch import nn

_FINE, _COARSE = (0, 1, 2, 3, 6), (4, 5)  # pictures of a candidate: see `kernels.measure.reliability`
_TRAIL = 2


class ReliabilityCnn(nn.Module):
    """Two small convolutional branches, one for each scale, joined with the measurements.

    Each branch: 3 x 3 convolutions to 16, 16, 32, 32 and 32 channels with ReLU and two max-pools of 2 between, then
    mean and maximum over the picture; if centred also the mean over the candidate, where a neighbour's light does not
    count: on the fine scale weighted by the drawn trail, on the coarse one over the middle 4 of 64 squares. Joined with
    the measurements, standardised: linear layers to 64, 32 and one log odds.

    Parameters
    ----------
    features
        Number of measurements.
    pictures
        How many of the pictures it looks at: the first 6, or all 7, with the one of what does not move.
    centred
        Whether it takes the mean over the candidate, too.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features: int, pictures: int = 7, centred: bool = True) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.centred = centred
        self.pictures = [[n for n in scale if n < pictures] for scale in (_FINE, _COARSE)]
        self.fine, self.coarse = (_branch(len(own)) for own in self.pictures)
        seen = (6 if centred else 4) * 32 + features
        self.joined = nn.Sequential(
            nn.Linear(seen, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, stamps: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return the log odds of being real, (n, CHANNELS, SIDE, SIDE) and (n, features) -> (n,)."""
        fine, coarse = (
            branch(stamps[:, pictures])
            for branch, pictures in zip((self.fine, self.coarse), self.pictures, strict=True)
        )
        parts = [(features - self.mean) / self.scale]
        parts += [pooled for maps in (fine, coarse) for pooled in (maps.mean((2, 3)), maps.amax((2, 3)))]
        if self.centred:
            trail = nn.functional.avg_pool2d(stamps[:, _TRAIL, None].clamp(min=0), 4)
            share = trail / (trail.sum((2, 3), keepdim=True) + 1e-6)
            parts += [(fine * share).sum((2, 3)), coarse[:, :, 3:5, 3:5].mean((2, 3))]
        return self.joined(torch.cat(parts, 1))[:, 0]


def _branch(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
