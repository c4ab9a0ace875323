"""Completeness compared with the truth of simulated nights, and for synthetic streaks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flows.results.evaluation.evaluate import Evaluation, Truth, evaluate
from flows.results.evaluation.published import read_image
from flows.results.evaluation.summary import summarise
from flows.results.page.chart import Bars, ChartFrame, Points, bar_chart, point_chart, value_ticks
from flows.results.page.night import PublishedNight
from flows.results.page.words import NOTHING, Figure, count, number
from schemas.errors import BadInput
from schemas.recovery import Limit, RecoveredShare, Recovery

_FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

Lines = tuple[tuple[str, ...], ...]

_TENTHS = tuple(np.round(np.linspace(0, 1, 11), 1).tolist())


@dataclass(frozen=True)
class Completeness:
    """Figures, charts as (name, SVG), and the numbers in the first chart as table lines."""

    figures: tuple[Figure, ...]
    charts: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str, ...], ...]
    accuracy: str


def completeness_of(out: Path, night: PublishedNight, truth: Truth) -> Completeness | None:
    """Compare the catalogues of a night with the truth; None if nothing was searched.

    Parameters
    ----------
    out
        Output folder with the pixels that the oracle uses.
    truth
        Truth that includes this night.
    """
    images = []
    for exposure in night.exposures:
        try:
            images.append(read_image(out, exposure.record.key, truth))
        except BadInput:  # reported at the top of the page
            continue
    return section(evaluate(images)) if images else None


def section(evaluation: Evaluation) -> Completeness:
    """Describe an evaluation in figures and charts."""
    told = summarise(evaluation)
    return Completeness(_figures(told), _charts(evaluation, told), tuple(_lines(told)), _accuracy(told))


def _figures(told: Mapping[str, Any]) -> tuple[Figure, ...]:
    oracle = told["oracle"] or {}
    found = [
        Figure(
            f"Completeness, S/N ≥ {snr}",
            number(told[f"c{snr}"], 2),
            f"{_range(told[f'c{snr}_interval'])}; oracle {number(oracle.get(f'c{snr}'), 2)}",
        )
        for snr in (7, 10)
    ]
    half = Figure("S/N of half completeness", number(told["s50"]), f"oracle {number(oracle.get('s50'))}")
    false = Figure("False streaks per image", number(told["false_per_image"], 2), count(told["images"], "image"))
    purity = Figure("Purity", number(told["purity"], 2), f"{count(told['n_streaks'], 'streak')} in the truth")
    return (*found, half, false, purity)


def _charts(evaluation: Evaluation, told: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    oracle = told["oracle"] or {}
    by_reliability, _ = np.histogram(evaluation.false_score, _TENTHS)
    per_image = by_reliability / max(evaluation.images, 1)
    shares = (
        ("Completeness against S/N", _share_chart(told, oracle, "completeness_by_snr", "true signal to noise")),
        ("Completeness against length", _share_chart(told, oracle, "completeness_by_length", "true length, px")),
    )
    if not by_reliability.any():  # nothing is false, as the figure says
        return shares
    return (
        *shares,
        ("False streaks against S/N", _false_chart(told["false_by_snr"], "measured signal to noise")),
        (
            "False streaks against reliability",
            _false_chart(
                [
                    {"lo": low, "hi": high, "per_image": float(value)}
                    for low, high, value in zip(_TENTHS[:-1], _TENTHS[1:], per_image, strict=True)
                ],
                "reliability",
            ),
        ),
    )


def _share_chart(told: Mapping[str, Any], oracle: Mapping[str, Any], which: str, across: str) -> str:
    series = []
    for name, style, bins in (("oracle", "oracle", oracle.get(which)), ("nightstride", "ours", told[which])):
        if bins:
            values = tuple(each["completeness"] for each in bins)
            intervals = tuple(_pair(each["interval"]) if each["n"] and style == "ours" else None for each in bins)
            series.append(Points(name, style, values, intervals))
    title = f"Completeness against {across}: " + "; ".join(
        f"{_span(each)}: {number(each['completeness'], 2)} of {each['n']}" for each in told[which]
    )
    return point_chart(
        ChartFrame(_edges(told[which]), 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), title, across, "share found"), series
    )


def _false_chart(bins: Sequence[Mapping[str, Any]], across: str) -> str:
    heights = tuple(float(each["per_image"]) for each in bins)
    ticks = value_ticks(max(heights))
    title = f"False streaks per image against {across}: " + "; ".join(
        f"{_span(each)}: {number(each['per_image'], 2)}" for each in bins
    )
    frame = ChartFrame(_edges(bins), ticks[-1], ticks, title, across, "false per image")
    return bar_chart(frame, [Bars("false per image", "false", heights)])


def _lines(told: Mapping[str, Any]) -> list[tuple[str, ...]]:
    oracle = (told["oracle"] or {}).get("completeness_by_snr") or [{}] * len(told["completeness_by_snr"])
    return [
        (
            _span(each),
            count(each["n"]),
            count(each["found"]),
            number(each["completeness"], 2),
            _range(each["interval"]) if each["n"] else NOTHING,
            number(ideal.get("completeness"), 2),
        )
        for each, ideal in zip(told["completeness_by_snr"], oracle, strict=True)
    ]


def _accuracy(told: Mapping[str, Any]) -> str:
    bright = told["accuracy_bright_long"]
    if not bright["position_px"]["n"]:
        return ""
    return (
        f"Median errors of the {count(bright['position_px']['n'], 'streak')} found with S/N ≥ 10 and length ≥ 8 px: "
        f"position {number(bright['position_px']['median'], 2)} px, length {number(bright['length_px']['median'], 2)} "
        f"px, angle {number(bright['angle_deg']['median'], 2)}°."
    )


def _edges(bins: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return (*(_edge(each["lo"]) for each in bins), _edge(bins[-1]["hi"]))


def _edge(value: float | None) -> str:
    return "∞" if value is None or value == float("inf") else f"{value:g}"


def _span(each: Mapping[str, Any]) -> str:
    return f"{_edge(each['lo'])} to {_edge(each['hi'])}"


def _pair(interval: Sequence[float]) -> tuple[float, float]:
    return float(interval[0]), float(interval[1])


def _range(interval: Sequence[float]) -> str:
    return f"{number(interval[0], 2)} to {number(interval[1], 2)}"


@dataclass(frozen=True)
class Recovered:
    """Figures, charts as (name, SVG), and table lines: fractions, limiting magnitudes, detectors."""

    lead: str
    figures: tuple[Figure, ...]
    charts: tuple[tuple[str, str], ...]
    shares: Lines
    limits: Lines
    detectors: Lines


def recovered(recoveries: Sequence[Recovery], rows: int) -> Recovered | None:
    """Describe the recovery of synthetic streaks; None if there were none.

    Parameters
    ----------
    recoveries
        Recoveries of one night: the whole first, then its bands and their detectors.
    rows
        Maximum number of detectors listed.
    """
    if not recoveries:
        return None
    night, bands = recoveries[0], [one for one in recoveries if one.band is not None and one.detector is None]
    return Recovered(
        _lead(night),
        tuple(_limit_figures(night, bands)),
        (
            ("Recovered by signal to noise", _chart(night.by_snr, "true signal to noise")),
            ("Recovered by length", _chart(night.by_length, "true length, px")),
        ),
        tuple(_shares("S/N", night.by_snr)) + tuple(_shares("length", night.by_length)),
        tuple(line for band in bands for line in _limits(band)),
        tuple(_detector(one) for one in recoveries if one.detector is not None)[:rows],
    )


def _lead(night: Recovery) -> str:
    hidden = f" {count(night.hidden)} more are mostly on unusable pixels and do not count." if night.hidden else ""
    return (
        f"{count(night.n, 'synthetic streak')} put into copies of tiles of {count(night.exposures, 'exposure')}, and "
        f"the copies searched like the tiles themselves: {count(night.recovered)} came back.{hidden}"
    )


def _limit_figures(night: Recovery, bands: Sequence[Recovery]) -> Iterator[Figure]:
    yield Figure("S/N of half recovered", *_told(night.snr, 1))
    for band in bands:
        for one in band.magnitude[:1]:
            yield Figure(f"Limiting magnitude, {band.band}", *_told(one.limit, 2, "all lengths"))


def _told(limit: Limit, digits: int, what: str = "") -> tuple[str, str]:
    """Return a limit with its interval and number, or the reason why there is none."""
    streaks = count(limit.n, "streak") + (f", {what}" if what else "")
    if limit.value is None or limit.interval is None:
        return NOTHING, f"{limit.reason}; {streaks}"
    return number(limit.value, digits), f"{_interval(limit.interval, digits)}; {streaks}"


def _chart(shares: Sequence[RecoveredShare], across: str) -> str:
    edges = (*(f"{each.lo:g}" for each in shares), "∞" if shares[-1].hi is None else f"{shares[-1].hi:g}")
    title = f"Share recovered against {across}: " + "; ".join(
        f"{_length_span(each)}: {number(each.value, 2)} of {each.n}" for each in shares
    )
    points = Points(
        "recovered",
        "ours",
        tuple(each.value for each in shares),
        tuple(each.interval if each.n else None for each in shares),
    )
    return point_chart(ChartFrame(edges, 1.0, _FIFTHS, title, across, "share recovered"), [points])


def _shares(what: str, shares: Sequence[RecoveredShare]) -> Iterator[tuple[str, ...]]:
    unit = " px" if what == "length" else ""
    for each in shares:
        interval = _interval(each.interval, 2) if each.n else NOTHING
        yield (
            f"{what} {_length_span(each)}{unit}",
            count(each.n),
            count(each.recovered),
            number(each.value, 2),
            interval,
        )


def _limits(band: Recovery) -> Iterator[tuple[str, ...]]:
    for one in band.magnitude:
        value, note = _told(one.limit, 2)
        lengths = "all" if one.lo == 0 and one.hi is None else _lengths(one.lo, one.hi)
        yield str(band.band), lengths, value, note


def _lengths(lo: float, hi: float | None) -> str:
    return f"{lo:g} px and more" if hi is None else f"{lo:g} to {hi:g} px"


def _detector(one: Recovery) -> tuple[str, ...]:
    snr, note = _told(one.snr, 1)
    magnitude, interval = NOTHING, NOTHING
    for each in one.magnitude[:1]:
        magnitude, interval = _told(each.limit, 2)
    cells = (str(one.detector), str(one.band), count(one.exposures), count(one.n), count(one.recovered))
    return (*cells, snr, note, magnitude, interval)


def _length_span(each: RecoveredShare) -> str:
    return f"{each.lo:g} to {'∞' if each.hi is None else f'{each.hi:g}'}"


def _interval(interval: tuple[float, float], digits: int) -> str:
    return f"{number(interval[0], digits)} to {number(interval[1], digits)}"
