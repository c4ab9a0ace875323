"""What an exposure is drawn on, layer by layer."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.mask import MaskPlane

Row = dict[str, Any]
"""Of the truth table."""


class Footprint(NamedTuple):
    """Pixels of a source that lie on the image, its light on each, and all its light, on the image or not."""

    rows: NDArray[np.int_]
    columns: NDArray[np.int_]
    light: NDArray[np.floating]
    total: float


@dataclass
class Canvas:
    """Layers of one exposure while it is drawn; the one mutable thing of the simulation.

    Attributes
    ----------
    signal : (ny, nx) float32
        Noiseless light, pixel units.
    excess : (ny, nx) float32
        Variance that it adds to that of the sky, pixel units squared.
    sharp : (ny, nx) float32
        Light that no telescope has smeared: cosmic rays, hot pixels.
    mask : (ny, nx) uint16
        Bits of `MaskPlane`.
    truth
        Rows of the truth table, with the footprint from which the visible share follows once all masks are drawn.
    """

    signal: NDArray[np.float32]
    excess: NDArray[np.float32]
    sharp: NDArray[np.float32]
    mask: NDArray[np.uint16]
    truth: list[tuple[Row, Footprint]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx), px."""
        ny, nx = self.signal.shape
        return ny, nx

    def block(self, y0: float, y1: float, x0: float, x1: float, plane: MaskPlane) -> None:
        """Mask the rectangle of rows y0..y1 and columns x0..x1, both included; what lies outside is dropped."""
        ny, nx = self.shape
        top, bottom = max(round(y0), 0), min(round(y1) + 1, ny)
        left, right = max(round(x0), 0), min(round(x1) + 1, nx)
        if top < bottom and left < right:
            self.mask[top:bottom, left:right] |= np.uint16(plane)


def blank_canvas(shape: tuple[int, int]) -> Canvas:
    """Give a canvas of (ny, nx) px without anything on it."""
    signal, excess, sharp = (np.zeros(shape, np.float32) for _ in range(3))
    return Canvas(signal, excess, sharp, np.zeros(shape, np.uint16))
