"""Deep SVDD: how far a picture lies from the middle of those that are normal."""

import itertools

import torch
from torch import nn

FILTERS = (2, 4, 8, 16, 32, 64)
HIDDEN, CODE = 256, 64


def contrast_normalised(pictures: torch.Tensor) -> torch.Tensor:
    """Return the mean of the planes less its mean, over its mean absolute deviation, brought to 0 to 1.

    Parameters
    ----------
    pictures : (n, planes, side, side)
        Of any range.

    Returns
    -------
    (n, 1, side, side) float32

    Notes
    -----
    Global contrast normalisation with the L1 norm, and the range of each picture to 0 to 1, as Ruff et al. 2018 do.
    """
    grey = pictures.float().mean(1, keepdim=True)
    grey = grey - grey.mean((2, 3), keepdim=True)
    grey = grey / grey.abs().mean((2, 3), keepdim=True).clamp(min=1e-6)
    low, high = grey.amin((2, 3), keepdim=True), grey.amax((2, 3), keepdim=True)
    return (grey - low) / (high - low).clamp(min=1e-6)


class SvddEncoder(nn.Module):
    """Encoder of six 5x5 convolutions with 2 to 64 filters, each with a 2x2 maximum, then 256 and 64 numbers.

    No layer has a bias term: with one the network could send every picture to the same place (Ruff et al. 2018, PMLR
    80, 4393).

    Parameters
    ----------
    side
        Of a picture; a multiple of 64, 256 as published.
    """

    def __init__(self, side: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width in FILTERS:
            layers += [
                nn.Conv2d(before, width, 5, padding=2, bias=False),
                nn.BatchNorm2d(width, affine=False),
                nn.LeakyReLU(),
                nn.MaxPool2d(2),
            ]
            before = width
        self.maps = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(FILTERS[-1] * (side // 64) ** 2, HIDDEN, bias=False),
            nn.BatchNorm1d(HIDDEN, affine=False),
            nn.LeakyReLU(),
            nn.Linear(HIDDEN, CODE, bias=False),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the code of each picture, (n, 1, side, side) -> (n, 64)."""
        return self.dense(self.maps(pictures))


class SvddDecoder(nn.Module):
    """The encoder's mirror image, with which it is pretrained: (n, 64) -> (n, 1, side, side), from 0 to 1."""

    def __init__(self, side: int = 256) -> None:
        super().__init__()
        self.small = side // 64
        self.dense = nn.Sequential(
            nn.Linear(CODE, HIDDEN, bias=False),
            nn.BatchNorm1d(HIDDEN, affine=False),
            nn.LeakyReLU(),
            nn.Linear(HIDDEN, FILTERS[-1] * self.small**2, bias=False),
            nn.BatchNorm1d(FILTERS[-1] * self.small**2, affine=False),
            nn.LeakyReLU(),
        )
        layers: list[nn.Module] = []
        widths = (*FILTERS[::-1], 1)
        for before, width in itertools.pairwise(widths):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, width, 5, padding=2, bias=False)]
            if width > 1:
                layers += [nn.BatchNorm2d(width, affine=False), nn.LeakyReLU()]
        self.maps = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the picture of each code."""
        return self.maps(self.dense(codes).reshape(len(codes), FILTERS[-1], self.small, self.small))
