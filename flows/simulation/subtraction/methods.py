"""Kernels of subtractions: ZOGY, and Alard & Lupton."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from kernels.subtraction.blocks import Block, Flattened, KernelGrid, blocks_of
from kernels.subtraction.sfft import STAMP, clear, one_sided, sharper

Images = NDArray[np.float32]
Floats = NDArray[np.float64]

_REACH = 32  # px: half side of the kernels
_SIDE = 128  # px: side of the transforms


def zogy_grid(pair: list[Flattened], usable: NDArray[np.bool_], psfs: Images, blocks: tuple[Block, ...]) -> KernelGrid:
    """Return the kernels of proper subtraction, each from the PSFs and noise of its block."""
    made = []
    for number in range(len(blocks)):
        sigmas = float(pair[0].sigmas[number]), float(pair[1].sigmas[number])
        made.append(zogy_kernels((psfs[number, 0], psfs[number, 1]), sigmas))
    return KernelGrid(blocks, *(np.stack(part).astype(np.float32) for part in zip(*made, strict=True)))


def zogy_kernels(
    psfs: tuple[NDArray[np.floating], NDArray[np.floating]], sigmas: tuple[float, float]
) -> tuple[Floats, Floats, Floats]:
    """Return the kernels for science image and template, and the PSF of the proper difference image.

    Both images have the same zero point: F_n = F_r = 1.

    Parameters
    ----------
    psfs
        P_n and P_r of science image and template, centred on the middle pixel, with unit sum; at most 128 px wide.
    sigmas
        sigma_n and sigma_r: standard deviation of a pixel in each.

    Returns
    -------
    science, template, psf : (65, 65)
        Equation 13 as two convolutions, D / F_D = N * science - R * template, so that fluxes are in the units of the
        images; and P_D, equation 14. The noise of D / F_D is white with standard deviation 1 / F_D (equation 15).
    """
    sigma_n, sigma_r = sigmas
    wave_n, wave_r = (fft.rfft2(_cornered(np.asarray(psf, float))) for psf in psfs)
    root = np.sqrt((sigma_n * np.abs(wave_r)) ** 2 + (sigma_r * np.abs(wave_n)) ** 2)
    root = np.maximum(root, 1e-12 * root.max())
    flux_d = 1 / np.hypot(sigma_n, sigma_r)
    science, template = wave_r / root / flux_d, wave_n / root / flux_d
    return _middle(science), _middle(template), _middle(wave_n * wave_r / root / flux_d)


def _cornered(psf: Floats) -> Floats:
    """Return a stamp in a larger image, wrapped around so that its middle pixel is at the origin."""
    (ny, nx), image = psf.shape, np.zeros((_SIDE, _SIDE))
    image[:ny, :nx] = psf
    return np.roll(image, (-(ny // 2), -(nx // 2)), (0, 1))


def _middle(waves: NDArray[np.complex128]) -> Floats:
    image = np.roll(fft.irfft2(waves, s=(_SIDE, _SIDE)), (_REACH, _REACH), (0, 1))
    return image[: 2 * _REACH + 1, : 2 * _REACH + 1]


_WIDTHS, _DEGREES = (0.7, 1.5, 3.0), (4, 3, 2)  # Gaussians: px for a FWHM up to 3 px; degrees of polynomials
_ORDER = 2  # order of the polynomials in x and y for the variation of the kernel
_CELL = 200  # px: one star is used from each square of this side
_BRIGHT = 20.0  # in units of the noise: least peak of stars used
_KNOWN = 0.02  # fraction of a pixel's light that the model need not explain
_WORST = 0.2  # fraction of stamps left out of the second fit


class _Basis(NamedTuple):
    """Basis functions of kernels (n, side, side), of which only the first has a nonzero sum, and half their side."""

    functions: Floats
    half: int


def convolution_grid(
    pair: list[Flattened], usable: NDArray[np.bool_], psfs: Images, blocks: tuple[Block, ...]
) -> KernelGrid:
    """Return the kernels of a subtraction in which the sharper image is convolved to match the other.

    Parameters
    ----------
    pair
        Science image and template.
    usable : (ny, nx) bool
        Pixels with valid values.
    psfs : (blocks, 2, side, side)
        PSFs of both in each block.
    blocks
        Blocks of the image.

    Notes
    -----
    Alard & Lupton 1998 (ApJ 503, 325): the kernel is a sum of Gaussians times polynomials, with coefficients that are
    polynomials in x and y; all basis functions except one have zero sum, so that the flux ratio is the same everywhere.
    They are fitted by least squares to stamps of bright stars, twice, the second time without the worst stamps.
    """
    turned, fwhm = sharper(psfs)
    source, target = pair[:: 1 if turned else -1]
    return one_sided(turned, _kernels(source, target, usable, _basis(max(1.0, fwhm / 3)), blocks), psfs, blocks)


def _basis(scale: float) -> _Basis:
    half = int(np.ceil(3.3 * _WIDTHS[-1] * scale))
    x = np.arange(-half, half + 1.0)
    found = []
    for width, degree in zip(_WIDTHS, _DEGREES, strict=True):
        bell, u = np.exp(-0.5 * (x / (width * scale)) ** 2), x / (width * scale)
        for i in range(degree + 1):
            found += [np.outer(bell * u**i, bell * u**j) for j in range(degree + 1 - i)]
    functions = np.array(found)
    functions /= np.sqrt((functions**2).sum((1, 2), keepdims=True))
    first = functions[0] / functions[0].sum()
    functions -= functions.sum((1, 2), keepdims=True) * first
    functions[0] = first
    return _Basis(functions, half)


def _terms(x: Floats, y: Floats, shape: tuple[int, int]) -> Floats:
    """Return the polynomials for the variation of kernels at given positions, (n, terms)."""
    u, v = 2 * x / shape[1] - 1, 2 * y / shape[0] - 1
    return np.stack([u**i * v**j for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i)], axis=-1)


def _kernels(
    source: Flattened, target: Flattened, usable: NDArray[np.bool_], basis: _Basis, blocks: tuple[Block, ...]
) -> Floats:
    """Return the kernel of each block, (blocks, side, side); a single pixel if there are too few stars."""
    shape = (source.image.shape[0], source.image.shape[1])
    noise = float(np.hypot(np.median(source.sigmas), np.median(target.sigmas)))
    places = _stars(target.image, usable, STAMP + basis.half, _BRIGHT * noise)
    delta = np.zeros((2 * basis.half + 1,) * 2)
    delta[basis.half, basis.half] = 1
    if len(places) < 3:
        return np.repeat(delta[None], len(blocks), 0)
    x, y = places[:, 1].astype(float), places[:, 0].astype(float)
    order = _terms(x, y, shape) if len(places) >= 30 else np.ones((len(places), 1))
    grams, sides, stamps = _normal_equations(source.image, target.image, places, basis, noise)
    kept = np.ones(len(places), bool)
    for _ in range(2):
        solution = _solve(grams[kept], sides[kept], order[kept])
        # Per stamp: chi^2 of the fit, from its own normal equations.
        own = order @ solution
        left = stamps - 2 * (sides * own).sum(1) + np.einsum("si,sij,sj->s", own, grams, own)
        kept = left <= np.quantile(left, 1 - _WORST)
    centres = np.array([block.centre for block in blocks])
    at = _terms(centres[:, 0], centres[:, 1], shape) if order.shape[1] > 1 else np.ones((len(blocks), 1))
    return np.einsum("bi,iyx->byx", (at @ solution)[:, : len(basis.functions)], basis.functions)


def _stars(image: Images, usable: NDArray[np.bool_], reach: int, least: float) -> NDArray[np.int64]:
    """Return (row, column) of the brightest pixel of each cell whose surroundings are usable."""
    whole = clear(usable, reach, "constant")
    found = []
    for cell in blocks_of((image.shape[0], image.shape[1]), _CELL):
        here = np.s_[cell.y0 : cell.y1, cell.x0 : cell.x1]
        light = np.where(whole[here], image[here], 0)
        row, column = np.unravel_index(int(light.argmax()), light.shape)
        if light[row, column] > least:
            found.append((cell.y0 + int(row), cell.x0 + int(column)))
    return np.array(found, int).reshape(-1, 2)


def _normal_equations(
    source: Images, target: Images, places: NDArray[np.int64], basis: _Basis, noise: float
) -> tuple[Floats, Floats, Floats]:
    """Return A^T W A (n, k, k), A^T W b (n, k) and b^T W b (n,) of each stamp; the last column of A is a constant."""
    count, side = len(basis.functions), 2 * (STAMP + basis.half) + 1
    waves = fft.rfft2(basis.functions, s=(side, side))
    grams, sides = np.empty((len(places), count + 1, count + 1)), np.empty((len(places), count + 1))
    stamps = np.empty(len(places))
    for n, (row, column) in enumerate(places):
        reach = STAMP + basis.half
        piece = source[row - reach : row + reach + 1, column - reach : column + reach + 1]
        made = fft.irfft2(fft.rfft2(piece.astype(float)) * waves, s=(side, side))[:, 2 * basis.half :, 2 * basis.half :]
        wanted = target[row - STAMP : row + STAMP + 1, column - STAMP : column + STAMP + 1].astype(float).ravel()
        weight = 1 / (noise**2 + noise * np.maximum(wanted, 0) + (_KNOWN * wanted) ** 2)
        columns = np.concatenate([made.reshape(count, -1), np.ones((1, wanted.size))])
        grams[n] = (columns * weight) @ columns.T
        sides[n] = (columns * weight) @ wanted
        stamps[n] = (weight * wanted) @ wanted
    return grams, sides, stamps


def _solve(grams: Floats, sides: Floats, order: Floats) -> Floats:
    """Return the least-squares coefficients over all stamps, (terms, k); that of the kernel sum is constant."""
    terms, count = order.shape[1], sides.shape[1]
    matrix = np.einsum("sp,sq,sij->piqj", order, order, grams, optimize=True).reshape(terms * count, terms * count)
    side = np.einsum("sp,si->pi", order, sides).ravel()
    free = np.ones((terms, count), bool)
    free[1:, 0] = False
    chosen = np.flatnonzero(free.ravel())
    matrix = matrix[np.ix_(chosen, chosen)]
    matrix[np.diag_indices_from(matrix)] *= 1 + 1e-8
    solution = np.zeros(terms * count)
    solution[chosen] = np.linalg.lstsq(matrix, side[chosen], rcond=1e-12)[0]
    return solution.reshape(terms, count)
