"""What every detector can do."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.plane import Places, Plane
from schemas.model_card import ModelCard
from schemas.search_grid import SearchGrid


class Detector(Protocol):
    """Scores places on an image: a network that looks at windows or cells, or a finder of candidates."""

    @property
    def card(self) -> ModelCard:
        """What is known of its weights, with the threshold of a hit."""

    @property
    def grid(self) -> SearchGrid:
        """Where its scores lie."""

    def search(self, plane: Plane, places: Places) -> tuple[NDArray[np.float32], int]:
        """Give the log odds that a trail lies at each place, and how many places could not be scored.

        Parameters
        ----------
        plane
            Pixels of the places and ``grid.reach`` px around them, as far as the image goes.
        places
            Rows and columns of places, and the pixel of the plane at which the first begins.

        Returns
        -------
        logits : (rows * columns,) float32
            Row by row; -inf where a place cannot be scored, or nothing was found.
        unscored : int
        """
