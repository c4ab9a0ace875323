"""Copies of some tiles of an exposure, which can be changed and searched apart."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from schemas.exposure import ExposureInfo, Variation
from schemas.pixels import DIFFERENCE, MASK, SCIENCE, VARIANCE, Box, SearchGrid, is_large
from schemas.stage import EXPOSURE_PIXEL

_SIDE = 1008  # px; unlike that of the stored tiles, so that copies do not depend on how pixels are stored
_COPY_SIDE = 1700  # px: the largest copied tile with its margins, 1,512 px and twice 85
_HELD_PIXEL = 16  # bytes of image, mask, science image and variance
_MAPPED = 256 * 2**20  # maximum bytes of these in memory at once, if mapped from files
_BEYOND_FWHM = 8.0
_COPIED = (DIFFERENCE.name, MASK.name, SCIENCE.name, VARIANCE.name)


@dataclass(frozen=True)
class TileCopy:
    """Copy of the pixels of a tile and of what its windows and fits use around it, on the exposure's grid of windows.

    Attributes
    ----------
    tile
        Its number.
    box
        (y0, x0, y1, x1) of the tile itself, half open, px.
    y0, x0, planes
        Place of the first pixel copied, and the copies, which may be written to.
    searched
        Part of the copy, in its own pixels, with all places at which a trail in the tile may be found.
    """

    tile: int
    box: Box
    y0: int
    x0: int
    planes: Mapping[str, Any]
    searched: Box

    @property
    def shape(self) -> tuple[int, int]:
        """Return (ny, nx) of the copy, px."""
        ny, nx = self.planes[DIFFERENCE.name].shape
        return ny, nx

    def exposure(self, of: ExposureInfo) -> ExposureInfo:
        """Return the copy as an exposure; without WCS it has no positions that could be taken for real ones."""
        varied = {name: value.shifted(self.y0, self.x0) for name, value in _varied(of) if value is not None}
        psf = of.psf.model_copy(update={"variation": varied.get("psf")})
        own = {"psf": psf, "noise_variation": varied.get("noise")}
        return of.model_copy(update={"shape": self.shape, "wcs_header": None, "is_part": True, **own})


def _varied(of: ExposureInfo) -> tuple[tuple[str, Variation | None], ...]:
    return ("psf", of.psf.variation), ("noise", of.noise_variation)


def cells(shape: tuple[int, int], side: int) -> list[Box]:
    """Divide an image into nearly square cells, row by row.

    Parameters
    ----------
    shape
        (ny, nx) of the image, px.
    side
        About so wide, px: the image is cut into as many equal parts as come nearest to it, one at least.

    Returns
    -------
    list
        (y0, x0, y1, x1) of each, half open, px.
    """
    rows, columns = ([size * i // n for i in range(n + 1)] for size, n in ((s, max(1, round(s / side))) for s in shape))
    return [(y0, x0, y1, x1) for y0, y1 in pairwise(rows) for x0, x1 in pairwise(columns)]


def area_of(box: Box) -> float:
    """Return the area of a tile in units of a usual one."""
    return (box[2] - box[0]) * (box[3] - box[1]) / _SIDE**2


def drawn_tiles(exposure: ExposureInfo, share: float, purpose: int) -> Iterator[tuple[int, Box, np.random.Generator]]:
    """Draw tiles of an exposure: number, box and random numbers of each that is drawn.

    The draw follows from night, visit, detector and the purpose alone, in every run and process. The tiles of a share
    are a part of those of a larger one.
    """
    seed = [purpose, int(exposure.night), exposure.visit, exposure.detector]
    for tile, box in enumerate(cells(exposure.shape, _SIDE)):
        rng = np.random.default_rng([*seed, tile])
        if rng.uniform() < share:
            yield tile, box, rng


def sight(grid: SearchGrid) -> int:
    """Return the side of the area that a search uses for one of its places, px."""
    return grid.window + 2 * grid.reach


def clearance(grid: SearchGrid, fwhm_px: float) -> float:
    """Return the distance from which on neither the search nor a fit sees two sources at once, px."""
    return sight(grid) + grid.claim + _BEYOND_FWHM * fwhm_px


def copy_tile(
    inputs: Mapping[str, Any], tile: int, box: Box, longest: float, exposure: ExposureInfo, grid: SearchGrid
) -> TileCopy:
    """Copy a tile with a margin in which lie all windows that see a trail in it, and what its fit looks at.

    Parameters
    ----------
    inputs
        Planes of the whole exposure by name: ``difference``, ``mask``; ``science`` and ``variance`` if there are any.
    tile, box
        As `drawn_tiles` gives them.
    longest
        Length of the longest trail, px.
    exposure, grid
        Its metadata, and the grid of the search.
    """
    margin = math.ceil(longest / 2 + sight(grid) + _BEYOND_FWHM * exposure.psf.fwhm_px)
    (ny, nx), step = exposure.shape, grid.stride
    y0, x0 = (max(0, (edge - margin) // step * step) for edge in box[:2])
    here = np.s_[y0 : min(ny, box[2] + margin), x0 : min(nx, box[3] + margin)]
    planes = {name: inputs[name][here].copy() for name in _COPIED if name in inputs}
    around = math.ceil(longest / 2 + grid.window + grid.claim)
    top, left, bottom, right = box[0] - y0, box[1] - x0, box[2] - y0, box[3] - x0
    searched = max(0, top - around), max(0, left - around), bottom + around, right + around
    return TileCopy(tile, box, y0, x0, planes, searched)


def copying_memory(shape: tuple[int, int], settings: Any) -> int:
    """Return the bytes held while a copy is merged and measured: its planes; none at a ``settings.share`` of 0."""
    copied = min(shape[0], _COPY_SIDE) * min(shape[1], _COPY_SIDE)
    held = _MAPPED if is_large(shape) else shape[0] * shape[1] * _HELD_PIXEL
    return held + copied * EXPOSURE_PIXEL if settings.share else 0
