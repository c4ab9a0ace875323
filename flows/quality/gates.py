"""Verdicts on the values of a night: against fixed limits, and against earlier nights."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kernels.departure import Departure, departure
from schemas.quality import METRICS, BandMeasures, Gate, Measure, Verdict
from schemas.quality_settings import QualitySettings

LEAST_MAG = 0.01
"""Least sigma of a magnitude."""

LEAST_SHARE = 0.01
"""Least sigma of anything else, as a share of the median of earlier nights."""


def gates(now: BandMeasures, earlier: Sequence[BandMeasures], settings: QualitySettings) -> Iterator[Gate]:
    """Judge each value of a band.

    Parameters
    ----------
    now, earlier
        The night, and earlier nights in the same band of the same instrument.
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
    """Judge a value; None where there is none, and no limit asks for one."""
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

    Its error is taken to be no less than that of a usual night with as many exposures: of one there is none, and of
    few it may be small by chance. Where earlier nights have none either, their scatter holds it.
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
