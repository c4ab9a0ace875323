"""Verdicts on the distributions of a night's features, against those of earlier nights with the same models."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.drift import Counts, adjusted, distance, distance_p, least_distance, stability_index, usual_distance
from kernels.feature_bins import FEATURES
from schemas.quality import BandMeasures, Drift, Sketch
from schemas.quality_settings import QualitySettings

OUT_OF_REACH = 0.95
"""Distance that no drift can be asked to exceed: what needs a larger one is not judged."""


def drifts(now: BandMeasures, reference: Sequence[BandMeasures], settings: QualitySettings) -> tuple[Drift, ...]:
    """Compare each feature of a band with its reference.

    A feature drifts if three things hold: its Kolmogorov-Smirnov distance is no chance (with all features tested
    together), its population stability index is large, and it is further from the reference than the nights of that
    are from each other. The first alone would call any large night a drift, the second any small one, and both what is
    usual from night to night.

    Parameters
    ----------
    now, reference
        The night, and earlier nights in the same band that were searched with the same.
    settings
        Limits.
    """
    known = [one for one in now.sketches if one.n and one.feature in FEATURES]
    earlier = {one.feature: _stacked(one.feature, reference) for one in known}
    tested = [one for one in known if len(earlier[one.feature]) >= settings.least_nights]
    distances = [distance(_counts(one), earlier[one.feature].sum(axis=0)) for one in tested]
    chance = adjusted(
        np.array(
            [
                distance_p(far, one.n, int(earlier[one.feature].sum()))
                for one, far in zip(tested, distances, strict=True)
            ]
        )
    )
    judged = {
        one.feature: _judged(one, earlier[one.feature], far, float(p), len(tested), settings)
        for one, far, p in zip(tested, distances, chance, strict=True)
    }
    return tuple(judged.get(one.feature, _no_history(one)) for one in known)


def _judged(one: Sketch, earlier: Counts, far: float, p: float, features: int, settings: QualitySettings) -> Drift:
    total = earlier.sum(axis=0)
    m = int(total.sum())
    least = least_distance(settings.drift_alpha, features, one.n * m / (one.n + m))
    usual = usual_distance(earlier, one.n, settings.warn_sigma, least)
    if max(least, usual) > OUT_OF_REACH:
        return _no_history(one)
    psi = stability_index(_counts(one), total)
    known: dict[str, Any] = {"feature": one.feature, "n": one.n, "psi": psi, "distance": far, "p": p, "usual": usual}
    if p >= settings.drift_alpha or psi < settings.drift_psi or far <= usual:
        return Drift(**known, verdict="pass")
    problem = (
        f"distributed otherwise than on {len(earlier)} earlier nights: PSI {psi:.2f}, distance {far:.2f} (usual: up to "
        f"{usual:.2f}), p {p:.1g}, {one.n} values."
    )
    remedy = "compare the page of the night with those before; if it stays so, measure the model anew."
    return Drift(**known, verdict="warn", problem=problem, remedy=remedy)


def _no_history(one: Sketch) -> Drift:
    return Drift(feature=one.feature, verdict="no_history", n=one.n)


def _stacked(feature: str, reference: Sequence[BandMeasures]) -> Counts:
    """Give the counts of the nights that have values of a feature."""
    found = [one for night in reference for one in night.sketches if one.feature == feature and one.n]
    return np.array([_counts(one) for one in found]).reshape(len(found), FEATURES[feature].count)


def _counts(sketch: Sketch) -> Counts:
    counts = np.zeros(FEATURES[sketch.feature].count, np.int64)
    for place, count in sketch.counts:
        counts[place] = count
    return counts
