"""Networks of published comparisons on galaxies and scenes, and ResNet-50, with the published sizes of their layers."""

import torch
from torch import nn

SIDE = 224
"""Side of a picture, px."""


class GalaxyMlp(nn.Module):
    """Fully connected network: four layers of 256, 512, 256 and 128, each with batch norm.

    38,837,130 parameters for 10 classes, counted with the running mean and variance of the norms.
    """

    def __init__(self, classes: int = 10, side: int = SIDE) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in ((3 * side * side, 256), (256, 512), (512, 256), (256, 128)):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.BatchNorm1d(after)]
        self.layers = nn.Sequential(*layers, nn.Linear(128, classes))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return class scores, (n, 3, side, side) -> (n, classes)."""
        return self.layers(pictures)


def galaxy_encoder() -> nn.Sequential:
    """Return three convolutions of 32, 64 and 128 channels, each with max pool and batch norm: a 16th of the side."""
    layers: list[nn.Module] = []
    for before, after, kernel, stride in ((3, 32, 3, 2), (32, 64, 5, 1), (64, 128, 5, 1)):
        convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2)
        layers += [convolution, nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(after)]
    return nn.Sequential(*layers, nn.Flatten())


class GalaxyCnn(nn.Module):
    """Convolutional network: `galaxy_encoder`, then layers of 2048 and 1024 with batch norm.

    53,760,970 parameters for 10 classes, counted as those of `GalaxyMlp`.
    """

    def __init__(self, classes: int = 10, side: int = SIDE) -> None:
        super().__init__()
        self.encoder = galaxy_encoder()
        layers: list[nn.Module] = []
        for before, after in ((128 * (side // 16) ** 2, 2048), (2048, 1024)):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.BatchNorm1d(after)]
        self.layers = nn.Sequential(*layers, nn.Linear(1024, classes))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return class scores, (n, 3, side, side) -> (n, classes)."""
        return self.layers(self.encoder(pictures))


class GalaxyLstm(nn.Module):
    """Recurrent network over pictures of one galaxy: `galaxy_encoder`, an LSTM of 256, a layer of 128 with batch norm.

    26,245,962 parameters for 10 classes with the one bias vector of the published LSTM; torch's has two: 26,246,986.
    """

    def __init__(self, classes: int = 10, side: int = SIDE) -> None:
        super().__init__()
        self.encoder = galaxy_encoder()
        self.recurrent = nn.LSTM(128 * (side // 16) ** 2, 256, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.BatchNorm1d(128), nn.Linear(128, classes))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return class scores, (n, classes).

        Parameters
        ----------
        pictures : (n, 3, side, side), or (n, length, 3, side, side)
            One picture of each galaxy, or several: of its visits, or its bands.
        """
        series = pictures if pictures.ndim == 5 else pictures[:, None]
        codes = self.encoder(series.flatten(0, 1)).unflatten(0, series.shape[:2])
        return self.layers(self.recurrent(codes)[0][:, -1])


class ResNet50(nn.Module):
    """Residual network of 50 layers (He et al. 2016, CVPR, 770): 25,557,032 parameters for 1,000 classes.

    The stride of a block is that of its 3 x 3 convolution, as most programs have it, not of its first.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        blocks, before = list[nn.Module](), 64
        for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for number in range(count):
                blocks.append(_Bottleneck(before, width, stride if number == 0 else 1))
                before = 4 * width
        self.maps = nn.Sequential(*stem, nn.MaxPool2d(3, stride=2, padding=1), *blocks)
        self.last = nn.Linear(before, classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return class scores, (n, 3, side, side) -> (n, classes)."""
        return self.last(self.maps(pictures).mean((2, 3)))


class _Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.main = nn.Sequential(
            nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.short: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.main(x) + self.short(x))


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
