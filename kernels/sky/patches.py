"""Patches of the sky: which exposures and positions belong to them, and their division where sources are dense.

A patch is a pixel of a nested HEALPix grid (Gorski et al. 2005, ApJ 622, 759).
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.sky.positions import displaced, unit_vectors
from kernels.sky.projection import celestial_wcs, pixel_scale
from schemas.patch import COVER_ORDER

Floats = NDArray[np.float64]

_DIRECTIONS, _SPREAD = 32, 1.25
"""Moved by so many margins in one of so many directions, a position within the margin of a pixel lies in it, even near
a corner, unless that is sharper than 50 deg."""

_FINE = 10
"""Order of the pixels added around those with points of an exposure: none is narrower than 100 arcsec."""

_STEP = 50.0
"""Spacing of these points, arcsec: each position on the exposure is within 36 arcsec of one."""


def pixels_at(ra: Floats, dec: Floats, order: int) -> NDArray[np.int64]:
    """Return the nested HEALPix pixels of positions in deg, (n,)."""
    return np.asarray(_grid(order).lonlat_to_healpix(*_degrees(ra, dec)), np.int64).reshape(-1)


@dataclass(frozen=True)
class Patch:
    """Patch of the sky: `schemas.stage.SkyPart`.

    Attributes
    ----------
    order, pixel
        Of the nested HEALPix grid.
    margin
        How far around it rows may be asked for, arcsec.
    beside
        Pixels of `schemas.patch.COVER_ORDER` outside, whose rows are its own, too: see `Division`.
    """

    order: int
    pixel: int
    margin: float
    beside: tuple[int, ...] = ()

    def holds(self, ra: Floats, dec: Floats, margin: float = 0.0) -> NDArray[np.bool_]:
        """Return which positions lie in it, or within a margin around it; some a little further away may be among them.

        Parameters
        ----------
        ra, dec : (n,)
            deg; NaN lies nowhere.
        margin
            arcsec.

        Returns
        -------
        (n,) bool
        """
        ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
        found = np.zeros(ra.shape, np.bool_)
        known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        found[known] = pixels_at(ra[known], dec[known], self.order) == self.pixel
        if self.beside:
            found[known] |= np.isin(pixels_at(ra[known], dec[known], COVER_ORDER), self.beside)
        if margin <= 0:
            return found
        left = known[~found[known]]
        left = left[self._may_reach(ra[left], dec[left], margin)]
        for angle in 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS:
            moved = displaced(ra[left], dec[left], angle, _SPREAD * margin)
            reaches = pixels_at(*moved, self.order) == self.pixel
            found[left[reaches]] = True
            left = left[~reaches]
        return found

    def circle(self, margin: float) -> tuple[Floats, float]:
        """Return the middle, a unit vector, and the chord of a circle around the pixel and a margin, arcsec."""
        grid = _grid(self.order)
        corners = np.stack([one.deg for one in grid.boundaries_lonlat([self.pixel], step=4)])[:, 0]
        centre = np.stack([one.deg for one in grid.healpix_to_lonlat([self.pixel])])[:, 0]
        middle = unit_vectors(centre[:1], centre[1:])[0]
        reach = np.max(np.linalg.norm(unit_vectors(*corners) - middle, axis=1))
        return middle, float(1.05 * reach + np.radians(margin / 3600))

    def _may_reach(self, ra: Floats, dec: Floats, margin: float) -> NDArray[np.bool_]:
        """Return which positions are in the circle around the patch and its margin: a test that costs little."""
        middle, chord = self.circle(2 * _SPREAD * margin)
        return np.asarray(np.linalg.norm(unit_vectors(ra, dec) - middle, axis=1) <= chord)

    def parts(self, order: int) -> NDArray[np.int64]:
        """Return the pixels of an order, not below its own, that it consists of, or has a part of; sorted."""
        first, end = (number << 2 * (order - self.order) for number in (self.pixel, self.pixel + 1))
        beside = np.array(self.beside, np.int64) >> 2 * (COVER_ORDER - order)
        return np.unique(np.concatenate([np.arange(first, end), beside]))


@dataclass(frozen=True)
class Division:
    """Patches of a night, and to which of them the sky beside belongs.

    What lies just outside all of them belongs to one nevertheless: a pixel of `schemas.patch.COVER_ORDER` that touches
    patches, to the one that holds the first of its neighbours. There may be objects at rest, whose mean position over
    years is not where they were seen in the night, if they move; by the padding of `cover` hardly ever.

    Attributes
    ----------
    patches : tuple of (order, pixel)
        By their place on the curve of the nested scheme; none overlap.
    """

    patches: tuple[tuple[int, int], ...]

    def about(self, number: int) -> tuple[list[int], tuple[int, ...]]:
        """Return the numbers of the patches that touch one, with its own, and the pixels beside that belong to it."""
        ring = neighbours(Patch(*self.patches[number], 0.0).parts(COVER_ORDER), COVER_ORDER)
        held = self._holders(ring)
        outside = ring[held < 0]
        around = _touching(outside, COVER_ORDER)
        holders = self._holders(around)
        first = np.argmin(np.where(holders >= 0, around, np.iinfo(np.int64).max), axis=0)
        own = holders[first, np.arange(len(outside))] == number
        near = np.unique(np.concatenate([[number], held, holders[:, own].ravel()]))
        return near[near >= 0].tolist(), tuple(outside[own].tolist())

    def _holders(self, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the patches that hold pixels of the finest order; -1: none does."""
        first, end = self._limits
        which = np.searchsorted(first, pixels, "right") - 1
        return np.where((which >= 0) & (pixels < end[which]), which, -1)

    @cached_property
    def _limits(self) -> NDArray[np.int64]:
        """Return the first pixel of the finest order of each, and the one after the last, (2, n)."""
        order, pixel = np.array(self.patches, np.int64).T
        return np.stack([pixel, pixel + 1]) << 2 * (COVER_ORDER - order)


def neighbours(pixels: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Return the nested HEALPix pixels of an order that touch some of its pixels, and are not among these; sorted."""
    found = _touching(pixels, order)
    return np.setdiff1d(found[found >= 0], pixels)


def _touching(pixels: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Return the eight neighbours of each pixel, (8, n); -1 where there is none: eight pixels of the sky have seven."""
    with np.errstate(invalid="ignore"):
        return np.asarray(_grid(order).neighbours(pixels), np.int64)


def cover(wcs_header: str, shape: tuple[int, int]) -> tuple[int, ...]:
    """Return the pixels of `schemas.patch.COVER_ORDER` that an exposure touches, or comes within 60 arcsec of.

    Some that are up to 7 arcmin away may be among them.

    Parameters
    ----------
    wcs_header, shape
        Of the exposure: `schemas.exposure.ExposureInfo`.

    Returns
    -------
    tuple of int
        Sorted.
    """
    wcs = celestial_wcs(wcs_header)
    step = max(1.0, _STEP / pixel_scale(wcs))
    y, x = (np.linspace(-0.5, size - 0.5, 2 + int(size / step)) for size in shape)
    sky = wcs.pixel_to_world(*(one.ravel() for one in np.meshgrid(x, y))).icrs
    ra, dec = sky.ra.deg, sky.dec.deg
    seen = np.isfinite(ra) & np.isfinite(dec)
    fine = np.unique(pixels_at(ra[seen], dec[seen], _FINE))
    every = np.concatenate([fine, neighbours(fine, _FINE)])
    return tuple(np.unique(every >> 2 * (_FINE - COVER_ORDER)).tolist())


def divided(pixels: NDArray[np.int64], load: Floats, order: int, most: float) -> list[tuple[int, int]]:
    """Return the patches of a night: none has a greater load than allowed, unless it is of the highest order.

    Parameters
    ----------
    pixels : (n,)
        Of `schemas.patch.COVER_ORDER`, sorted, each one once or more often; others belong to no patch.
    load : (n,)
        Their loads.
    order
        Of the largest patches.
    most
        Load of a patch, at most.

    Returns
    -------
    list of (order, pixel)
        By their place on the curve of the nested scheme.
    """
    found: list[tuple[int, int]] = []
    wide = pixels >> 2 * (COVER_ORDER - order)
    for start, end in pairwise([*np.flatnonzero(np.diff(wide, prepend=-1)), len(wide)]):
        if order < COVER_ORDER and load[start:end].sum() > most:
            found += divided(pixels[start:end], load[start:end], order + 1, most)
        else:
            found.append((order, int(wide[start])))
    return found


def _grid(order: int) -> Any:
    from astropy_healpix import HEALPix

    return HEALPix(nside=2**order, order="nested")


def _degrees(ra: Floats, dec: Floats) -> tuple[Any, Any]:
    from astropy import units

    return ra * units.deg, dec * units.deg
