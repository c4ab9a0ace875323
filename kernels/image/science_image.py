"""Science image without its sky."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import sep
from numpy.typing import NDArray

from schemas.exposure import ExposureInfo
from schemas.pixels import MASK, SCIENCE, MaskPlane, is_large
from schemas.stage import NightPixels

_NO_LIGHT = np.uint16(MaskPlane.BAD | MaskPlane.CR | MaskPlane.EDGE)  # NO_DATA and SAT refer to the difference image
_TINY = np.finfo(np.float32).tiny

BLOCK, MARGIN = 3072, 512
"""Side of the blocks in which a large image is processed, and margin examined around each, px."""

_KEPT, _SQUARES = 32, 2**14
"""Number of sky models kept, and squares of the largest: 16 bytes each."""

_SKIES: OrderedDict[Hashable, sep.Background] = OrderedDict()

_MESHES, _WIDEST = 8, 1024  # squares of sky around a block, beyond which changes affect the spline by < 3e-5; px


class ScienceImage(NamedTuple):
    """Science image.

    Attributes
    ----------
    pixels : (ny, nx) float32
        Less the sky, pixel units; 0 where ``bad``.
    bad : (ny, nx) bool
        Pixels without a value that is to be trusted.
    noise : (ny, nx) float32
        Standard deviation of the sky, pixel units.
    """

    pixels: NDArray[np.float32]
    bad: NDArray[np.bool_]
    noise: NDArray[np.float32]


class NeededPlaces(NamedTuple):
    """Places on an image, (n,) each, px, and how far around each pixels are needed, px."""

    x: NDArray[Any]
    y: NDArray[Any]
    reach: float


class ImageBlock(NamedTuple):
    """Block of an image: its pixels [y0:y1, x0:x1], and those [top:bottom, left:right] with what lies around."""

    y0: int
    x0: int
    y1: int
    x1: int
    top: int
    left: int
    bottom: int
    right: int

    @property
    def inner(self) -> tuple[slice, slice]:
        """Return where it is in the image."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def outer(self) -> tuple[slice, slice]:
        """Return where it is in the image, with what lies around."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def inside(self) -> tuple[slice, slice]:
        """Return where it is in its outer pixels."""
        return slice(self.y0 - self.top, self.y1 - self.top), slice(self.x0 - self.left, self.x1 - self.left)

    def holds(self, x: NDArray[Any], y: NDArray[Any], reach: float = 0.0) -> NDArray[np.bool_]:
        """Return which places lie on it, or within ``reach`` px of it; (n,)."""
        across = (x >= self.x0 - reach) & (x < self.x1 + reach)
        return np.asarray(across & (y >= self.y0 - reach) & (y < self.y1 + reach), np.bool_)


def blocks(shape: tuple[int, ...], side: int, margin: int) -> Iterator[ImageBlock]:
    """Yield the blocks of an image of (ny, nx) px, row by row; each pixel is in one."""
    ny, nx = shape
    for y0 in range(0, ny, side):
        for x0 in range(0, nx, side):
            y1, x1 = min(y0 + side, ny), min(x0 + side, nx)
            around = max(y0 - margin, 0), max(x0 - margin, 0), min(y1 + margin, ny), min(x1 + margin, nx)
            yield ImageBlock(y0, x0, y1, x1, *around)


def _sides(mesh: int) -> tuple[int, int]:
    """Return side and margin of the blocks in which a sky is subtracted: whole squares of the sky."""
    margin = math.ceil(max(MARGIN, min(_MESHES * mesh, _WIDEST)) / mesh) * mesh
    return max((BLOCK + 2 * (MARGIN - margin)) // mesh, 1) * mesh, margin


def block_pixels(shape: tuple[int, int], mesh: int) -> int:
    """Return the pixels of a science image of (ny, nx) px that are worked on at a time."""
    side, margin = _sides(mesh)
    return math.prod(min(one, side + 2 * margin) for one in shape) if is_large(shape) else math.prod(shape)


def science_image(
    science: Any,
    mask: Any,
    mesh: int,
    allocate: Callable[[tuple[int, ...], str], Any] = np.zeros,
    near: NeededPlaces | None = None,
    identity: Hashable | None = None,
) -> ScienceImage | None:
    """Subtract the sky from a science image; from a large one block by block.

    Parameters
    ----------
    science, mask : (ny, nx)
        Pixel units, may hold NaN; bits of `schemas.pixels.MaskPlane`. A pixel without a value on the difference image
        alone counts. Of a large image pieces are asked for: ``science[y0:y1, x0:x1]``.
    mesh
        Side of the squares over which the sky is estimated, px.
    allocate
        Returns an array of a shape and a dtype, for a large image.
    near
        Of a large image only blocks on which these need pixels are done; the others stay 0. None: all.
    identity
        What tells the image from all others: its sky is kept for the next call. None: nothing is kept.

    Returns
    -------
    ScienceImage or None
        None if no pixel has a value, or all have the same.

    Notes
    -----
    Sky and noise are those of SExtractor (Bertin & Arnouts 1996, A&AS 117, 393), as `sep` has them: a clipped mode in
    each square, a median filter of 3 x 3 squares, and a bicubic spline. Blocks consist of whole squares and look at 8
    and more around: where squares without any value are not so wide, the sky is that of the whole.
    """
    shape = science.shape
    if not is_large(shape):
        return _without_sky(science, mask, mesh, identity)
    made = ScienceImage(*(allocate(shape, dtype) for dtype in ("float32", "bool", "float32")))
    anything = False
    for block in blocks(shape, *_sides(mesh)):
        if near is not None and not block.holds(near.x, near.y, near.reach).any():
            continue
        part = _without_sky(science[block.outer], mask[block.outer], mesh, identity and (identity, block))
        made.bad[block.inner] = part is None or part.bad[block.inside]
        made.noise[block.inner] = _TINY if part is None else part.noise[block.inside]
        if part is not None:
            made.pixels[block.inner] = part.pixels[block.inside]
            anything = True
    return made if anything else None


def _without_sky(
    science: NDArray[np.float32], mask: NDArray[np.uint16], mesh: int, identity: Hashable | None
) -> ScienceImage | None:
    bad = ~np.isfinite(science) | ((mask & _NO_LIGHT) != 0)
    pixels = np.where(bad, science[np.unravel_index(bad.argmin(), bad.shape)], science)
    if not pixels.min() < pixels.max():
        return None
    sky = _sky(pixels, bad, mesh, identity and (identity, mesh))
    sky.subfrom(pixels)
    pixels[bad] = 0
    noise = sky.rms(dtype=np.float32)
    return ScienceImage(pixels, bad, np.maximum(noise, _TINY, out=noise))


def _sky(pixels: NDArray[np.float32], bad: NDArray[np.bool_], mesh: int, key: Hashable | None) -> sep.Background:
    """Return the sky of an image, that of an earlier call with the same key if it is kept; the last ones used are."""
    if (sky := _SKIES.pop(key, None)) is None:
        down, across = (min(mesh, side) for side in pixels.shape)
        sky = sep.Background(pixels, mask=bad, fw=3, fh=3, bw=across, bh=down)
    if key is not None and pixels.size <= _SQUARES * mesh**2:
        _SKIES[key] = sky
        if len(_SKIES) > _KEPT:
            _SKIES.popitem(last=False)
    return sky


@contextmanager
def image_of(
    pixels: NightPixels, exposure: ExposureInfo, mesh: int, near: NeededPlaces | None
) -> Iterator[ScienceImage | None]:
    """Yield the science image of an exposure of a night, less its sky; parameters as of `science_image`."""
    with pixels.room(exposure) as allocate:
        science, mask = (pixels.read(exposure, one.name) for one in (SCIENCE, MASK))
        yield science_image(science, mask, mesh, allocate, near, pixels.identity(exposure))
