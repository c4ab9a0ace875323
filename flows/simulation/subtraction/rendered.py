"""Subtracted exposure: from its conditions to its pixels and truth."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.signal import fftconvolve

from flows.simulation.artefacts import add_ghosts, add_satellites, add_tumblers
from flows.simulation.canvas import Canvas, blank_canvas, source_row, stamp_footprint, truth_table
from flows.simulation.conditions import Conditions
from flows.simulation.defects import add_bad_pixels, add_border, add_cosmic_rays
from flows.simulation.psf import PsfStamp, fitted_moffat
from flows.simulation.subtraction.epochs import Epochs, draw_epochs
from flows.simulation.subtraction.methods import convolution_grid, zogy_grid
from flows.simulation.subtraction.observed import FieldSky, expose
from flows.simulation.subtraction.sky import sky_of
from kernels.image.noise import background_and_noise
from kernels.subtraction.blocks import Block, Flattened, Image, KernelGrid, Mask, blocks_of, flattened
from kernels.subtraction.sfft import sfft_grid
from kernels.trails.matched_filter import template_snr
from schemas.pixels import MaskPlane

_METHODS = {"zogy": zogy_grid, "convolution": convolution_grid, "sfft": sfft_grid}
_MIXED = ("zogy", "convolution")
_KNOWN = MaskPlane.BAD | MaskPlane.CR | MaskPlane.NO_DATA
_NEAR = 40  # px: radius within which the noise around a source is measured
_PSF_REACH, _LEAST_REACH = 4.5, 12  # FWHM, px: half side of PSFs is the larger of the two


@dataclass(frozen=True)
class Difference:
    """Difference image.

    Attributes
    ----------
    image, variance : (ny, nx) float32
        Pixel units, and pixel units squared.
    masked : (ny, nx) bool
        Pixels masked by the pipeline.
    grid
        Kernels used.
    sigmas : (blocks, 2)
        Noise of science image and template in each block, pixel units.
    """

    image: Image
    variance: Image
    masked: Mask
    grid: KernelGrid
    sigmas: NDArray[np.float64]


@dataclass(frozen=True)
class Rendered:
    """Subtracted exposure: planes (ny, nx), PSF (side, side) and truth, as in `SimulatedExposure`."""

    difference: Image
    variance: Image
    mask: NDArray[np.uint16]
    science: Image
    template: Image
    psf: Image
    truth: pa.Table


def render(conditions: Conditions, epochs: Epochs | None = None) -> Rendered:
    """Simulate an exposure whose difference image is a real subtraction.

    Parameters
    ----------
    conditions
        Conditions of the exposure.
    epochs
        Differences of science image and template; None: they are drawn.
    """
    epochs = epochs or draw_epochs(conditions)
    sky, canvas = sky_of(conditions), _beside(conditions)
    observed = expose(sky, canvas, epochs, conditions)
    bad = (canvas.mask & np.uint16(_KNOWN)) != 0
    saturated = observed.saturated_science | observed.saturated_template
    found = subtract(
        (observed.science, observed.template), saturated, bad, epochs, conditions, _METHODS[method_of(conditions)]
    )
    canvas.mask[found.masked & ~bad] |= np.uint16(MaskPlane.SAT)
    _tell(canvas, sky, epochs, conditions, found)
    template = np.where((canvas.mask & np.uint16(MaskPlane.NO_DATA)) != 0, np.float32(np.nan), observed.template)
    psf = found.grid.psf[found.grid.at(*((side - 1) / 2 for side in reversed(conditions.preset.shape)))]
    truth = truth_table(canvas)
    return Rendered(found.image, found.variance, canvas.mask, observed.science, template, psf, truth)


def method_of(conditions: Conditions) -> str:
    """Return the subtraction method of an exposure."""
    chosen = conditions.preset.subtract
    return str(conditions.stream("subtract/method").choice(_MIXED)) if chosen == "mixed" else chosen


def _beside(conditions: Conditions) -> Canvas:
    """Draw everything that is not of the sky: satellites, ghosts, defects, cosmic rays, borders."""
    canvas = blank_canvas(conditions.preset.shape)
    add_ghosts(canvas, conditions)
    add_satellites(canvas, conditions)
    add_tumblers(canvas, conditions)
    add_bad_pixels(canvas, conditions)
    add_cosmic_rays(canvas, conditions)
    add_border(canvas, conditions)
    return canvas


def _tell(canvas: Canvas, sky: FieldSky, epochs: Epochs, conditions: Conditions, found: Difference) -> None:
    """Add the truth about asteroids and changes to a canvas, as they appear in the difference image."""
    grid, optics = found.grid, epochs.science
    half = 6 * optics.field.fwhm

    @cache
    def shape(block: int) -> tuple[float, float]:
        x, y = (float(round(part)) for part in grid.blocks[block].centre)
        stamp = optics.trail(x, y, 0.0, 0.0, half)
        return fitted_moffat(fftconvolve(stamp.pixels, grid.science[block], "same"))

    @cache
    def correlation(block: int) -> NDArray[np.float64]:
        return grid.correlation(block, (float(found.sigmas[block, 0]), float(found.sigmas[block, 1])))

    sources: list[tuple[str, str, float, float, float, tuple[float, float]]]
    sources = [("streak", one.name, one.x, one.y, one.flux, (one.length, one.angle)) for one in sky.trails]
    sources += [("point", one.name, one.x, one.y, one.flux, (0.0, 0.0)) for one in sky.changes]
    for kind, name, x, y, flux, trail in sources:
        block = grid.at(x, y)
        stamp = optics.trail(x, y, trail[0], trail[1], half)
        stamp = PsfStamp(fftconvolve(stamp.pixels, grid.science[block], "same"), stamp.y0, stamp.x0)
        snr = template_snr(flux, stamp.pixels, noise_at(found.variance, x, y), correlation(block))
        row = source_row(kind, name, conditions, (x, y), flux, snr, trail)
        row["fwhm_px"], row["beta"] = shape(block)
        canvas.truth.append((row, stamp_footprint(stamp, canvas.shape)))


def noise_at(variance: Image, x: float, y: float) -> float:
    """Return the standard deviation of pixels around a position, robust against a few bright sources."""
    column, row = round(x), round(y)
    near = variance[max(row - _NEAR, 0) : row + _NEAR + 1 : 3, max(column - _NEAR, 0) : column + _NEAR + 1 : 3]
    return float(np.sqrt(np.median(near)))


def subtract(
    images: tuple[Image, Image],
    saturated: Mask,
    bad: Mask,
    epochs: Epochs,
    conditions: Conditions,
    kernels: Callable[..., KernelGrid],
) -> Difference:
    """Subtract a template from a science image.

    Parameters
    ----------
    images
        Science image and template.
    saturated : (ny, nx) bool
        Pixels saturated in either.
    bad : (ny, nx) bool
        Pixels known to be bad in the science image, or not covered by the template.
    epochs
        Growth of masks, filling of holes and errors of PSFs.
    conditions
        Conditions of the exposure.
    kernels
        Function of two flattened images, usable pixels, PSFs (see `measured_psfs`) and blocks that returns the kernels.
    """
    blocks = blocks_of(conditions.preset.shape)
    holes = bad | maximum_filter(saturated, 3)
    pair = [flattened(image, holes, blocks, epochs.fill) for image in images]
    psfs = measured_psfs(epochs, conditions, blocks)
    grid = kernels(pair, ~holes, psfs, blocks)
    image = grid.difference(pair[0].image, pair[1].image)
    sigmas = np.stack([one.sigmas for one in pair], axis=1)
    gains = conditions.preset.gain, conditions.preset.gain * epochs.depth
    planes = [_variance(one, blocks, gain) for one, gain in zip(pair, gains, strict=True)]
    variance = np.maximum(grid.variance(*planes), 1e-6)
    masked = bad | maximum_filter(saturated, 2 * max(epochs.grown, 1) + 1)
    return Difference(image, variance * _scale(image, variance, ~masked), masked, grid, sigmas)


def measured_psfs(epochs: Epochs, conditions: Conditions, blocks: tuple[Block, ...]) -> Image:
    """Return the PSFs of science image and template in each block as known to a pipeline, (blocks, 2, side, side)."""
    rng = conditions.stream("subtract/measured")
    optics = [one.measured(rng, epochs.psf_error) for one in (epochs.science, epochs.template)]
    half = max(_LEAST_REACH, int(np.ceil(_PSF_REACH * max(one.field.fwhm for one in optics))))
    ny, nx = conditions.preset.shape
    places = [((nx - 1) / 2, (ny - 1) / 2) if epochs.one_psf else block.centre for block in blocks]
    stamps = np.array([[one.stamp(*place, half) for one in optics] for place in places])
    return stamps / stamps.sum((2, 3), keepdims=True)


def _variance(flat: Flattened, blocks: tuple[Block, ...], gain: float) -> Image:
    """Return the variance of each pixel, from the sky in its block and the light on it."""
    plane = flat.image / np.float32(gain)
    for block, sigma in zip(blocks, flat.sigmas, strict=True):
        piece = plane[block.y0 : block.y1, block.x0 : block.x1]
        piece += np.float32(sigma**2)
        np.maximum(piece, np.float32(0.5 * sigma**2), out=piece)
    return plane


def _scale(image: Image, variance: Image, usable: Mask) -> np.float32:
    """Return the factor that gives pulls a robust spread of 1, as pipelines scale variance planes."""
    piece = np.s_[::3, ::3]
    if not usable[piece].any():
        return np.float32(1)
    return np.float32(
        background_and_noise((image[piece] / np.sqrt(variance[piece])).astype(np.float32), usable[piece])[1] ** 2
    )
