"""Where a search puts its scores on an image."""

from dataclasses import dataclass

from schemas.tiles import Tile, Tiling


@dataclass(frozen=True)
class SearchGrid:
    """The places that a detector scores.

    Attributes
    ----------
    window, stride
        Side and step of the places, px; the first pixel of a place is a multiple of ``stride``.
    reach
        How far around a place the detector looks, px.
    claim
        Side of the square about the middle of a place in which the middle of a trail may lie that it has seen, px.
    """

    window: int = 26
    stride: int = 7
    reach: int = 0
    claim: int = 26

    def tiling(self, shape: tuple[int, int], tile: int) -> Tiling:
        """Share out the places on an image of (ny, nx) px among tiles of side ``tile``, px.

        Raises
        ------
        Misconfigured
            The side of a tile is no multiple of the stride.
        """
        return Tiling(shape, tile, self.window, self.stride, self.reach)

    def whole(self, shape: tuple[int, int]) -> Tile:
        """Give the one tile that owns all places on an image of (ny, nx) px, at least ``window`` on each side.

        Raises
        ------
        ValueError
            There is no place on the image.
        """
        (tile,) = self.tiling(shape, self.stride * -(-max(shape) // self.stride)).tiles()
        return tile
