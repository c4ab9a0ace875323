"""Blocks of two images that are subtracted: their background and noise, and the kernels of each."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter, median_filter

from kernels.image.noise import background_and_noise

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

BLOCK = 512
"""Side of a block, px; the blocks of an image are of about equal size."""


class Block(NamedTuple):
    """Rows and columns of a block, half open."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def centre(self) -> tuple[float, float]:
        """Return (x, y) of the middle, 0-based px."""
        return (self.x0 + self.x1 - 1) / 2, (self.y0 + self.y1 - 1) / 2


def blocks_of(shape: tuple[int, int], side: int = BLOCK) -> tuple[Block, ...]:
    """Return the blocks of an image of (ny, nx) px, row by row."""
    rows, columns = (np.linspace(0, size, max(1, round(size / side)) + 1).astype(int).tolist() for size in shape)
    return tuple(Block(y0, y1, x0, x1) for y0, y1 in pairwise(rows) for x0, x1 in pairwise(columns))


class Flattened(NamedTuple):
    """Image without its background, its holes filled, and its noise in each block; the usual one where none is seen."""

    image: Image
    sigmas: NDArray[np.float64]


@dataclass(frozen=True)
class KernelGrid:
    """Kernels of a subtraction: difference = science * ``science`` - template * ``template``, block by block.

    Attributes
    ----------
    blocks
        Of the image.
    science, template : (blocks, side, side) float32
        Kernels, centred on the middle pixel.
    psf : (blocks, side, side) float32
        Of the difference, as the pipeline knows it; of unit sum.
    """

    blocks: tuple[Block, ...]
    science: Image
    template: Image
    psf: Image

    def at(self, x: float, y: float) -> int:
        """Return the number of the block that a place belongs to; the nearest one for places beyond the image."""
        away = [max(b.x0 - x, x - b.x1 + 1, 0) + max(b.y0 - y, y - b.y1 + 1, 0) for b in self.blocks]
        return int(np.argmin(away))

    def difference(self, science: Image, template: Image) -> Image:
        """Return the difference of two images without a background, (ny, nx)."""
        return _convolved(self.blocks, (science, template), (self.science, -self.template))

    def variance(self, science: Image, template: Image) -> Image:
        """Return the variance of the difference from those of the images, whose pixels are independent."""
        return _convolved(self.blocks, (science, template), (self.science**2, self.template**2))

    def correlation(self, block: int, sigmas: tuple[float, float]) -> NDArray[np.float64]:
        """Return the autocorrelation of the noise in a block at lags -5..5, 1 at the centre.

        Parameters
        ----------
        block
            Its number.
        sigmas
            Standard deviation of a pixel of science image and template.
        """
        side = 2 * self.science.shape[-1]
        power = sum(
            sigma**2 * np.abs(fft.rfft2(kernels[block].astype(float), s=(side, side))) ** 2
            for sigma, kernels in zip(sigmas, (self.science, self.template), strict=True)
        )
        reach = 5
        lags = np.roll(fft.irfft2(power, s=(side, side)), (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
        return lags / lags[reach, reach]


def _convolved(blocks: tuple[Block, ...], images: tuple[Image, ...], kernels: tuple[Image, ...]) -> Image:
    """Return the sum of images convolved with their kernels; beyond the border they are 0."""
    out = np.empty_like(images[0])
    half = kernels[0].shape[-1] // 2
    padded = [np.pad(image, half) for image in images]
    for number, block in enumerate(blocks):
        height, width = block.y1 - block.y0 + 2 * half, block.x1 - block.x0 + 2 * half
        size = [fft.next_fast_len(side, real=True) for side in (height, width)]
        total: NDArray[np.complex64] | float = 0.0
        for image, kernel in zip(padded, kernels, strict=True):
            piece = image[block.y0 : block.y0 + height, block.x0 : block.x0 + width]
            total = total + fft.rfft2(piece, s=size) * fft.rfft2(kernel[number], s=size)
        whole = fft.irfft2(total, s=size)
        out[block.y0 : block.y1, block.x0 : block.x1] = whole[2 * half : height, 2 * half : width]
    return out


_MESH = 192  # px: the background is a median over squares of this side
_FILL = 4.0  # px: width of the average of neighbours that fills a hole


def flattened(image: Image, holes: Mask, blocks: tuple[Block, ...], fill: str) -> Flattened:
    """Remove the background of an image, fill its holes and measure its noise.

    Parameters
    ----------
    image : (ny, nx)
        Pixel units.
    holes : (ny, nx) bool
        Pixels without a value.
    blocks
        For each of which the noise is measured.
    fill
        Holes are filled with 0 ("sky") or an average of what is around them ("neighbours"), or left ("nothing").
    """
    flat = image - _background(image, holes)
    if fill != "nothing":
        flat[holes] = 0
    if fill == "neighbours" and holes.any():
        weight = gaussian_filter((~holes).astype(np.float32), _FILL)
        around = gaussian_filter(flat, _FILL)[holes]
        flat[holes] = np.where(weight[holes] > 1e-3, around / np.maximum(weight[holes], 1e-3), 0)
    sigmas = np.array([_noise(flat, holes, block) for block in blocks])
    known = sigmas > 0
    usual = np.median(sigmas[known]) if known.any() else min(1e-3 * max(float(np.abs(flat).max()), 1e-9), 0.01)
    return Flattened(flat, np.where(known, sigmas, usual))


def _noise(flat: Image, holes: Mask, block: Block) -> float:
    piece = np.s_[block.y0 : block.y1 : 2, block.x0 : block.x1 : 2]
    return background_and_noise(flat[piece], ~holes[piece])[1] if not holes[piece].all() else 0.0


def _background(image: Image, holes: Mask) -> Image:
    """Return the background: medians over a mesh, smoothed, with straight lines between."""
    ny, nx = image.shape
    cells = blocks_of(image.shape, _MESH)
    rows, columns = (sorted({(block[k] + block[k + 1] - 1) / 2 for block in cells}) for k in (0, 2))
    levels = np.array([_median(image, holes, block) for block in cells]).reshape(len(rows), len(columns))
    levels = np.where(np.isfinite(levels), levels, np.nanmedian(levels) if np.isfinite(levels).any() else 0.0)
    levels = median_filter(levels, 3, mode="nearest")
    along_y = np.stack([np.interp(np.arange(ny), rows, unit) for unit in np.eye(len(rows))], axis=1)
    along_x = np.stack([np.interp(np.arange(nx), columns, unit) for unit in np.eye(len(columns))], axis=1)
    return (along_y @ levels @ along_x.T).astype(np.float32)


def _median(image: Image, holes: Mask, block: Block) -> float:
    piece = np.s_[block.y0 : block.y1 : 2, block.x0 : block.x1 : 2]
    values = image[piece][~holes[piece]]
    return background_and_noise(values[None], np.ones((1, len(values)), bool))[0] if len(values) > 50 else np.nan
