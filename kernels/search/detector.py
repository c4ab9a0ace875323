"""Interface of detectors, and its implementation by window classifiers."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kernels.image.search_image import Places, SearchImage
from kernels.search.fused_net import fuse
from kernels.search.fused_search import FusedSearch, Screen
from kernels.search.linear_chain import Precision
from kernels.search.windows import WindowedSearch
from schemas.errors import Misconfigured
from schemas.model_card import ModelCard
from schemas.pixels import SearchGrid


class Detector(Protocol):
    """Detector that scores places on an image: a network on windows or cells, or a finder of candidates."""

    @property
    def card(self) -> ModelCard:
        """Return the card of the weights, with the threshold of a hit."""

    @property
    def grid(self) -> SearchGrid:
        """Return the grid of the scores."""

    def search(self, plane: SearchImage, places: Places) -> tuple[NDArray[np.float32], int]:
        """Return the log odds that a trail lies at each place, and the number of places without a score.

        Parameters
        ----------
        plane
            Pixels of the places and, within the image, ``grid.reach`` px around them.
        places
            Rows and columns of places, and the first pixel of the first place on the plane.

        Returns
        -------
        logits : (rows * columns,) float32
            Row by row; -inf for a place that has no score or where nothing was found.
        unscored : int

        Raises
        ------
        ValueError
            The places do not lie on the plane.
        """


class WindowSearch(Protocol):
    """Search that scores every window of an image; see `FusedSearch.search`."""

    def search(
        self,
        image: NDArray[np.float32],
        usable: NDArray[np.bool_],
        background: float,
        grid: tuple[int, int],
        stride: int,
    ) -> tuple[NDArray[np.float32], int]:
        """Return the log odds of every window, and the number of windows without a score."""


@dataclass(frozen=True)
class WindowScorer:
    """Network on its device, with its card.

    Parameters
    ----------
    net
        Network from (n, bands, side, side) windows to (n, 2) class scores, in evaluation mode.
    card
        Card of its weights.
    device
        Device of the network.
    precision
        Precision of the linear layers in a search of whole images; float32 if the network cannot be fused.
    floor
        Least log odds of a hit; a search gives the log odds of hits in float32.
    batch
        Windows per call of the network.
    screen
        Screen for a search on the CPU by a network that can be fused; see `FusedSearch`.
    stride
        Step between windows, px.
    """

    net: nn.Module
    card: ModelCard
    device: torch.device
    precision: Precision = "float32"
    floor: float | None = None
    batch: int = 1024
    screen: Screen | None = None
    stride: int = 7

    @property
    def grid(self) -> SearchGrid:
        """Return the grid of its windows."""
        side = int(self.card.input.get("side", 26))
        return SearchGrid(side, self.stride, 0, side)

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log odds of an asteroid in each window, (n, bands, side, side) float32 -> (n,) float32.

        The last bit of a row may depend on the size of its batch, so callers that need reproducible results use
        batches of one size.
        """
        with torch.inference_mode():
            scores = self.net(torch.from_numpy(windows).to(self.device))
            return (scores[:, 1] - scores[:, 0]).cpu().numpy()

    def search(self, plane: SearchImage, places: Places) -> tuple[NDArray[np.float32], int]:
        """Return the log odds of the windows at some places, (rows * columns,), and the number without a score."""
        pixels, usable = plane.pixels[places.y :, places.x :], plane.usable[places.y :, places.x :]
        grid = (places.rows, places.columns)
        return self.windows.search(pixels[None], usable, plane.background, grid, places.stride)

    @cached_property
    def windows(self) -> WindowSearch:
        """Return the fastest search of whole images for the network and the device."""
        fused = fuse(self.net)
        if fused is None:
            return WindowedSearch(self, int(self.card.input["side"]), self.batch)
        if self.device.type == "cpu":
            return FusedSearch(fused, self.precision, self.floor, self.batch, self.screen)
        from kernels.search.torch_search import TorchSearch

        return TorchSearch(fused, self.device, self.precision, self.floor)


def choose_device(wanted: str) -> torch.device:
    """Return the device for ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.

    Raises
    ------
    Misconfigured
        There is no GPU (``no_gpu``).
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    elif wanted == "cuda" and not torch.cuda.is_available():
        remedy = 'search on the processor (detect.device = "auto" or "cpu"), or where there is a GPU.'
        raise Misconfigured("no_gpu", 'detect.device = "cuda"', "finds no GPU: torch sees none by CUDA.", remedy)
    return torch.device(wanted)
