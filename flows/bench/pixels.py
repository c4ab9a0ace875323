"""What a search is given, whichever way it goes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from schemas.exposure import ExposureInfo
from schemas.mask import UNUSABLE
from schemas.tiles import Tiling


@dataclass(frozen=True)
class Pixels:
    """An image to be searched.

    Attributes
    ----------
    image : (bands, ny, nx) float32
        Finite.
    usable : (ny, nx) bool
        Pixels that count.
    background
        What stands in for those that do not.
    side, stride
        Of the windows, px.
    """

    image: NDArray[np.float32]
    usable: NDArray[np.bool_]
    background: float
    side: int = 26
    stride: int = 7

    @classmethod
    def of(cls, info: ExposureInfo, image: NDArray[np.float32], mask: NDArray[np.uint16]) -> "Pixels":
        """Give the pixels of an exposure with one band."""
        usable = np.ascontiguousarray((mask & np.uint16(UNUSABLE)) == 0)
        return cls(np.ascontiguousarray(image[None]), usable, info.background)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of windows."""
        return Tiling(self.usable.shape, self.stride, self.side, self.stride).grid
