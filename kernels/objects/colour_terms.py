"""Magnitudes of a photometric system, in that of SDSS."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.objects.source_photometry import WORST
from schemas.archive_columns import BANDS
from schemas.class_table import Reason
from schemas.photometric_systems import RELATIONS, Relation, SystemName

Floats = NDArray[np.float32]

LEAST_BANDS = 2
"""Minimum number of bands: with fewer there is no colour and no transformation."""


class SdssMagnitudes(NamedTuple):
    """Magnitudes of n sources in the system of SDSS.

    Attributes
    ----------
    magnitudes, errors
        Band -> (n,) float32, mag; NaN where there is none. An error holds those of the magnitude and of the colour,
        which have a band in common or not, and the scatter of the relation.
    reason : (n,) object
        Why none is given, of `schemas.class_table.Reason`; "" where some are, or fewer than two bands were measured.
    """

    magnitudes: dict[str, Floats]
    errors: dict[str, Floats]
    reason: NDArray[np.object_]


def to_sdss(
    magnitudes: Mapping[str, Floats], errors: Mapping[str, Floats], system: SystemName | None
) -> SdssMagnitudes:
    """Transform magnitudes; those whose error becomes larger than `WORST` are left out.

    Parameters
    ----------
    magnitudes, errors
        Band -> (n,), mag, NaN where there is none; bands that are not of ugriz are left out.
    system
        What they are in; None: not known.

    Returns
    -------
    SdssMagnitudes
        Nothing of a source with fewer than two bands. Nothing of one of which a colour lies outside the range of a
        relation it needs. A band without a relation, or without the other band of its colour, is left out.
    """
    bands = [band for band in BANDS if band in magnitudes]
    count = len(next(iter(magnitudes.values())))
    measured = np.sum([np.isfinite(magnitudes[band]) for band in bands], axis=0)
    reason = np.full(count, "", object)
    relations = {} if system is None else RELATIONS[system]
    parts = {
        band: (magnitudes[band], errors[band], np.zeros(count, np.bool_))
        if system == "sdss"
        else _transformed(band, relations.get(band, ()), magnitudes, errors)
        for band in bands
    }
    beyond = np.any([out_of_range for _, _, out_of_range in parts.values()], axis=0)
    left = np.sum([np.isfinite(magnitude) for magnitude, _, _ in parts.values()], axis=0)
    reason[(measured >= LEAST_BANDS) & (left < LEAST_BANDS)] = Reason.SYSTEM if system is None else Reason.COLOUR_TERM
    reason[(measured >= LEAST_BANDS) & beyond] = Reason.COLOUR_RANGE
    silent = (measured < LEAST_BANDS) | (reason != "")
    given = {
        band: np.where(silent | ~(error <= WORST), np.nan, np.stack([magnitude, error])).astype(np.float32)
        for band, (magnitude, error, _) in parts.items()
    }
    return SdssMagnitudes(
        {band: pair[0] for band, pair in given.items()}, {band: pair[1] for band, pair in given.items()}, reason
    )


def _transformed(
    band: str, relations: tuple[Relation, ...], magnitudes: Mapping[str, Floats], errors: Mapping[str, Floats]
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.bool_]]:
    """Return a band's magnitudes and errors, NaN where there is none, and where a colour is out of range."""
    given = np.asarray(magnitudes[band], np.float64)
    magnitude, error = np.full(len(given), np.nan), np.full(len(given), np.nan)
    beyond, open_ = np.zeros(len(given), np.bool_), np.isfinite(given)
    for relation in relations:
        blue, red = relation.colour
        if blue not in magnitudes or red not in magnitudes:
            continue
        colour = np.asarray(magnitudes[blue], np.float64) - magnitudes[red]
        mine = open_ & np.isfinite(colour)
        inside = mine & (colour > relation.between[0]) & (colour < relation.between[1])
        polynomial = np.polynomial.Polynomial(relation.coefficients)
        magnitude[inside] = (given + polynomial(colour))[inside]
        slope = polynomial.deriv()(colour)
        parts = (
            np.square(errors[one] * ((one == band) + ((one == blue) - (one == red)) * slope))
            for one in dict.fromkeys((band, blue, red))
        )
        error[inside] = np.sqrt(sum(parts, relation.scatter**2))[inside]
        beyond |= mine & ~inside
        open_ &= ~mine
    return magnitude, error, beyond
