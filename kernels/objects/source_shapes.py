"""Sources on a science image: their places and shapes."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import sep
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.science_image import BLOCK, MARGIN, ImageBlock, ScienceImage, blocks
from schemas.pixels import is_large

_PIXELS = 1_000_000  # maximum number above the threshold that sep holds at once
_PARTS = 8192  # maximum number into which sep may divide one source
_STEP = 1.25  # of the radii of a Petrosian profile; annuli run from r / 1.25 to 1.25 r
_FIRST, _STEPS = 0.5, 14  # first radius, in half-light radii, and number of radii
_PETROSIAN = 0.2  # Petrosian ratio of SDSS
_TRIES = 6
_WINDOW = 5.0  # FWHM: maximum half-light radius that sets the window of a centre
_WINGS = 10.0  # of the sum of two major axes: maximum distance from a source at which its wings are considered

Worth = Callable[[ScienceImage, NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]
"""Function that returns which positions (x, y), (n,) each, in an image should be measured; (n,)."""


class Shapes(NamedTuple):
    """Sources, (n,) each, sorted by (y, x).

    Attributes
    ----------
    x, y
        Windowed centres, px, 0-based.
    half_light, petrosian
        Radii, px; NaN where they cannot be measured.
    elongation
        Major over minor axis of the second moments.
    angle
        Of the major axis, deg from +x towards +y, 0 to 180.
    box : (n, 4)
        First and last row and column above the threshold.
    blended, truncated
        Whether it was taken apart from a neighbour; whether the image cuts it.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    half_light: NDArray[np.float64]
    petrosian: NDArray[np.float64]
    elongation: NDArray[np.float64]
    angle: NDArray[np.float64]
    box: NDArray[np.int64]
    blended: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


def _all(_image: ScienceImage, x: NDArray[np.float64], _y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.ones(len(x), np.bool_)


def find_shapes(
    image: ScienceImage, fwhm_px: float, threshold: float, min_area: int, contrast: float, worth: Worth = _all
) -> Shapes:
    """Find sources and measure their shapes, with `sep`.

    Parameters
    ----------
    image
        Less its sky.
    fwhm_px
        Of the PSF: the image is filtered with a Gaussian as wide.
    threshold
        S/N of a pixel of the filtered image above which it is of a source, as if the noise were white.
    min_area
        Least number of such pixels.
    contrast
        Least share of the light of a source that is taken apart from it (32 levels).
    worth
        Which sources are measured: the others are noise, whose pixels are those of the sky.

    Notes
    -----
    `sep`'s ``filter_type="matched"`` is not used: with it, cleaning removes isolated stars of S/N 6 to 12. Its cleaning
    compares all sources, of which most are noise, with each other; here those that are worth it are cleaned.

    Pixels of other sources do not count, and are made up for by those about (`sep`'s segmentation map).
    Half-light radius: of the light in an ellipse of 2.5 Kron (1980, ApJS 43, 305) radii. Petrosian radius: where the
    brightness in the annulus from 0.8 r to 1.25 r is a fifth of the mean within r (Blanton et al. 2001, AJ 121, 2358).

    A large image is looked at block by block. A source is of the block on which its brightest pixel lies, and is what
    it would be on the whole image unless it reaches farther than `kernels.image.science_image.MARGIN` from there.
    """
    if not is_large(image.pixels.shape):
        return _shapes(image, fwhm_px, _sources(image, fwhm_px, threshold, min_area, contrast, worth))
    parts = []
    for block in blocks(image.pixels.shape, BLOCK, MARGIN):
        where = block.outer
        piece = ScienceImage(np.array(image.pixels[where]), np.array(image.bad[where]), np.array(image.noise[where]))
        if not piece.bad.all():
            sources = _sources(piece, fwhm_px, threshold, min_area, contrast, worth)
            parts.append(_shapes(piece, fwhm_px, sources, block))
    whole: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Shapes._fields}
    order = np.lexsort((whole["x"], whole["y"]))
    return Shapes(**{name: column[order] for name, column in whole.items()})


def _shapes(
    image: ScienceImage,
    fwhm_px: float,
    sources: tuple[NDArray[np.void], NDArray[np.int32]],
    block: ImageBlock | None = None,
) -> Shapes:
    """Return the shapes of sources of an image, or of a block of one, of which ``image`` is the outer pixels."""
    found, segments = sources
    top, left = (0, 0) if block is None else (block.top, block.left)
    order = np.lexsort((found["x"], found["y"]))
    if block is not None:
        order = order[block.holds(found["xpeak"] + left, found["ypeak"] + top)[order]]
    found, own = found[order], {"segmap": segments, "seg_id": (order + 1).astype(np.int32)}
    x, y = found["x"].astype(float), found["y"].astype(float)
    if not len(found):
        nothing, none = np.zeros(0), np.zeros(0, np.bool_)
        return Shapes(x, y, nothing, nothing, nothing, nothing, np.zeros((0, 4), np.int64), none, none)
    a, b = np.maximum(found["a"], 0.3), np.maximum(found["b"], 0.3)
    angle = np.clip(found["theta"], -math.pi / 2, math.pi / 2)
    kron, _ = sep.kron_radius(image.pixels, x, y, a, b, angle, 6.0, mask=image.bad, **own)
    kron = np.clip(np.nan_to_num(kron), 1.4, 8.0)
    total, _, _ = sep.sum_ellipse(image.pixels, x, y, a, b, angle, 2.5 * kron, mask=image.bad, subpix=1, **own)
    reach = np.clip(2.5 * kron * a, 3.0, 200.0)
    half, bad = sep.flux_radius(image.pixels, x, y, reach, 0.5, normflux=total, mask=image.bad, subpix=5, **own)
    lost = (bad & (sep.APER_ALLMASKED | sep.APER_NONPOSITIVE)) != 0
    half = np.where(~lost & (total > 0) & (half > 0), half, np.nan)
    guess = np.where(np.isfinite(half), half, fwhm_px / 2)
    window = 2 * np.minimum(guess, _WINDOW * fwhm_px) / math.sqrt(8 * math.log(2))
    across, down, stuck = sep.winpos(image.pixels, x, y, window, mask=image.bad, subpix=5)
    settled = (stuck == 0) & (np.hypot(across - x, down - y) < np.maximum(1.0, guess))
    x, y = np.where(settled, across, x), np.where(settled, down, y)
    box = np.stack([found["ymin"], found["ymax"], found["xmin"], found["xmax"]], axis=1).astype(np.int64)
    return Shapes(
        x + left, y + top, half, petrosian_radii(image, x, y, guess, **own), a / b, np.degrees(angle) % 180,
        box + np.array([top, top, left, left]),
        (found["flag"] & sep.OBJ_MERGED) != 0, (found["flag"] & sep.OBJ_TRUNC) != 0,
    )  # fmt: skip


def _sources(
    image: ScienceImage, fwhm_px: float, threshold: float, min_area: int, contrast: float, worth: Worth
) -> tuple[NDArray[np.void], NDArray[np.int32]]:
    """Find the sources that are worth measuring, and whose each pixel is (from 1 on); 0: of none of them."""
    found, segments = _extracted(image, fwhm_px, threshold, min_area, contrast)
    kept = np.flatnonzero(worth(image, found["x"].astype(float), found["y"].astype(float)))
    kept = kept[~in_wings(found[kept])]
    number = np.zeros(len(found) + 1, np.int32)
    number[kept + 1] = np.arange(1, len(kept) + 1)
    for row in segments:  # by rows, in place: all at once takes the memory of three images
        row[:] = number[row]
    return found[kept], segments


def in_wings(found: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which sources are no more than the wings of a brighter one.

    Parameters
    ----------
    found : (n,)
        As of `sep.extract` without cleaning.

    Notes
    -----
    SExtractor's cleaning (Bertin & Arnouts 1996, A&AS 117, 393): a brighter source has the profile 1 / (1 + k r^2)
    along the axes of its moments, with its own flux and area above the threshold. One whose peak is less above the
    threshold than that profile is at its place is a part of it. What is a part has no wings of its own.
    """
    from scipy.spatial import cKDTree

    if not len(found):
        return np.zeros(0, np.bool_)
    one = {name: found[name].astype(np.float64) for name in ("x", "y", "a", "b", "cflux", "thresh", "npix")}
    places, area = np.column_stack([one["x"], one["y"]]), math.pi * one["a"] * one["b"]
    near = cKDTree(places).query_ball_point(places, 2 * _WINGS * one["a"])
    big = np.repeat(np.arange(len(found)), [len(each) for each in near])
    small = np.concatenate([np.array(each, np.intp) for each in near])
    brighter = one["cflux"][big] > one["cflux"][small]
    big, small = big[brighter], small[brighter]
    x, y = one["x"][big] - one["x"][small], one["y"][big] - one["y"][small]
    with np.errstate(divide="ignore", invalid="ignore"):
        height = one["cflux"] / (2 * area)
        steep = (height / one["thresh"] - 1) * area / one["npix"]
        at = 1 + steep[big] * (found["cxx"][big] * x * x + found["cyy"][big] * y * y + found["cxy"][big] * x * y)
        part = (at > 1) & (height[big] / at > (found["cpeak"] - found["thresh"])[small])
    part &= np.hypot(x, y) < _WINGS * (one["a"][big] + one["a"][small])
    gone = np.zeros(len(found), np.bool_)
    for n in np.flatnonzero(part)[np.argsort(-one["cflux"][big[part]], kind="stable")]:
        gone[small[n]] |= not gone[big[n]]
    return gone


def _extracted(
    image: ScienceImage, fwhm_px: float, threshold: float, min_area: int, contrast: float
) -> tuple[NDArray[np.void], NDArray[np.int32]]:
    """Find all that is above the threshold, and whose each pixel is (from 1 on).

    Where more pixels are above the threshold than there is memory for, it is doubled.
    """
    sep.set_extract_pixstack(min(_PIXELS, image.pixels.size))
    sep.set_sub_object_limit(_PARTS)
    kernel = _gaussian(fwhm_px)
    threshold *= float(np.sqrt(np.square(kernel).sum()) / kernel.sum())  # noise of the filtered image
    for attempt in range(_TRIES):
        try:
            return sep.extract(
                image.pixels, threshold * 2**attempt, err=image.noise, mask=image.bad, minarea=min_area,
                filter_kernel=kernel, filter_type="conv", deblend_nthresh=32, deblend_cont=contrast,
                segmentation_map=True, clean=False,
            )  # fmt: skip
        except Exception as error:  # sep raises nothing more special
            if attempt == _TRIES - 1 or not any(word in str(error) for word in ("full", "overflow")):
                raise
    raise AssertionError("unreachable")


def _gaussian(fwhm_px: float) -> NDArray[np.float32]:
    half = max(1, round(fwhm_px))
    offset = np.arange(-half, half + 1.0)
    profile = np.exp(-4 * math.log(2) * np.square(offset / fwhm_px))
    return np.outer(profile, profile).astype(np.float32)


def petrosian_radii(
    image: ScienceImage,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    half_light: NDArray[np.float64],
    **own: NDArray[np.int32],
) -> NDArray[np.float64]:
    """Return the Petrosian radius of each source, px; NaN where the profile does not fall to a fifth of the mean.

    Parameters
    ----------
    image
        Less its sky.
    x, y, half_light : (n,)
        Centres and half-light radii, px; the profile runs from half of the latter on to 8 times it.
    **own
        ``segmap`` and ``seg_id``, as of `sep`: pixels of other sources do not count.
    """
    radii = _FIRST * half_light[:, None] * _STEP ** np.arange(_STEPS)
    area, light, ratio = math.pi * np.square(radii), np.zeros(radii.shape), np.full(radii.shape, np.nan)
    open_ends = np.arange(len(x))  # apertures grow until the profile has fallen: the large ones take the time
    for n in range(_STEPS):
        ids = own | ({"seg_id": own["seg_id"][open_ends]} if "seg_id" in own else {})
        at = (x[open_ends], y[open_ends], radii[open_ends, n])
        light[open_ends, n], *_ = sep.sum_circle(
            image.pixels, *at, mask=image.bad, subpix=5 if n < _STEPS // 2 else 1, **ids
        )
        if n >= 2:
            annulus = (light[open_ends, n] - light[open_ends, n - 2]) / (area[open_ends, n] - area[open_ends, n - 2])
            within = light[open_ends, n - 1]
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio[open_ends, n - 1] = np.where(within > 0, annulus / (within / area[open_ends, n - 1]), np.nan)
            open_ends = open_ends[~(ratio[open_ends, n - 1] < _PETROSIAN)]
    return _crossings(radii[:, 1:-1], ratio[:, 1:-1])


def _crossings(radii: NDArray[np.float64], ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the radius where each profile first falls below the Petrosian ratio, interpolated in its logarithm."""
    below = ratio < _PETROSIAN
    found = np.where(below[:, 0], radii[:, 0], np.nan)
    n = np.argmax(below, axis=1)
    within = (n > 0) & (np.take_along_axis(ratio, n[:, None] - 1, axis=1)[:, 0] >= _PETROSIAN)
    rows, n = np.flatnonzero(within), n[within]
    share = (ratio[rows, n - 1] - _PETROSIAN) / (ratio[rows, n - 1] - ratio[rows, n])
    found[rows] = radii[rows, n - 1] * (radii[rows, n] / radii[rows, n - 1]) ** share
    return found


@njit(cache=True, nogil=True)
def any_in_boxes(mask: NDArray[np.uint16], bits: np.uint16, box: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each box (first and last row and column) whether any of its pixels has one of the bits."""
    out = np.zeros(len(box), np.bool_)
    for n in range(len(box)):
        for row in range(box[n, 0], box[n, 1] + 1):
            for column in range(box[n, 2], box[n, 3] + 1):
                out[n] |= (mask[row, column] & bits) != 0
    return out
