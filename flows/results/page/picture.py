"""Pictures of pixels, with robust scaling, coloured masks, and data URIs."""

import base64
import io
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.pixels import UNUSABLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MASKED, OUTSIDE = 254, 255
"""Levels for an unusable pixel, and for one beyond the border of the image."""

_BRIGHTEST = 253
_BLACK = -3.0  # value shown black, in units of the noise above the background
_TINY = 1e-30
_DARK, _LIGHT = np.array([8, 11, 20]), np.array([255, 255, 250])
_MASKED_RGB, _OUTSIDE_RGB = (52, 78, 112), (120, 126, 138)


@dataclass(frozen=True)
class Picture:
    """Encoded picture.

    Attributes
    ----------
    uri
        Its ``data:`` URI.
    width, height
        Size, px.
    """

    uri: str
    width: int
    height: int


_SPREAD = 1.4826  # standard deviation of a Gaussian over its median absolute deviation


def level_and_noise(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return the median of the finite values, and the standard deviation from the median deviation; 0 and 1 if none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    level = float(np.median(finite))
    return level, _SPREAD * float(np.median(np.abs(finite - level))) or 1.0


def usable(difference: NDArray[np.float32], mask: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Return which pixels are finite and have no bit of `UNUSABLE`."""
    return np.asarray(np.isfinite(difference) & ((mask & np.uint16(UNUSABLE)) == 0))


def stretch(values: NDArray[np.floating], background: float, noise: float, high: float = 8.0) -> NDArray[np.uint8]:
    """Return levels 0 to 253 of ``values``.

    Parameters
    ----------
    values : (ny, nx)
        Pixels; non-finite ones become `MASKED`.
    background, noise
        Level and standard deviation of the sky, same unit.
    high
        Value shown white, in units of ``noise`` above ``background``.

    Returns
    -------
    (ny, nx) uint8
        Inverse hyperbolic sine of (value - black) / (4 noise): nearly linear at the sky, compressed above it
        (Lupton, Gunn & Szalay 1999, AJ 118, 1406).
    """
    sigma = (np.asarray(values, np.float64) - background) / max(noise, _TINY)
    blank = ~np.isfinite(sigma)
    above = np.clip(np.where(blank, _BLACK, sigma), _BLACK, high) - _BLACK
    levels = np.rint(_BRIGHTEST * np.arcsinh(above / 4) / np.arcsinh((high - _BLACK) / 4)).astype(np.uint8)
    levels[blank] = MASKED
    return levels


def bin_mean(difference: NDArray[np.float32], good: NDArray[np.bool_], factor: int) -> NDArray[np.float64]:
    """Return the mean of the good pixels of every ``factor`` x ``factor`` block.

    Parameters
    ----------
    difference, good : (ny, nx)
        Pixels, and which of them count.
    factor
        Side of a block, px. Blocks that extend beyond the upper or right border are padded with pixels that do not
        count.

    Returns
    -------
    (ceil(ny / factor), ceil(nx / factor)) float64
        NaN if fewer than half of the block's pixels count.
    """
    counts = _block_sums(good.astype(np.int32), factor)
    total = _block_sums(np.where(good, difference, 0).astype(np.float64), factor)
    return np.where(2 * counts >= factor * factor, total / np.maximum(counts, 1), np.nan)


def _block_sums(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return sums over blocks: first over rows, which are contiguous in memory, then over columns."""
    ny, nx = values.shape
    if ny % factor or nx % factor:
        values = np.pad(values, ((0, -ny % factor), (0, -nx % factor)))
    along = reduce(np.add, (values[start::factor] for start in range(factor)))
    return reduce(np.add, (along[:, start::factor] for start in range(factor)))


def png(levels: NDArray[np.uint8]) -> Picture:
    """Return a lossless picture of ``levels``, the first row at the bottom."""
    image = Image.fromarray(np.ascontiguousarray(levels[::-1]))
    image.putpalette(_palette().tobytes())
    return _encoded(image, "png", optimize=True)


def colour_png(picture: NDArray[np.uint8]) -> Picture:
    """Return a lossless picture of (ny, nx, 3) levels, the first row at the bottom."""
    return _encoded(Image.fromarray(np.ascontiguousarray(picture[::-1])), "png", optimize=True)


def figure_uri(figure: "Figure") -> str:
    """Return a matplotlib figure as PNG in a ``data:`` URL."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return _uri(file, "png")


def jpeg(levels: NDArray[np.uint8], limit: int) -> Picture:
    """Return a JPEG of ``levels``, the first row at the bottom, of the highest quality below ``limit`` characters.

    The lowest quality is used whatever its size: 45,000 characters for 800 x 800 px of Gaussian noise.
    """
    image = Image.fromarray(_palette()[np.ascontiguousarray(levels[::-1])])
    for quality in (88, 80, 70, 62, 55, 48, 40, 30, 15):
        picture = _encoded(image, "jpeg", quality=quality, optimize=True)
        if len(picture.uri) <= limit:
            break
    return picture


def _palette() -> NDArray[np.uint8]:
    ramp = np.linspace(0, 1, _BRIGHTEST + 1)[:, None]
    grey = np.rint(_DARK + ramp * (_LIGHT - _DARK)).astype(np.uint8)
    return np.concatenate([grey, np.array([_MASKED_RGB, _OUTSIDE_RGB], np.uint8)])


def _encoded(image: Image.Image, kind: str, **options: int | bool) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, format=kind.upper(), **options)
    return Picture(_uri(buffer, kind), *image.size)


def _uri(file: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
