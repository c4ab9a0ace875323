"""Variation of the PSF over an image, from the stars on it."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.cutouts import cut
from kernels.image.science_image import ScienceImage
from kernels.psf.gaussian_mixture import GaussianMixture, brightness
from kernels.psf.moments import adaptive_moments
from kernels.psf.psf_shape import PsfShape
from schemas.exposure import ExposureInfo, PsfModel, Variation
from schemas.objects import SIDE

_LEAST = (5, 15, 50)  # stars, for a polynomial of degree 0, 1, 2
_MOST = 300  # brightest sources that are measured: most of these are stars
_SEED = 0.05  # in ln of the width, and in ellipticity: scatter of stars, including noise and position
_APART = 0.2  # sources further from the polynomial are not stars
_LOOSE = 0.06  # scatter of ln width about it that indicates galaxies, not stars
_CLIP = 3.0  # standard deviations, by the median deviation
_ROUNDS = 8
_STEP = 0.05  # for the response of measured values to width and ellipticity
_RESPONSE = (0.5, 2.0)  # of the measured width to that of the PSF; outside, the PSF is too narrow to be measured
_MOST_CHANGE, _MOST_ELLIPTIC = 0.4, 0.6  # limits of a polynomial where there are no stars
_PER_PX = 64  # steps of the tabled profile

Floats = NDArray[np.float64]


class PsfField(NamedTuple):
    """Change of the PSF over an image.

    Attributes
    ----------
    coefficients : (3, terms)
        Polynomials in u and v (1; u, v; u2, uv, v2) of ln width, e1 and e2, against the round PSF of the image.
    shape
        (ny, nx) of the image: u and v go from -1 to 1 over it.
    stars
        Number of stars behind it.
    box : (2, 2)
        Least and greatest u and v of these: beyond, it stays as it is there.
    error
        Standard error of e1 and e2 at a usual place.
    """

    coefficients: Floats
    shape: tuple[int, int]
    stars: int
    box: Floats
    error: float = 0.0

    def at(self, x: NDArray[Any], y: NDArray[Any]) -> PsfShape:
        """Return the PSF there."""
        place = np.clip(_relative(x, y, self.shape), *self.box)
        terms = _terms(place)[:, : self.coefficients.shape[1]]
        change, e1, e2 = self.coefficients @ terms.T
        scale = np.minimum(1.0, _MOST_ELLIPTIC / np.maximum(np.hypot(e1, e2), 1e-9))
        return PsfShape(np.exp(np.clip(change, -_MOST_CHANGE, _MOST_CHANGE)), e1 * scale, e2 * scale)


def constant(shape: tuple[int, int]) -> PsfField:
    """Return a field without change."""
    return PsfField(np.zeros((3, 1)), shape, 0, np.array([[-1.0, -1.0], [1.0, 1.0]]))


def fit_psf_field(
    stamps: NDArray[np.float32],
    x: NDArray[Any],
    y: NDArray[Any],
    psf: GaussianMixture,
    shape: tuple[int, int],
) -> PsfField:
    """Fit the change of the PSF to point sources among bright sources.

    Parameters
    ----------
    stamps : (n, side, side)
        Bright sources, brightest first, background subtracted; those with a pixel that is NaN do not count.
    x, y : (n,)
        Their places, px.
    psf
        Of the image.
    shape
        (ny, nx) of the image.

    Returns
    -------
    PsfField
        Constant with fewer than 5 stars, where no width is common, or with a PSF of less than some 1.6 px; of degree 1
        from 15, 2 from 50 stars on.

    Notes
    -----
    Adaptive moments under a round weight (Bernstein & Jarvis 2002, AJ 123, 583) are compared with those of the PSF;
    what a change of width or ellipticity does to them is taken from the PSF itself (2 % right for widths within 30 %).
    Stars share width and ellipticity where galaxies have many of both: they are what lies about the point of most
    sources in the space of the three, and then about the polynomial.
    """
    whole = np.flatnonzero(np.isfinite(stamps).all((1, 2)))
    if len(whole) < _LEAST[0]:
        return constant(shape)
    found = _measured(stamps[whole], psf)
    good = np.isfinite(found).all(1)
    seen = found[good]
    place = _relative(x[whole][good], y[whole][good], shape)
    whole_terms, kept = _terms(place), _densest(seen)
    for _ in range(_ROUNDS):
        stars = kept
        if stars.sum() < _LEAST[0]:
            return constant(shape)
        terms = whole_terms[:, : _size(stars)]
        coefficients = np.linalg.lstsq(terms[stars], seen[stars], rcond=None)[0]
        left = np.abs(seen - terms @ coefficients)
        spread = 1.4826 * np.median(left[stars], 0)
        kept = np.asarray(np.all(left < np.clip(_CLIP * spread, 6e-3, _APART), axis=1), np.bool_)
        if (kept == stars).all() or _size(kept) < terms.shape[1]:
            break
    if spread[0] > _LOOSE:
        return constant(shape)
    box = np.stack([place[stars].min(0), place[stars].max(0)])
    error = float(spread[1:].max()) * (terms.shape[1] / int(stars.sum())) ** 0.5
    return PsfField(np.asarray(coefficients.T, np.float64), shape, int(stars.sum()), box, error)


def bright(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return those of the places x and y, brightest first, that `field_of` looks at."""
    return x[:_MOST], y[:_MOST]


def field_of(image: ScienceImage, psf: GaussianMixture, x: Floats, y: Floats) -> PsfField:
    """Fit the change of the PSF over a science image to the sources at the places x and y, brightest first."""
    x, y = bright(x, y)
    stamps = np.empty((len(x), 1, SIDE, SIDE), np.float32)
    column, row = (np.rint(place).astype(np.int64) for place in (x, y))
    cut(image.pixels, image.bad, 1.0, row, column, np.arange(len(x)), 0, stamps)
    return fit_psf_field(stamps[:, 0], x, y, psf, image.pixels.shape)


_NODES = 9  # along each axis of the mesh: a polynomial of degree 2 is within 0.002 of it


def variation_of(field: PsfField, given: PsfModel | None = None) -> Variation | None:
    """Return the change of the PSF over an image as its description holds it; None if no star tells.

    Parameters
    ----------
    field
        By the stars of the science image.
    given
        PSF of the difference image that an archive gives, which the field is relative to: its width, and its
        ellipticity if that is known, are those in the middle of the stars, and only the change is the stars'. A
        difference image that was filtered by its subtraction is wider than the science image, and changes less.
    """
    if not field.stars:
        return None if given is None else given.variation
    y, x = (np.linspace(0, size - 1, _NODES) for size in field.shape)
    shape = field.at(*(axis.ravel() for axis in np.meshgrid(x, y)))
    values = np.stack([np.log(shape.width), shape.e1, shape.e2])
    if given is not None:
        middle = values.mean(1, keepdims=True)
        own = np.zeros(3) if given.variation is None else np.array(given.variation.values)[:, 0, 0]
        kept = [0.0, *(middle[1:, 0] if given.variation is None else own[1:])]
        values = (values - middle) * min(1.0, float(np.exp(2 * middle[0, 0]))) + np.array(kept)[:, None]
    values[1:] *= np.minimum(1.0, _MOST_ELLIPTIC / np.maximum(np.hypot(*values[1:]), 1e-9))
    mesh = values.reshape(3, _NODES, _NODES).round(5).tolist()
    steps = [(size - 1) / (_NODES - 1) for size in field.shape]
    return Variation(values=tuple(tuple(map(tuple, one)) for one in mesh), y=(0.0, steps[0]), x=(0.0, steps[1]))


def stamp_ellipticity(stamp: NDArray[np.float32], psf: GaussianMixture) -> Variation | None:
    """Return the ellipticity of a picture of the PSF, the same everywhere; None where it cannot be measured."""
    side = min(stamp.shape)
    y, x = ((size - side) // 2 for size in stamp.shape)
    square = np.ascontiguousarray(stamp[None, y : y + side, x : x + side], np.float32)
    _, e1, e2 = _measured(np.where(np.isfinite(square), square, 0), psf)[0].round(5).tolist()
    if not np.hypot(e1, e2) < _MOST_ELLIPTIC:
        return None
    return Variation(values=tuple(((value,),) for value in (0.0, e1, e2)), y=(0.0, 1.0), x=(0.0, 1.0))


def draw_psfs(psf: GaussianMixture, at: PsfShape, side: int) -> NDArray[np.float32]:
    """Draw the PSF at n places, each on the middle of pixel (side // 2, side // 2).

    Parameters
    ----------
    psf
        Of the image.
    at
        The places.
    side
        Of a picture, px.

    Returns
    -------
    (n, side, side) float32
        Each of unit sum.
    """
    inverse = at.inverse()
    reach = side * float(np.sqrt(np.max(inverse[:, :2].sum(1), initial=2.0)))
    table = brightness(psf, np.square(np.arange(int(reach * _PER_PX) + 2) / _PER_PX))
    out = np.empty((len(inverse), side, side), np.float32)
    _draw(table, inverse, out)
    return out


def _relative(x: NDArray[Any], y: NDArray[Any], shape: tuple[int, int]) -> Floats:
    """Return u and v, (n, 2): -1 to 1 over the image."""
    sides = ((x, shape[1]), (y, shape[0]))
    return np.stack([2 * np.asarray(one, float) / max(size - 1, 1) - 1 for one, size in sides], 1)


def _terms(place: Floats) -> Floats:
    u, v = place.T
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], 1)


def _measured(stamps: NDArray[np.float32], psf: GaussianMixture) -> Floats:
    """Return ln width, e1 and e2 of each against the PSF, (n, 3); NaN where nothing was measured."""
    side = stamps.shape[1]
    tries = PsfShape(np.array([1.0, 1 + _STEP, 1.0]), np.array([0.0, 0.0, _STEP]), np.zeros(3))
    plain = adaptive_moments(draw_psfs(psf, tries, side))
    per_width = float(np.log(plain.sigma[1] / plain.sigma[0]) / np.log(1 + _STEP))
    per_shape = (plain.e1[2] - plain.e1[0]) / _STEP
    if not _RESPONSE[0] < per_width < _RESPONSE[1]:
        return np.full((len(stamps), 3), np.nan)
    found = adaptive_moments(np.ascontiguousarray(stamps, np.float32))
    change = np.log(found.sigma / plain.sigma[0]) / per_width
    all_three = np.stack([change, found.e1 / per_shape, found.e2 / per_shape], 1).astype(np.float64)
    return np.where((found.flux > 0)[:, None], all_three, np.nan)


def _densest(seen: Floats) -> NDArray[np.bool_]:
    """Mark the sources about the one that has most others near to it in width and ellipticity, (n, 3) -> (n,)."""
    if not len(seen):
        return np.zeros(0, np.bool_)
    near = np.sqrt(np.square(seen[:, None] - seen).sum(2))
    weight = np.exp(-0.5 * np.square(near / _SEED)).sum(1)
    return np.asarray(near[int(weight.argmax())] < 2 * _SEED, np.bool_)


def _size(stars: NDArray[np.bool_]) -> int:
    """Return the number of terms that the stars can constrain; 0 for too few."""
    return (0, 1, 3, 6)[int(np.searchsorted(_LEAST, stars.sum(), "right"))]


@njit(cache=True, nogil=True)
def _draw(table: Floats, inverse: Floats, out: NDArray[np.float32]) -> None:
    side = out.shape[1]
    for n in range(len(inverse)):
        xx, yy, xy = inverse[n]
        total = 0.0
        for j in range(side):
            v = float(j - side // 2)
            for i in range(side):
                u = float(i - side // 2)
                place = np.sqrt(max(xx * u * u + yy * v * v + xy * u * v, 0.0)) * _PER_PX
                first = min(int(place), len(table) - 2)
                part = min(place - first, 1.0)
                value = (1 - part) * table[first] + part * table[first + 1]
                out[n, j, i] = value
                total += value
        for j in range(side):
            for i in range(side):
                out[n, j, i] /= total


LEAST_SNR = 30.0
"""Minimum S/N of stars used for the PSF: their width is accurate to 3 %."""


def psf_stars(sources: pa.Table, info: ExposureInfo) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y (px) of the bright sources of an exposure that no flag doubts, brightest first.

    Parameters
    ----------
    sources
        Of `schemas.objects.SOURCE`, of this exposure and maybe others.
    info
        The exposure.
    """
    sources = sources.select(["visit", "detector", "flags", "snr", "x", "y"])
    own = (pc.field("visit") == info.visit) & (pc.field("detector") == info.detector)
    bright = sources.filter(own & (pc.field("flags") == 0) & (pc.field("snr") >= LEAST_SNR))
    ordered = bright.sort_by([("snr", "descending"), ("y", "ascending"), ("x", "ascending")])
    return ordered["x"].to_numpy(), ordered["y"].to_numpy()
