"""A window classifier ready for use."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from schemas.model_card import ModelCard


@dataclass(frozen=True)
class WindowScorer:
    """Network on its device, with its card.

    Parameters
    ----------
    net
        Maps (n, bands, side, side) windows to (n, 2) class scores; in evaluation mode.
    card
        What is known of its weights.
    device
        Where it lies.
    """

    net: nn.Module
    card: ModelCard
    device: torch.device

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the log odds of an asteroid in each window, (n, bands, side, side) float32 -> (n,) float32.

        The last bit of a row may depend on the size of the batch it comes in: callers that promise equal answers send
        batches of one size.
        """
        with torch.inference_mode():
            scores = self.net(torch.from_numpy(windows).to(self.device, non_blocking=True))
            return (scores[:, 1] - scores[:, 0]).cpu().numpy()


def choose_device(wanted: str) -> torch.device:
    """Give the device for ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)
