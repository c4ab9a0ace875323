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
        Its windows on the exposure's global grid; the first starts at pixel (y0, x0).
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

    Raises
    ------
    Misconfigured
        The sizes do not fit each other.
    """

    shape: tuple[int, int]
    tile: int = 1008
    window: int = 26
    stride: int = 7

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
        y0, x0 = row * self.stride, column * self.stride
        y1 = y0 + (rows - 1) * self.stride + self.window
        x1 = x0 + (columns - 1) * self.stride + self.window
        return Tile(y0, x0, y1, x1, row, column, rows, columns)
