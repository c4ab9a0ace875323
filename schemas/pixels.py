"""Pixel planes and mask bits of an exposure, its tiles, and the grid of searched positions."""

from dataclasses import dataclass
from enum import IntFlag
from itertools import pairwise
from math import prod

from schemas.dataset import ArrayOf
from schemas.errors import Misconfigured


class MaskPlane(IntFlag):
    """Mask bits of pixels; the names follow Rubin's mask planes.

    - BAD (1): dead or hot pixel, bad column.
    - SAT (2): saturated, or bled from a saturated pixel.
    - INTRP (4): interpolated over.
    - CR (8): cosmic ray found upstream.
    - EDGE (16): border without full coverage.
    - NO_DATA (32): no value: NaN, infinite, outside the template.
    - SUSPECT (64): close to saturation, ghost, halo.
    - DETECTED (128): source found upstream; the pixel itself is good.
    - DETECTED_NEGATIVE (256): negative source found upstream; the pixel itself is good.
    - STREAK (512): satellite or aeroplane trail found upstream.
    """

    BAD = 1
    SAT = 2
    INTRP = 4
    CR = 8
    EDGE = 16
    NO_DATA = 32
    SUSPECT = 64
    DETECTED = 128
    DETECTED_NEGATIVE = 256
    STREAK = 512


UNUSABLE = MaskPlane.BAD | MaskPlane.SAT | MaskPlane.CR | MaskPlane.EDGE | MaskPlane.NO_DATA
"""Pixels left out of window statistics and of fits."""


WINDOW = 26
"""Side of a window, px; an image smaller than one cannot be searched."""

WHOLE_PIXELS = 6144 * 6144
"""Number of pixels above which an image is large and never wholly in memory. A large image is ingested in bands of
rows, its noise and PSF are measured on a sample, and its planes are mapped from files during measurement."""

BAND = 1008
"""Rows of a large image that are processed at a time, and about the number in one file; fewer for wide images."""

_BAND_PIXELS, _LEAST_ROWS = 2**24, 252

DIFFERENCE = ArrayOf("difference", "float32", ("y", "x"), "pixel_unit")
MASK = ArrayOf("mask", "uint16", ("y", "x"), "")
VARIANCE = ArrayOf("variance", "float32", ("y", "x"), "pixel_unit**2")
SCIENCE = ArrayOf("science", "float32", ("y", "x"), "pixel_unit")
TEMPLATE = ArrayOf("template", "float32", ("y", "x"), "pixel_unit")


def band_rows(width: int, most: int = BAND) -> int:
    """Return the number of rows of a large image to process at a time, for a width in px, within limited memory."""
    return min(most, max(_LEAST_ROWS, _BAND_PIXELS // max(width, 1) // _LEAST_ROWS * _LEAST_ROWS))


def is_large(shape: tuple[int, ...]) -> bool:
    """Return whether an image of (ny, nx) px has more than `WHOLE_PIXELS`."""
    return prod(shape) > WHOLE_PIXELS


Box = tuple[int, int, int, int]
"""(y0, x0, y1, x1) of a part of an image, px, half open."""


@dataclass(frozen=True, order=True)
class Tile:
    """Tile of a `Tiling`: its pixels, and the windows whose first pixel lies in it.

    Attributes
    ----------
    y0, x0, y1, x1
        Pixel range that the task reads, with padding, half open.
    row0, column0, rows, columns
        Its windows on the exposure's global grid. The first starts at pixel (row0, column0) times the stride, which
        is (y0, x0) if the search has no reach beyond its windows.
    """

    y0: int
    x0: int
    y1: int
    x1: int
    row0: int
    column0: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Tiling:
    """Division of the windows of an image among tiles.

    Windows lie on one grid for the whole image (first pixels at multiples of ``stride``). Each belongs to one tile, so
    is searched once. Tiles have nearly equal numbers of windows, and read ``window - stride`` px more to the right and
    below, up to the edge of the image. They are up to an eighth larger than ``tile``, rather than one more and narrow.

    Parameters
    ----------
    shape
        (ny, nx) of the image, pixels.
    tile
        Side of a tile, pixels, about; a multiple of ``stride``.
    window, stride
        Side and step of the search windows, pixels.
    reach
        Distance beyond its windows that a search uses, pixels; a tile is padded by it on all sides, within the image.

    Raises
    ------
    Misconfigured
        The sizes are not compatible.
    """

    shape: tuple[int, int]
    tile: int = 1008
    window: int = WINDOW
    stride: int = 7
    reach: int = 0

    def __post_init__(self) -> None:
        if self.stride < 1 or self.window < self.stride or self.tile < self.stride or self.tile % self.stride:
            raise Misconfigured(
                "tiling",
                "tiles",
                f"tile {self.tile} must be a multiple of stride {self.stride}, and window {self.window} at least as "
                "long as the stride.",
                "choose e.g. window 26, stride 7, tile 1008.",
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Return the numbers of rows and columns of windows; (0, 0) for an image smaller than a window."""
        ny, nx = self.shape
        if min(ny, nx) < self.window:
            return 0, 0
        return 1 + (ny - self.window) // self.stride, 1 + (nx - self.window) // self.stride

    def tiles(self, within: Box | None = None) -> tuple[Tile, ...]:
        """Return the tiles that own at least one window, row by row.

        Parameters
        ----------
        within
            Only the windows with pixels in this part of the image are divided.
        """
        y0, x0, y1, x1 = within or (0, 0, *self.shape)
        rows, columns = (
            self._parts(max(0, (first - self.window) // self.stride + 1), min(count, -(-end // self.stride)))
            for first, end, count in zip((y0, x0), (y1, x1), self.grid, strict=True)
        )
        return tuple(
            self._tile(top, left, bottom - top, right - left) for top, bottom in rows for left, right in columns
        )

    def _parts(self, first: int, end: int) -> list[tuple[int, int]]:
        """Divide windows along an axis into nearly equal parts: as long as asked, nearly, and at most 9/8 of that."""
        windows, asked = max(0, end - first), self.tile // self.stride
        count = max(-(-8 * windows // (9 * asked)), round(windows / asked))
        return list(pairwise(first + windows * i // count for i in range(count + 1))) if count else []

    def _tile(self, row: int, column: int, rows: int, columns: int) -> Tile:
        (y0, y1), (x0, x1) = self._range(row, rows, self.shape[0]), self._range(column, columns, self.shape[1])
        return Tile(y0, x0, y1, x1, row, column, rows, columns)

    def _range(self, first: int, count: int, size: int) -> tuple[int, int]:
        """Return the pixel range needed by ``count`` windows from number ``first``, along an axis of ``size`` px."""
        last = (first + count - 1) * self.stride + self.window
        return max(0, first * self.stride - self.reach), min(size, last + self.reach)


@dataclass(frozen=True)
class SearchGrid:
    """Grid of the places (square windows) that a detector scores.

    Attributes
    ----------
    window, stride
        Side and step of the places, px; the first pixel of a place is a multiple of ``stride``.
    reach
        Distance around a place that the detector uses, px.
    claim
        Side of the square at the centre of a place that holds the centre of any trail seen there, px.
    """

    window: int = WINDOW
    stride: int = 7
    reach: int = 0
    claim: int = WINDOW

    def tiling(self, shape: tuple[int, int], tile: int) -> Tiling:
        """Divide the places on an image of (ny, nx) px among tiles of side ``tile``, px.

        Raises
        ------
        Misconfigured
            The side of a tile is not a multiple of the stride.
        """
        return Tiling(shape, tile, self.window, self.stride, self.reach)

    def whole(self, shape: tuple[int, int]) -> Tile:
        """Return one tile with all places on an image of (ny, nx) px, which must be at least ``window`` on each side.

        Raises
        ------
        ValueError
            There is no place on the image.
        """
        (tile,) = self.tiling(shape, self.stride * -(-max(shape) // self.stride)).tiles()
        return tile
