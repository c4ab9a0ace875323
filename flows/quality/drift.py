"""Verdicts on the distributions of a night's features, against those of earlier nights with the same models."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.drift import adjusted, distance, distance_p, stability_index, usual_distance
from kernels.feature_bins import FEATURES
from schemas.quality import BandMeasures, Drift, Sketch
from schemas.quality_settings import QualitySettings


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
    tested = [sketch for sketch in now.sketches if sketch.n]
    if len(reference) < settings.least_nights or not tested:
        return tuple(Drift(feature=one.feature, verdict="no_history", n=one.n) for one in tested)
    earlier = {one.feature: _stacked(one.feature, reference) for one in tested}
    counts = {one.feature: _counts(one) for one in tested}
    totals = {name: stack.sum(axis=0) for name, stack in earlier.items()}
    distances = {name: distance(counts[name], totals[name]) for name in counts}
    chance = adjusted(
        np.array([distance_p(distances[one.feature], one.n, int(totals[one.feature].sum())) for one in tested])
    )
    return tuple(
        _judged(one, counts[one.feature], earlier[one.feature], distances[one.feature], float(p), settings)
        for one, p in zip(tested, chance, strict=True)
    )


def _judged(
    one: Sketch, counts: NDArray[np.int64], earlier: NDArray[np.int64], far: float, p: float, settings: QualitySettings
) -> Drift:
    psi = stability_index(counts, earlier.sum(axis=0))
    usual = usual_distance(earlier, settings.warn_sigma)
    known: dict[str, Any] = {"feature": one.feature, "n": one.n, "psi": psi, "distance": far, "p": p, "usual": usual}
    if p >= settings.drift_alpha or psi < settings.drift_psi or far <= usual:
        return Drift(**known, verdict="pass")
    problem = (
        f"distributed otherwise than on {len(earlier)} earlier nights: PSI {psi:.2f}, distance {far:.2f} (usual: up to "
        f"{usual:.2f}), p {p:.1g}, {one.n} values."
    )
    remedy = "compare the page of the night with those before; if it stays so, measure the model anew."
    return Drift(**known, verdict="warn", problem=problem, remedy=remedy)


def _stacked(feature: str, reference: Sequence[BandMeasures]) -> NDArray[np.int64]:
    found = [next((one for one in night.sketches if one.feature == feature), None) for night in reference]
    return np.array([_counts(one) if one else np.zeros(FEATURES[feature].count, np.int64) for one in found])


def _counts(sketch: Sketch) -> NDArray[np.int64]:
    counts = np.zeros(FEATURES[sketch.feature].count, np.int64)
    for place, count in sketch.counts:
        counts[place] = count
    return counts
