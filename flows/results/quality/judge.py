"""Verdicts on a night, from its measures and those of earlier nights."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flows.runtime.words import counted
from kernels.statistics.drift import (
    FEATURES,
    Counts,
    Departure,
    adjusted,
    departure,
    distance_p,
    distribution_distance,
    least_distance,
    stability_index,
    usual_distance,
)
from schemas.quality import (
    METRICS,
    BandMeasures,
    BandQuality,
    Drift,
    Gate,
    Measure,
    QualityRecord,
    QualitySettings,
    Sketch,
    Verdict,
    worst,
)

OUT_OF_REACH = 0.95
"""Maximum distance that a drift may be required to exceed; features that require more are not judged."""


def drifts(now: BandMeasures, reference: Sequence[BandMeasures], settings: QualitySettings) -> tuple[Drift, ...]:
    """Compare each feature of a band with its reference.

    A feature drifts if three conditions hold: its Kolmogorov-Smirnov distance is not due to chance (with all features
    tested together), its population stability index is large, and its distance to the reference is larger than those
    between reference nights. The first alone would call any large night a drift, the second any small one, and both the
    usual variation from night to night.

    Parameters
    ----------
    now, reference
        Night, and earlier nights in the same band with the same search.
    settings
        Limits.
    """
    known = [one for one in now.sketches if one.n and one.feature in FEATURES]
    earlier = {one.feature: _stacked(one.feature, reference) for one in known}
    tested = [one for one in known if len(earlier[one.feature]) >= settings.least_nights]
    distances = [distribution_distance(_counts(one), earlier[one.feature].sum(axis=0)) for one in tested]
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
    remedy = "compare the page of the night with those before; if it stays so, measure the model again."
    return Drift(**known, verdict="warn", problem=problem, remedy=remedy)


def _no_history(one: Sketch) -> Drift:
    return Drift(feature=one.feature, verdict="no_history", n=one.n)


def _stacked(feature: str, reference: Sequence[BandMeasures]) -> Counts:
    """Return the counts of the nights with values of a feature."""
    found = [one for night in reference for one in night.sketches if one.feature == feature and one.n]
    return np.array([_counts(one) for one in found]).reshape(len(found), FEATURES[feature].count)


def _counts(sketch: Sketch) -> Counts:
    counts = np.zeros(FEATURES[sketch.feature].count, np.int64)
    for place, count in sketch.counts:
        counts[place] = count
    return counts


LEAST_MAG = 0.01
"""Minimum sigma of a magnitude."""

LEAST_SHARE = 0.01
"""Minimum sigma of other values, as a fraction of the median of earlier nights."""


def gates(now: BandMeasures, earlier: Sequence[BandMeasures], settings: QualitySettings) -> Iterator[Gate]:
    """Judge each value of a band.

    Parameters
    ----------
    now, earlier
        Night, and earlier nights in the same band of the same instrument.
    settings
        Limits.
    """
    for one in now.measures:
        metric = METRICS[one.metric]
        comparable = [night for night in earlier if not metric.of_search or (now.search and night.search == now.search)]
        known = [
            found
            for night in comparable
            if (found := night.measure(one.metric)) and found.value is not None and found.unit == one.unit
        ]
        judged = _gate(one, settings.bounds(now.band, one.metric), known, settings)
        if judged is not None:
            yield judged


def _gate(
    one: Measure, bounds: tuple[float | None, float | None], earlier: Sequence[Measure], settings: QualitySettings
) -> Gate | None:
    """Judge a value; None if there is none and no limit requires one."""
    metric, unit = METRICS[one.metric], f" {one.unit}" if one.unit else ""
    known: dict[str, Any] = {
        "metric": one.metric,
        "unit": one.unit,
        "value": one.value,
        "limits": bounds,
        "nights": len(earlier),
    }
    if one.value is None:
        if bounds == (None, None):
            return None
        return Gate(
            **known,
            verdict="warn",
            problem=f"a limit is set, and there is no value: {one.reason}.",
            remedy=metric.remedy,
        )
    usual = _usual(one.value, one, earlier) if len(earlier) >= settings.least_nights else None
    if usual is not None:
        known |= {"median": usual.median, "sigma": usual.sigma}
    low, high = bounds
    for broken, words, limit in (
        (low is not None and one.value < low, "least", low),
        (high is not None and one.value > high, "largest", high),
    ):
        if broken:
            problem = f"{metric.words}: {one.value:.4g}{unit}, the {words} that is allowed is {limit:g}{unit}."
            return Gate(**known, verdict="fail", problem=problem, remedy=metric.remedy)
    if usual is None:
        return Gate(**known, verdict="pass" if bounds != (None, None) else "no_history")
    return _against(usual, known, settings)


def _usual(value: float, one: Measure, earlier: Sequence[Measure]) -> Departure:
    """Compare a value with those of earlier nights.

    Its error is at least that of a usual night with as many exposures: a single exposure gives none, and few may give a
    small one by chance. If earlier nights have none either, it is included in their scatter.
    """
    values = [found.value for found in earlier if found.value is not None]
    of_one = [found.error * math.sqrt(found.n) for found in earlier if found.error is not None and found.n]
    expected = float(np.median(of_one)) / math.sqrt(max(one.n, 1)) if of_one else 0.0
    floor = LEAST_MAG if one.unit == "mag" else LEAST_SHARE * abs(float(np.median(values)))
    return departure(value, max(one.error or 0.0, expected), values, floor)


def _against(usual: Departure, known: Mapping[str, Any], settings: QualitySettings) -> Gate:
    metric, unit = METRICS[known["metric"]], f" {known['unit']}" if known["unit"] else ""
    worse = {"high": usual.score, "low": -usual.score, "both": abs(usual.score)}[metric.worse]
    if worse <= settings.warn_sigma:
        return Gate(**known, verdict="pass")
    side = "above" if usual.score > 0 else "below"
    problem = (
        f"{metric.words}: {known['value']:.4g}{unit}, {abs(usual.score):.1f} sigma {side} "
        f"{usual.median:.4g} +- {usual.sigma:.2g} of {known['nights']} earlier nights."
    )
    verdict: Verdict = "fail" if worse > settings.fail_sigma else "warn"
    return Gate(**known, verdict=verdict, problem=problem, remedy=metric.remedy)


def judge(
    measured: Sequence[BandMeasures], earlier: Sequence[QualityRecord], settings: QualitySettings
) -> tuple[BandQuality, ...]:
    """Judge a night band by band.

    Parameters
    ----------
    measured
        Measures of the night.
    earlier
        Records of earlier nights, the latest last.
    settings
        Limits.
    """
    return tuple(_band(now, earlier, settings) for now in measured)


def _band(now: BandMeasures, earlier: Sequence[QualityRecord], settings: QualitySettings) -> BandQuality:
    nights = [(one.night, found) for one in earlier if (found := one.of(now.instrument, now.band))]
    nights = nights[-settings.history_nights :]
    reference = [(night, found) for night, found in nights if now.search and found.search == now.search]
    gated = tuple(gates(now, [found for _, found in nights], settings))
    drifted = drifts(now, [found for _, found in reference], settings)
    return BandQuality(
        instrument=now.instrument,
        band=now.band,
        verdict=worst((*(one.verdict for one in gated), *(one.verdict for one in drifted))),
        gates=gated,
        drifts=drifted,
        reference=tuple(night for night, _ in reference),
        notes=_notes(now, nights, settings),
    )


def _notes(now: BandMeasures, nights: Sequence[tuple[str, BandMeasures]], settings: QualitySettings) -> tuple[str, ...]:
    few: tuple[str, ...] = ()
    if settings.history_nights < settings.least_nights:
        limits = f"quality.history_nights is {settings.history_nights}, quality.least_nights {settings.least_nights}"
        few = (f"{limits}: no night is ever compared with earlier ones",)
    return (*few, *_other_search(now, nights))


def _other_search(now: BandMeasures, nights: Sequence[tuple[str, BandMeasures]]) -> tuple[str, ...]:
    """Return how the search differs from that of the night before, and the consequences for the reference."""
    if not now.search:
        return ("searched with several models or settings, or not known with which: the search is not compared",)
    if not nights or nights[-1][1].search == now.search:
        return ()
    night, before = nights[-1]
    alike = sum(found.search == now.search for _, found in nights)
    then = f"compared with {counted(alike, 'earlier night')} searched alike" if alike else "a new reference begins"
    if before.models == now.models:
        return (f"settings or stages of the search differ from those of night {night}: {then}",)
    models = ", ".join(before.models) or "models not known"
    return (f"searched with {', '.join(now.models)}; night {night} with {models}: {then}",)


def told(quality: BandQuality) -> list[str]:
    """Return the problems of a band, one line each."""
    lines = [f"{one.verdict} {one.metric}: {one.problem} To fix, {one.remedy}" for one in quality.gates if one.problem]
    features = [one for one in quality.drifts if one.problem]
    return lines + [f"warn drift of {one.feature}: {one.problem} To fix, {one.remedy}" for one in features]


def failure(night: str, quality: BandQuality, line: str) -> str:
    """Return a line of `told` as the failure of a night."""
    return f"night {night}, {quality.instrument} {quality.band}: {line}"
