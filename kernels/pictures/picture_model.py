"""Model that says what a picture shows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from kernels.pictures.compact_net import PictureNet
from kernels.pictures.lite_net import LiteNet
from schemas.model_card import ModelCard

AT_ONCE = 64
"""Pictures of up to 64 px in a batch; larger ones in batches with as many pixels."""

_PARTS = 12
"""Number of positions per side of the window that hides part of a picture."""


class PictureModel:
    """Probabilities of what pictures show, by a network that has learnt from labelled ones.

    Parameters
    ----------
    card
        Its ``input`` names ``crop`` (share of the shorter side that is looked at, about the middle), ``side`` (px it is
        brought to), ``symmetries`` (of the square, over which probabilities are the mean) and ``stages`` (of a
        `LiteNet`; 0: it is a `PictureNet`); its ``calibration`` the ``temperature`` that scores are divided by.
    net
        From (n, planes, side, side) to class scores.

    Raises
    ------
    ValueError
        One of these numbers is out of its range.
    """

    def __init__(self, card: ModelCard, net: torch.nn.Module) -> None:
        self.card, self.net = card, net.fused() if isinstance(net, PictureNet | LiteNet) else net.eval()
        self._side, self._crop = int(card.input["side"]), float(card.input["crop"])
        self._symmetries = int(card.input["symmetries"])
        self._temperature = float(card.calibration.get("temperature", 1.0))
        for name, value, most in (
            ("side", self._side, np.inf), ("crop", self._crop, 1), ("symmetries", self._symmetries, 8),
            ("temperature", self._temperature, np.inf),
        ):  # fmt: skip
            if not 0 < value <= most or value == np.inf:
                raise ValueError(f"its card gives {name} = {value}")

    @property
    def version(self) -> str:
        """Return name and version."""
        return f"{self.card.name} {self.card.version}"

    def __call__(self, pictures: Iterable[NDArray[np.uint8]], *, whole: bool = False) -> NDArray[np.float32]:
        """Return the probability of each class, (n, classes), of pictures (ny, nx, 3) of any size.

        With ``whole`` all of each is looked at, not its middle.
        """
        prepared = [squared(one, 1.0 if whole else self._crop, self._side) for one in pictures]
        if not prepared:
            return np.empty((0, len(self.card.classes)), np.float32)
        return self.probability(torch.stack(prepared))

    def probability(self, pictures: torch.Tensor) -> NDArray[np.float32]:
        """Return the same of pictures as the network sees them, (n, planes, side, side) uint8."""
        return mean_probability(symmetric_scores(self.net, pictures, self._symmetries), self._temperature)

    def attribution(self, picture: NDArray[np.uint8], label: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the part of a picture that is looked at, (side, side, 3), and what speaks there for a class.

        Parameters
        ----------
        picture : (ny, nx, 3)
            Any size.
        label
            Of the classes of the model.

        Returns
        -------
        (side, side, 3) uint8, (side, side) float32
            The latter is how much of the class's probability is lost where the picture is hidden, see `occlusion_map`.
        """
        seen, place = squared(picture, self._crop, self._side), self.card.classes.index(label)
        found = occlusion_map(lambda hidden: self.probability(hidden)[:, place], seen)
        return seen.permute(1, 2, 0).numpy(), found


def squared(picture: NDArray[np.uint8], crop: float, side: int) -> torch.Tensor:
    """Return the middle of a picture, (ny, nx, planes), as a square: (planes, side, side) uint8."""
    ny, nx = picture.shape[:2]
    cut = max(1, round(crop * min(ny, nx)))
    y, x = (ny - cut) // 2, (nx - cut) // 2
    part = torch.from_numpy(picture[y : y + cut, x : x + cut].copy()).permute(2, 0, 1)[None]
    small = interpolate(part.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8)[0]


def shown_picture(card: ModelCard, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what the network of a model of pictures sees of one, (ny, nx, 3) -> (3, side, side)."""
    return np.asarray(squared(picture, float(card.input["crop"]), int(card.input["side"])).numpy())


def symmetric_scores(net: torch.nn.Module, pictures: torch.Tensor, symmetries: int) -> torch.Tensor:
    """Return class scores under symmetries of the square, (symmetries, n, classes), of pictures from 0 to 255.

    Parameters
    ----------
    net
        See `PictureModel`.
    pictures : (n, planes, side, side) uint8
        What it looks at.
    symmetries
        1: as they are; 2: and mirrored left to right; 8: all.
    """
    found, batch = [], min(AT_ONCE, max(1, AT_ONCE * 64**2 // pictures.shape[-1] ** 2))
    with torch.inference_mode():
        for number in range(symmetries):
            turned = torch.rot90(pictures, number // 2, (2, 3))
            turned = turned.flip(3) if number % 2 else turned
            found.append(torch.cat([net(one.float() / 255) for one in torch.split(turned, batch)]))
    return torch.stack(found)


def mean_probability(scores: torch.Tensor, temperature: float) -> NDArray[np.float32]:
    """Return the mean over symmetries of probabilities, (n, classes), of scores (symmetries, n, classes)."""
    return np.asarray(torch.softmax(scores.double() / temperature, 2).mean(0).numpy(), np.float32)


def occlusion_map(score: Callable[[torch.Tensor], NDArray[np.floating]], picture: torch.Tensor) -> NDArray[np.float32]:
    """Return how much a score falls where a part of a picture is hidden (Zeiler & Fergus 2014, ECCV, 818).

    Parameters
    ----------
    score
        From pictures (n, planes, side, side) uint8 to a number each, (n,).
    picture : (planes, side, side) uint8
        The picture.

    Returns
    -------
    (side, side) float32
        Mean, over the windows that hide a pixel, of the score of the whole picture less that with the window. A window
        is a sixth of the side, at steps of a twelfth, and as bright as the median of the border.
    """
    planes, side = picture.shape[0], picture.shape[-1]
    border = torch.cat([picture[:, 0], picture[:, -1], picture[:, :, 0], picture[:, :, -1]], 1)
    fill = border.float().median(1).values.to(torch.uint8).view(planes, 1, 1)
    step = max(1, round(side / _PARTS))
    corners = [(y, x) for y in range(-step, side, step) for x in range(-step, side, step)]
    windows = [(slice(max(y, 0), y + 2 * step), slice(max(x, 0), x + 2 * step)) for y, x in corners]
    hidden = picture.repeat(len(windows) + 1, 1, 1, 1)
    for one, (rows, columns) in zip(hidden[1:], windows, strict=True):
        one[:, rows, columns] = fill
    scores = np.asarray(score(hidden), np.float64)
    total, count = np.zeros((side, side)), np.zeros((side, side))
    for value, place in zip(scores[1:], windows, strict=True):
        total[place] += scores[0] - value
        count[place] += 1
    return (total / count).astype(np.float32)


def build_picture_model(card: ModelCard, arrays: Mapping[str, NDArray[Any]]) -> PictureModel:
    """Build the model that a card and its arrays describe."""
    stages = int(card.input.get("stages", 0))
    net = LiteNet(len(card.classes), stages) if stages else PictureNet(classes=len(card.classes))
    names = net.state_dict().keys()
    net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items() if name in names})
    return PictureModel(card, net)
