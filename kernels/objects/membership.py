"""Membership of galaxies in clusters, from magnitudes, photometric redshifts and places."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from kernels.nets.tree_ensemble import TreeEnsemble, tree_ensemble, tree_logits
from schemas.model_card import ModelCard

Floats = NDArray[np.floating]

REGIONS = ("red sequence", "green valley", "blue cloud")
"""Regions of the colour-magnitude diagram."""

FEATURES = ("offset", "distance", "deviation", "error", "radius", "cluster_z", "r", "red", "red_distance")
"""Features of the model, see `membership_features`."""

_MISSING = 9.0
"""Stands for a missing number, and is beyond all others."""

TYPICAL_ERROR = 0.013
"""Median error of photometric redshifts over 1 + Z, of the galaxies that the shipped model has learnt from."""

_VALLEY = (-2.0, -5.0)
"""Scatters below the red sequence at which the green valley begins and ends."""


class RedSequence(NamedTuple):
    """Ridge of the red sequence, g - z = c0 + c1 Z + c2 Z^2 + c3 (r - 16.5) at the redshift Z of the cluster.

    Attributes
    ----------
    coefficients : (4,) float64
        c0 to c3, mag.
    scatter : (1,) float64
        Standard deviation about it, mag.
    """

    coefficients: Floats
    scatter: Floats


def ridge_terms(cluster_z: Floats, r: Floats) -> NDArray[np.float64]:
    """Return what the coefficients of a `RedSequence` are multiplied by, (n, 4)."""
    return np.stack([np.ones_like(r), cluster_z, cluster_z**2, r - 16.5], 1).astype(np.float64)


def redness(columns: Mapping[str, Floats], sequence: RedSequence) -> NDArray[np.float64]:
    """Return by how many scatters a galaxy is redder than the red sequence, (n,); NaN without g, r, z.

    Parameters
    ----------
    columns
        ``g``, ``r``, ``z`` (AB mag) and ``cluster_z``, each (n,).
    sequence
        Of members.
    """
    ridge = ridge_terms(columns["cluster_z"], columns["r"]) @ sequence.coefficients
    return np.asarray((columns["g"] - columns["z"] - ridge) / sequence.scatter[0], np.float64)


def colour_region(red: Floats) -> NDArray[np.int64]:
    """Return the place in `REGIONS`, (n,), of each `redness`; -1 where it is not known."""
    upper, lower = _VALLEY
    with np.errstate(invalid="ignore"):
        return np.where(red > upper, 0, np.where(red > lower, 1, np.where(np.isfinite(red), 2, -1)))


def photometric_offset(columns: Mapping[str, Floats]) -> NDArray[np.float64]:
    """Return (zphot - cluster_z) / (1 + cluster_z), (n,)."""
    return np.asarray((columns["zphot"] - columns["cluster_z"]) / (1 + columns["cluster_z"]), np.float64)


def membership_features(columns: Mapping[str, Floats], sequence: RedSequence) -> NDArray[np.float32]:
    """Return what the model looks at, (n, features) in the order of `FEATURES`.

    Parameters
    ----------
    columns
        Each (n,), NaN where not given: ``g``, ``r``, ``z`` (AB mag), ``zphot``, ``zphot_err`` (photometric redshift and
        its error), ``cluster_z`` (of the cluster), ``radius`` (projected distance from its centre, in units of R200).
    sequence
        Of members.

    Notes
    -----
    ``offset`` is that of the photometric redshift in units of 1 + Z, ``distance`` its size, ``deviation`` its size over
    its error, ``red`` the `redness`. An error that is not given is taken as `TYPICAL_ERROR`. Redshifts that were
    measured in spectra are not among them.
    """
    offset, red = photometric_offset(columns), redness(columns, sequence)
    error = np.where(
        np.isfinite(columns["zphot_err"]), columns["zphot_err"] / (1 + columns["cluster_z"]), TYPICAL_ERROR
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.abs(offset) / error
    parts = (
        offset, np.abs(offset), np.minimum(deviation, 100.0), error, columns["radius"], columns["cluster_z"],
        columns["r"], red, np.abs(red),
    )  # fmt: skip
    matrix = np.stack(parts, 1)
    return np.where(np.isfinite(matrix), matrix, _MISSING).astype(np.float32)


class MembershipModel:
    """Probability that a galaxy belongs to the cluster in whose direction it is seen.

    Parameters
    ----------
    card
        Its ``calibration`` names ``slope`` and ``offset`` of the log odds, and ``photometric_redshift_cut`` and
        ``red_sequence_cut``, the limits of the two simplest rules.
    trees
        Their values add up to a probability.
    sequence
        Red sequence of the members learnt from.
    """

    def __init__(self, card: ModelCard, trees: TreeEnsemble, sequence: RedSequence) -> None:
        self.card, self.trees, self.sequence = card, trees, sequence

    @property
    def version(self) -> str:
        """Return name and version."""
        return f"{self.card.name} {self.card.version}"

    def __call__(self, columns: Mapping[str, Floats]) -> NDArray[np.float64]:
        """Return the probability of each row, (n,), see `membership_features`; NaN without zphot or cluster_z."""
        raw = raw_probability(membership_features(columns, self.sequence), self.trees)
        found = platt_scaled(raw, self.card.calibration["slope"], self.card.calibration["offset"])
        return np.where(np.isfinite(photometric_offset(columns)), found, np.nan)

    def by_photometric_redshift(self, columns: Mapping[str, Floats]) -> NDArray[np.int64]:
        """Return 1 where the photometric redshift is that of the cluster within a fixed limit, else 0, (n,)."""
        limit = self.card.calibration["photometric_redshift_cut"]
        return np.asarray(np.abs(photometric_offset(columns)) < limit, np.int64)

    def by_red_sequence(self, columns: Mapping[str, Floats]) -> NDArray[np.int64]:
        """Return 1 within a fixed distance of the red sequence, else 0, (n,)."""
        limit = self.card.calibration["red_sequence_cut"]
        return np.asarray(np.abs(redness(columns, self.sequence)) < limit, np.int64)


def raw_probability(features: NDArray[np.float32], trees: TreeEnsemble) -> NDArray[np.float64]:
    """Return the mean of the trees' probabilities, (n,), kept off 0 and 1."""
    return np.clip(tree_logits(features, trees).astype(np.float64), 1e-3, 1 - 1e-3)


def platt_scaled(raw: Floats, slope: float, offset: float) -> NDArray[np.float64]:
    """Return probabilities whose log odds are a line in those of others (Platt 1999)."""
    return np.asarray(expit(slope * logit(raw) + offset), np.float64)


def membership_model(card: ModelCard, arrays: Mapping[str, NDArray[Any]]) -> MembershipModel:
    """Build the model that a card and its arrays describe."""
    sequence = RedSequence(arrays["ridge"], arrays["scatter"])
    return MembershipModel(card, tree_ensemble(arrays), sequence)
