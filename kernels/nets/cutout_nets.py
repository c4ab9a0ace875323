"""Networks for cutouts of stars and galaxies."""

import torch
from torch import nn


class CutoutMlp(nn.Module):
    """Network of fully connected layers of 256 and 64 with ReLU and dropout 0.2, and two class scores.

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
        """Return the last layer, from codes to class scores."""
        return self.layers[-1]

    def codes(self, cutouts: torch.Tensor) -> torch.Tensor:
        """Return what stands for each cutout before the last layer, (n, planes, side, side) -> (n, 64)."""
        return self.layers[:-1](cutouts)

    def forward(self, cutouts: torch.Tensor) -> torch.Tensor:
        """Return the two class scores of each cutout, (n, planes, side, side) -> (n, 2)."""
        return self.layers(cutouts)


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
        self.blocks = nn.Sequential(ResidualBlock(16, 16, 1), ResidualBlock(16, 32, 2), ResidualBlock(32, 64, 2))
        self.last = nn.Linear(64, 2)

    @property
    def head(self) -> nn.Linear:
        """Return the last layer, from codes to class scores."""
        return self.last

    def codes(self, cutouts: torch.Tensor) -> torch.Tensor:
        """Return what stands for each cutout before the last layer, (n, planes, side, side) -> (n, 64)."""
        return self.blocks(self.stem(cutouts)).mean((2, 3))

    def forward(self, cutouts: torch.Tensor) -> torch.Tensor:
        """Return the two class scores of each cutout, (n, planes, side, side) -> (n, 2)."""
        return self.last(self.codes(cutouts))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a short cut (He et al. 2016, CVPR, 770)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first: nn.Module = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.second: nn.Module = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        same = before == after and stride == 1
        self.short = nn.Identity() if same else nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return maps, (n, before, side, side) -> (n, after, side / stride, side / stride)."""
        y = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(y)) + self.short(x))


WIDTH = 48
"""Number of features for a band, and for an object."""


class BandSetNet(nn.Module):
    """Network of one encoder for every band and a pool over the bands that are there.

    Encoder: convolutions to 16 (4 x 4, stride 2), 16 (3 x 3), 32 (stride 2) and 32 channels with ReLU, mean and maximum
    over the picture, joined with the measurements of the band, standardised: linear layers to 48 and 48. Pool: a mean
    weighted by what the band seems worth, the sum over 4, the maximum. Then linear layers to 48 and one log odds.

    No band has a place of its own, and the result for an object does not depend on bands that are missing
    (deep sets: Zaheer et al. 2017, NeurIPS 30).

    Parameters
    ----------
    channels, features
        Pictures and measurements of a band.
    of_psf
        Number of the first picture and of the first measurement that need the PSF: 0 where there is none.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, channels: int, features: int, of_psf: tuple[int, int]) -> None:
        super().__init__()
        self.of_psf = of_psf
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 16, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.joined = nn.Sequential(nn.Linear(64 + features + 1, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.worth = nn.Linear(WIDTH, 1)
        self.object = nn.Sequential(nn.Dropout(0.1), nn.Linear(3 * WIDTH, WIDTH), nn.ReLU())
        self.last = nn.Linear(WIDTH, 1)

    def forward(
        self, pictures: torch.Tensor, features: torch.Tensor, usable: torch.Tensor, has_psf: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log odds of a star and what stands for the object.

        Parameters
        ----------
        pictures : (n, bands, channels, side, side)
            Of each band.
        features : (n, bands, features)
            Of each band.
        usable, has_psf : (n, bands) bool
            Which bands are there, and which of them with PSF.

        Returns
        -------
        (n,) and (n, 48)
            Of an object without usable bands they mean nothing.
        """
        n, bands = usable.shape
        here = usable.reshape(-1)
        psf = has_psf.reshape(-1)[here].to(pictures.dtype)
        # Only bands that are there cost time.
        seen, numbers = pictures.flatten(0, 1)[here], (features.flatten(0, 1)[here] - self.mean) / self.scale
        channel, feature = self.of_psf
        seen = torch.cat([seen[:, :channel], seen[:, channel:] * psf[:, None, None, None]], 1)
        numbers = torch.cat([numbers[:, :feature], numbers[:, feature:] * psf[:, None]], 1)
        maps = self.encoder(seen)
        code = self.joined(torch.cat([maps.mean((2, 3)), maps.amax((2, 3)), numbers.clamp(-6, 6), psf[:, None]], 1))
        codes = torch.zeros(n * bands, WIDTH, dtype=code.dtype, device=code.device)
        codes[here] = code
        pooled = self._pool(codes.reshape(n, bands, WIDTH), usable)
        whole = self.object(pooled)
        return self.last(whole)[:, 0], whole

    def _pool(self, codes: torch.Tensor, usable: torch.Tensor) -> torch.Tensor:
        worth = self.worth(codes)[..., 0].masked_fill(~usable, -1e4)
        weight = torch.softmax(worth, 1) * usable
        # Codes are not negative: those of missing bands, 0, do not show in sum and maximum.
        return torch.cat([(weight[..., None] * codes).sum(1), codes.sum(1) / 4, codes.amax(1)], 1)
