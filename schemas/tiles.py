"""Which part of an exposure one task reads, and which windows it owns."""

from dataclasses import dataclass

from schemas.errors import Misconfigured


@dataclass(frozen=True, order=True)
class Tile:
    """One tile of a `Tiling`: its pixels, and the windows whose first pixel lies in it.

    Attributes
    ----------
    y0, x0, y1, x1
        Padded pixel range, half open: what the task reads.
    row0, column0, rows, columns
        Its windows on the exposure's global grid; the first starts at pixel (row0, column0) times the stride, which
        is (y0, x0) where the search has no reach beyond its windows.
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
    """How the windows of an image are shared out among tiles.

    Windows lie on one grid for the whole image (first pixels at multiples of ``stride``); the tile that holds a
    window's first pixel owns it, and reads ``window - stride`` px more to the right and below (or what is left of
    the image). So no window is lost or searched twice, whatever the tile side.

    Parameters
    ----------
    shape
        (ny, nx) of the image, pixels.
    tile
        Side of a tile, pixels; a multiple of ``stride``.
    window, stride
        Side and step of the search windows, pixels.
    reach
        How far around its windows a search looks, pixels; a tile reads so much more on all sides, as far as there is
        an image.

    Raises
    ------
    Misconfigured
        The sizes do not fit each other.
    """

    shape: tuple[int, int]
    tile: int = 1008
    window: int = 26
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
        """Rows and columns of windows; (0, 0) for an image smaller than a window."""
        ny, nx = self.shape
        if min(ny, nx) < self.window:
            return 0, 0
        return 1 + (ny - self.window) // self.stride, 1 + (nx - self.window) // self.stride

    def tiles(self) -> tuple[Tile, ...]:
        """Tiles that own at least one window, row by row."""
        step = self.tile // self.stride
        rows, columns = self.grid
        return tuple(
            self._tile(row, column, min(step, rows - row), min(step, columns - column))
            for row in range(0, rows, step)
            for column in range(0, columns, step)
        )

    def _tile(self, row: int, column: int, rows: int, columns: int) -> Tile:
        (y0, y1), (x0, x1) = self._range(row, rows, self.shape[0]), self._range(column, columns, self.shape[1])
        return Tile(y0, x0, y1, x1, row, column, rows, columns)

    def _range(self, first: int, count: int, size: int) -> tuple[int, int]:
        """Pixels that ``count`` windows from number ``first`` on need, along an axis of ``size`` px."""
        last = (first + count - 1) * self.stride + self.window
        return max(0, first * self.stride - self.reach), min(size, last + self.reach)
