"""Subtraction by SFFT: the sharper of two images is convolved to look like the other."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from importlib.util import find_spec
from io import StringIO
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, maximum_filter, minimum_filter
from scipy.signal import fftconvolve

from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.psf.seeing import fit_stars
from kernels.subtraction.blocks import Block, Flattened, Image, KernelGrid, Mask, blocks_of, flattened
from kernels.trails.trail_model import trail_image
from schemas.errors import Misconfigured

Floats = NDArray[np.float64]

STAMP = 15
"""Half the side of the stamps about stars, px."""

_SOURCE, _FREE = 10.0, 1.8  # sigma above which a pixel is of a source; FWHM: half the side of the kernels


def sfft_grid(pair: list[Flattened], usable: NDArray[np.bool_], psfs: Image, blocks: tuple[Block, ...]) -> KernelGrid:
    """Return the kernels of a subtraction in which the sharper image is convolved; SFFT solves for that of each block.

    Hu et al. 2022 (ApJ 936, 157): each pixel of the kernel is free. The pixels about sources count, the others are 0 in
    both images.

    Raises
    ------
    Misconfigured
        The package is not installed.
    """
    require_sfft()
    turned, fwhm = sharper(psfs)
    source, target = pair[:: 1 if turned else -1]
    whole = clear(usable, 2 * STAMP, "nearest")  # of what saturated stars leave beside their holes
    bright = (target.image > _SOURCE * np.median(target.sigmas)) & whole
    half, sides = int(np.ceil(_FREE * fwhm)), [max(b.y1 - b.y0 for b in blocks), max(b.x1 - b.x0 for b in blocks)]
    made = []
    for block in blocks:
        y0, x0 = max(block.y1 - sides[0], 0), max(block.x1 - sides[1], 0)
        here = np.s_[y0 : y0 + sides[0], x0 : x0 + sides[1]]
        inside = _about_sources(bright[here]) & whole[here]
        pieces = [np.where(inside, one.image[here], 0).astype(float) for one in (source, target)]
        made.append(_solved_by_sfft(pieces[0], pieces[1], half))
    return one_sided(turned, np.array(made), psfs, blocks)


def _about_sources(bright: Mask) -> Mask:
    """Return the areas about the bright pixels of a block, without those about sources that its border cuts.

    Of a cut source the kernel would have to make light that is not there. Where too little is left, all areas count.
    """
    inner = ~_border(bright.shape, STAMP)
    kept = maximum_filter(bright & inner, 2 * STAMP + 1) & ~maximum_filter(bright & ~inner, 2 * STAMP + 1)
    every = maximum_filter(bright, 2 * STAMP + 1)
    return kept if 4 * kept.sum() >= every.sum() else every


def require_sfft() -> None:
    """Make sure that the package sfft is there.

    Raises
    ------
    Misconfigured
        It is not.
    """
    if find_spec("sfft") is None:
        raise Misconfigured(
            "no_sfft",
            "--subtract sfft, --template, --subtracted",
            "the package sfft is not installed.",
            "pip install 'nightstride[subtract]'.",
        )


def _solved_by_sfft(source: Floats, target: Floats, half: int) -> Floats:
    """Return the kernel that turns one image into another; a single pixel where nothing tells it."""
    from sfft.sfftcore.SFFTSubtract import ElementalSFFTSubtract
    from sfft.utils.SFFTSolutionReader import Read_SFFTSolution, SVKDict_SFFT2ST

    side = 2 * half + 1
    kernel = np.zeros((side, side))
    kernel[half, half] = 1
    if min(np.count_nonzero(source), np.count_nonzero(target)) < 4 * side**2:
        return kernel
    with _kept_in_bounds():
        solution = ElementalSFFTSubtract.ESS(
            source, target, _sfft_functions(source.shape, half), BACKEND_4SUBTRACT="Numpy",
            NUM_CPU_THREADS_4SUBTRACT=1, VERBOSE_LEVEL=0,
        )[0]  # fmt: skip
    read = Read_SFFTSolution().FromArray(solution, *source.shape, side, side, 0, 1)
    return np.asarray(SVKDict_SFFT2ST.convert(0, 0, read)[0, 0])


@contextmanager
def _kept_in_bounds() -> Iterator[None]:
    """Keep what SFFT prints to itself, and put back the function of numba that it assigns a number to."""
    set_num_threads = numba.set_num_threads
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        numba.set_num_threads = set_num_threads


@lru_cache(maxsize=16)
def _sfft_functions(shape: tuple[int, int], half: int) -> Any:
    """Return what SFFT compiles for pieces of one size.

    Not from numba's cache on disk: with it a process fails after some images ("'descr' is NULL").
    """
    from sfft.sfftcore.SFFTConfigure import SingleSFFTConfigure

    with _kept_in_bounds():
        return SingleSFFTConfigure.SSC(
            *shape, half, KerPolyOrder=0, BGPolyOrder=0, BACKEND_4SUBTRACT="Numpy", NUM_CPU_THREADS_4SUBTRACT=1,
            NUMBA_CACHE=False, VERBOSE_LEVEL=0,
        )  # fmt: skip


def sharper(psfs: Image) -> tuple[bool, float]:
    """Return whether the science image is sharper than the template, and the FWHM of the less sharp one, px."""
    sharp = (psfs**2).sum((2, 3)).mean(0)
    return bool(sharp[0] > sharp[1]), float(2.355 / np.sqrt(4 * np.pi * sharp.min()))


def one_sided(turned: bool, kernels: Floats, psfs: Image, blocks: tuple[Block, ...]) -> KernelGrid:
    """Return the grid of kernels that convolve the template; or, ``turned``, the science image."""
    made = kernels.astype(np.float32)
    one = np.zeros_like(made)
    one[:, made.shape[1] // 2, made.shape[2] // 2] = 1
    if not turned:
        return KernelGrid(blocks, one, made, psfs[:, 0])
    psf = np.array([_convolved_psf(psf[0], kernel) for psf, kernel in zip(psfs, made, strict=True)])
    return KernelGrid(blocks, made, one, psf)


def _convolved_psf(psf: Image, kernel: Image) -> Image:
    wider = fftconvolve(psf, kernel, "same")
    return wider / wider.sum()


def clear(usable: NDArray[np.bool_], reach: int, border: str) -> NDArray[np.bool_]:
    """Return which pixels have usable ones only within ``reach`` px; "constant": nor the border of the image."""
    return minimum_filter(usable.astype(np.uint8), 2 * reach + 1, mode=border).astype(bool)


LEAST_STARS = 3
"""Stars that both images must have: of fewer no PSF and no scale of the fluxes can be told."""

_PSF_REACH = 4.5  # FWHM: half the side of the stamps of PSFs
_CORE = 0.7  # FWHM: radius of the circle in which what is left of a star is added up
_BRIGHT = 100.0  # S/N of stars that tell how good the subtraction is
_MOST = 200  # such stars


class Subtracted(NamedTuple):
    """Difference image and how it was made.

    Attributes
    ----------
    image : (ny, nx) float32
        Science image less matched template, without background, flux units of the science image; 0 where not known.
    unusable : (ny, nx) bool
        Pixels of which either image has no trustworthy value.
    psf : (fwhm_px, beta)
        Of the difference image: Moffat profile, FWHM before the pixels.
    scale
        Flux of a star on the science image over that on the template.
    residual
        Median over bright stars of what is left of their light, as a share of it; NaN if there is none.
    stars
        How many those are.
    """

    image: Image
    unusable: Mask
    psf: tuple[float, float]
    scale: float
    residual: float
    stars: int


def subtract_template(science: Image, template: Image, usable: tuple[Mask, Mask]) -> Subtracted:
    """Subtract a template on the same pixels: the sharper image is convolved, by SFFT, to look like the other.

    Parameters
    ----------
    science, template : (ny, nx)
        Any units, each with its background; may hold NaN.
    usable : pair of (ny, nx) bool
        Pixels of each that are neither masked nor saturated.

    Raises
    ------
    ValueError
        Fewer than `LEAST_STARS` stars on either image.
    Misconfigured
        The package sfft is not installed.

    Notes
    -----
    Where the science image is the sharper one, both are divided by the sum of its kernel, so that the unit stays that
    of the science image. A pixel is unusable where either image is, up to half a FWHM beside it, and so near to the
    border that the kernel reaches beyond it.
    """
    holes = ~(usable[0] & usable[1] & np.isfinite(science) & np.isfinite(template))
    blocks = blocks_of((science.shape[0], science.shape[1]))
    pair = [
        flattened(np.where(np.isfinite(image), image, np.float32(0)), holes, blocks, "neighbours")
        for image in (science, template)
    ]
    shapes = [_stars_psf(one, ~holes, name) for one, name in zip(pair, ("science image", "template"), strict=True)]
    reach = int(np.ceil(_PSF_REACH * max(fwhm for fwhm, _ in shapes)))
    stamps = np.repeat(np.array([[_stamp(*shape, reach) for shape in shapes]], np.float32), len(blocks), 0)
    grid = sfft_grid(pair, ~holes, stamps, blocks)
    turned = bool(np.count_nonzero(grid.science[0]) > 1)
    scale = float(np.median(grid.science.sum((1, 2)) if turned else grid.template.sum((1, 2))))
    if turned:
        scale = 1 / max(scale, 1e-9)
        grid = KernelGrid(blocks, grid.science * np.float32(scale), grid.template * np.float32(scale), grid.psf)
    image = grid.difference(pair[0].image, pair[1].image)
    unusable = binary_dilation(holes, iterations=max(1, round(shapes[turned][0] / 2)))
    unusable[_border(holes.shape, grid.template.shape[-1] // 2)] = True
    image[unusable] = 0
    psf = shapes[1 if turned else 0]
    residual, stars = _residual(image, pair[0].image, unusable, psf[0], float(np.median(pair[0].sigmas)))
    return Subtracted(image, unusable, psf, scale, residual, stars)


def _border(shape: tuple[int, ...], width: int) -> Mask:
    """Return which pixels of an image are so near to its border that a kernel reaches beyond it."""
    border = np.ones(shape, bool)
    border[width:-width, width:-width] = False
    return border


def _stars_psf(flat: Flattened, usable: Mask, name: str) -> tuple[float, float]:
    stars = fit_stars(flat.image, usable, 0.0, float(np.median(flat.sigmas)))
    if len(stars) < LEAST_STARS:
        raise ValueError(f"the {name} has {len(stars)} stars that are bright, round and alone, of {LEAST_STARS} needed")
    fwhm, beta = np.median(stars[:, 2:], axis=0)
    return float(fwhm), float(beta)


def _stamp(fwhm: float, beta: float, reach: int) -> Floats:
    stamp = trail_image((2 * reach + 1, 2 * reach + 1), reach, reach, 0.0, 0.0, moffat_mixture(fwhm, beta))
    return stamp / stamp.sum()


def _residual(image: Image, science: Image, unusable: Mask, fwhm: float, sigma: float) -> tuple[float, int]:
    """Return the median share of light that is left of bright stars, whatever its sign, and how many there are."""
    stars = fit_stars(science, ~unusable, 0.0, sigma)[:_MOST]
    radius = max(1, round(_CORE * fwhm))
    offsets = np.arange(-radius, radius + 1)
    disc = np.hypot(*np.meshgrid(offsets, offsets)) <= _CORE * fwhm + 0.5
    left = []
    for x, y in np.rint(stars[:, :2]).astype(int):
        box = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
        light = float(science[box][disc].sum())
        if light > _BRIGHT * sigma * np.sqrt(disc.sum()):
            left.append(abs(float(image[box][disc].sum())) / light)
    return (float(np.median(left)), len(left)) if left else (float("nan"), 0)
