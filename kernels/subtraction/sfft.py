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
from scipy.ndimage import binary_dilation, label, maximum_filter, minimum_filter
from scipy.signal import fftconvolve

from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.psf.seeing import fit_stars
from kernels.subtraction.blocks import Block, Flattened, Image, KernelGrid, Mask, blocks_of, flattened
from kernels.trails.trail_model import trail_image
from schemas.errors import Misconfigured

Floats = NDArray[np.float64]

STAMP = 15
"""Half the side of the stamps around stars, px."""

_SOURCE, _FREE = 10.0, 1.8  # sigma above which a pixel belongs to a source; FWHM: half the side of the kernels
_SEEN = 3.0  # sigma: fainter sources are ignored
_LEAST_PIXELS = 4  # minimum number around sources, per pixel of a kernel


def sfft_grid(
    pair: list[Flattened],
    usable: NDArray[np.bool_],
    psfs: Image,
    blocks: tuple[Block, ...],
    *,
    on_both: bool = False,
) -> KernelGrid:
    """Return the kernels of a subtraction in which the sharper image is convolved; SFFT solves for that of each block.

    Hu et al. 2022 (ApJ 936, 157): each pixel of the kernel is free. The pixels about sources count, the others are 0 in
    both images.

    Parameters
    ----------
    pair, usable, psfs, blocks
        Science image and template; pixels of both that count; their PSFs in each block; the blocks.
    on_both
        Whether, of a science image that is convolved, only sources count that are bright on both images, as its noise
        would make the kernel too weak, and none beside light that the template lacks, as of a satellite.

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
    alone = np.zeros_like(bright)
    if turned and on_both:
        both, alone = _on_both(source, target)
        bright &= both
    half = int(np.ceil(_FREE * fwhm))
    made = []
    for block, seen in zip(blocks, _with_pixels(usable, blocks), strict=True):
        if not seen:
            made.append(_single(half))
            continue
        for here in _windows(block, blocks):
            inside = _without(_about_sources(bright[here]), alone[here]) & whole[here]
            if inside.sum() >= _LEAST_PIXELS * (2 * half + 1) ** 2:
                break
        pieces = [np.where(inside, one.image[here], 0).astype(float) for one in (source, target)]
        made.append(_solved_by_sfft(pieces[0], pieces[1], half))
    return one_sided(turned, np.array(made), psfs, blocks)


def _with_pixels(usable: NDArray[np.bool_], blocks: tuple[Block, ...]) -> NDArray[np.bool_]:
    """Return which blocks have a pixel that counts, (blocks,)."""
    return np.array([usable[one.y0 : one.y1, one.x0 : one.x1].any() for one in blocks], np.bool_)


def _on_both(source: Flattened, target: Flattened) -> tuple[Mask, Mask]:
    """Return where the first image is bright: with what the other shows at all within 2 px, and alone."""
    bright = source.image > _SOURCE * np.median(source.sigmas)
    seen = maximum_filter(target.image, 5) > _SEEN * np.median(target.sigmas)
    return bright & seen, bright & ~seen


def _windows(block: Block, blocks: tuple[Block, ...]) -> Iterator[tuple[slice, slice]]:
    """Yield the areas by which the kernel of a block may be told, each tried if the one before holds too little.

    The first is as large as the largest block, the others are twice and four times as wide, as far as the image goes.
    """
    sides = max(b.y1 - b.y0 for b in blocks), max(b.x1 - b.x0 for b in blocks)
    ends = (block.y1, block.x1), (max(b.y1 for b in blocks), max(b.x1 for b in blocks))
    for wider in (1, 2, 4):
        lengths = [min(wider * side, most) for side, most in zip(sides, ends[1], strict=True)]
        lasts = [
            min(max(end + (length - side) // 2, length), most)
            for end, length, side, most in zip(ends[0], lengths, sides, ends[1], strict=True)
        ]
        y, x = (slice(last - length, last) for last, length in zip(lasts, lengths, strict=True))
        yield y, x


def _about_sources(bright: Mask) -> Mask:
    """Return the areas about the bright pixels of a block, without those about sources that its border cuts.

    Of a cut source the kernel would have to make light that is not there. Where too little is left, all areas count.
    """
    inner = ~_border(bright.shape, STAMP)
    kept = maximum_filter(bright & inner, 2 * STAMP + 1) & ~maximum_filter(bright & ~inner, 2 * STAMP + 1)
    every = maximum_filter(bright, 2 * STAMP + 1)
    return kept if 4 * kept.sum() >= every.sum() else every


def _without(areas: Mask, light: Mask) -> Mask:
    """Return the areas, connected ones as a whole, on which a light does not shine, as of a satellite."""
    number, _ = label(areas)
    return areas & ~np.isin(number, np.unique(number[light & areas]))


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


def _single(half: int) -> Floats:
    """Return the kernel that leaves an image as it is."""
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    kernel[half, half] = 1
    return kernel


def _solved_by_sfft(source: Floats, target: Floats, half: int) -> Floats:
    """Return the kernel that turns one image into another; a single pixel where nothing tells it."""
    from sfft.sfftcore.SFFTSubtract import ElementalSFFTSubtract
    from sfft.utils.SFFTSolutionReader import Read_SFFTSolution, SVKDict_SFFT2ST

    side = 2 * half + 1
    if min(np.count_nonzero(source), np.count_nonzero(target)) < _LEAST_PIXELS * side**2:
        return _single(half)
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
"""Minimum number of stars on both images for PSFs and the scale of the fluxes."""

_PSF_REACH = 4.5  # FWHM: half the side of the stamps of PSFs
_CORE = 0.7  # FWHM: radius of the circle in which the residual of a star is summed
_BRIGHT = 100.0  # S/N of stars that show the quality of the subtraction
_MOST = 200  # maximum number of such stars
_LANCZOS = 3  # order of the shift of an image by less than a pixel


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
    stars = [_stars_of(one, ~holes, name) for one, name in zip(pair, ("science image", "template"), strict=True)]
    shapes = [(float(fwhm), float(beta)) for fwhm, beta in (np.median(one[:, 2:], axis=0) for one in stars)]
    reach = int(np.ceil(_PSF_REACH * max(fwhm for fwhm, _ in shapes)))
    stamps = np.repeat(np.array([[_stamp(*shape, reach) for shape in shapes]], np.float32), len(blocks), 0)
    grid = sfft_grid(pair, ~holes, stamps, blocks, on_both=True)
    (turned, _), seen = sharper(stamps), _with_pixels(~holes, blocks)
    scale = float(np.median(grid.template[seen].sum((1, 2))))
    if turned:
        grid, scale = _as_science(grid, pair, stars[1], shapes, seen)
    image = grid.difference(pair[0].image, pair[1].image)
    beside = max(1, round(shapes[turned][0] / 2), _LANCZOS if turned else 0)
    unusable = binary_dilation(holes, iterations=beside)
    unusable[_border(holes.shape, grid.template.shape[-1] // 2)] = True
    image[unusable] = 0
    psf = shapes[1 if turned else 0]
    residual, bright = _residual(image, pair[0].image, unusable, psf[0], float(np.median(pair[0].sigmas)))
    return Subtracted(image, unusable, psf, scale, residual, bright)


def _as_science(
    grid: KernelGrid,
    pair: list[Flattened],
    stars: Floats,
    shapes: list[tuple[float, float]],
    seen: NDArray[np.bool_],
) -> tuple[KernelGrid, float]:
    """Return kernels that convolve the science image and leave fluxes and places as they are on it, and the scale.

    Solved for, a kernel also moves the science image to where the template has the stars, as far as their WCS differ,
    and it is too weak, because of the noise in what it convolves: it is strengthened by the median ratio of the stars
    of the block, of all if it has fewer than `LEAST_STARS`. The scale is that of the blocks that are ``seen``.
    """
    light = [
        _core_light(image, stars, shapes[1][0])
        for image in (grid.difference(pair[0].image, np.zeros_like(pair[0].image)), pair[1].image)
    ]
    ratios = np.divide(light[1], light[0], where=light[0] > 0, out=np.full(len(stars), np.nan))
    of_block = np.array([grid.at(x, y) for x, y in stars[:, :2]])
    stamp = _stamp(*shapes[0], grid.psf.shape[-1] // 2)
    made, sums = [], []
    for number, kernel in enumerate(grid.science.astype(float)):
        own = ratios[of_block == number]
        ratio = np.nanmedian(own if np.isfinite(own).sum() >= LEAST_STARS else ratios)
        sums.append(max(float(ratio * kernel.sum()), 1e-9))
        back = _shift(-_centroid(fftconvolve(stamp, kernel, "same"), shapes[1][0]), kernel.shape[0] // 2)
        moved = fftconvolve(kernel, back, "same")
        made.append((moved / moved.sum(), back / sums[-1]))
    science, template = (np.array(part, np.float32) for part in zip(*made, strict=True))
    return KernelGrid(grid.blocks, science, template, grid.psf), float(1 / np.median(np.array(sums)[seen]))


def _centroid(image: Floats, fwhm: float) -> Floats:
    """Return (x, y) of a source from the middle of a stamp, px, under a round Gaussian weight as wide as it."""
    half = image.shape[0] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    at = np.zeros(2)
    for _ in range(10):
        weight = image * np.exp(-4 * np.log(2) * ((x - at[0]) ** 2 + (y - at[1]) ** 2) / fwhm**2)
        at = at + 2 * np.array([((x - at[0]) * weight).sum(), ((y - at[1]) * weight).sum()]) / weight.sum()
    return np.clip(at, -half, half)


def _shift(by: Floats, half: int) -> Floats:
    """Return the kernel of (2 half + 1)^2 px that moves an image by (x, y) px: Lanczos of order `_LANCZOS`."""
    offsets = np.arange(-half, half + 1)
    x, y = (np.sinc(offsets - d) * np.sinc((offsets - d) / _LANCZOS) * (abs(offsets - d) < _LANCZOS) for d in by)
    kernel = np.outer(y, x)
    return kernel / kernel.sum()


def _core_light(image: Image, stars: Floats, fwhm: float) -> Floats:
    """Return the light in the cores of stars."""
    disc = _core(fwhm)
    radius = disc.shape[0] // 2
    places = np.rint(stars[:, :2]).astype(int)
    boxes = (np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1] for x, y in places)
    return np.array([float(image[box][disc].sum()) for box in boxes])


def _core(fwhm: float) -> Mask:
    """Return the pixels of a square that are of the core of a star in its middle."""
    radius = max(1, round(_CORE * fwhm))
    offsets = np.arange(-radius, radius + 1)
    return np.asarray(np.hypot(*np.meshgrid(offsets, offsets)) <= _CORE * fwhm + 0.5)


def _border(shape: tuple[int, ...], width: int) -> Mask:
    """Return which pixels of an image are so near to its border that a kernel reaches beyond it."""
    border = np.ones(shape, bool)
    border[width:-width, width:-width] = False
    return border


def _stars_of(flat: Flattened, usable: Mask, name: str) -> Floats:
    stars = fit_stars(flat.image, usable, 0.0, float(np.median(flat.sigmas)))
    if len(stars) < LEAST_STARS:
        raise ValueError(f"the {name} has {len(stars)} stars that are bright, round and alone, of {LEAST_STARS} needed")
    return stars


def _stamp(fwhm: float, beta: float, reach: int) -> Floats:
    stamp = trail_image((2 * reach + 1, 2 * reach + 1), reach, reach, 0.0, 0.0, moffat_mixture(fwhm, beta))
    return stamp / stamp.sum()


def _residual(image: Image, science: Image, unusable: Mask, fwhm: float, sigma: float) -> tuple[float, int]:
    """Return the median share of light that is left of bright stars, whatever its sign, and how many there are."""
    stars = fit_stars(science, ~unusable, 0.0, sigma)[:_MOST]
    light, left = (_core_light(one, stars, fwhm) for one in (science, image))
    bright = light > _BRIGHT * sigma * np.sqrt(_core(fwhm).sum())
    return (
        (float(np.median(abs(left[bright]) / light[bright])), int(bright.sum())) if bright.any() else (float("nan"), 0)
    )
