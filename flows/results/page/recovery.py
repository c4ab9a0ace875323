"""How deep the night saw: what came back of the synthetic streaks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flows.results.page.chart import ChartFrame, Points, point_chart
from flows.results.page.words import NOTHING, Figure, count, number
from schemas.recovery import Limit, RecoveredShare, Recovery

_TENTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

Lines = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Recovered:
    """Figures, charts as (name, SVG), and tables as lines of cells: shares, limiting magnitudes, detectors."""

    lead: str
    figures: tuple[Figure, ...]
    charts: tuple[tuple[str, str], ...]
    shares: Lines
    limits: Lines
    detectors: Lines


def recovered(recoveries: Sequence[Recovery], rows: int) -> Recovered | None:
    """Describe what came back; None if nothing was put in.

    Parameters
    ----------
    recoveries
        Of one night: its own first, then its bands and their detectors.
    rows
        Most detectors to be listed.
    """
    if not recoveries:
        return None
    night, bands = recoveries[0], [one for one in recoveries if one.band is not None and one.detector is None]
    return Recovered(
        _lead(night),
        tuple(_figures(night, bands)),
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


def _figures(night: Recovery, bands: Sequence[Recovery]) -> Iterator[Figure]:
    yield Figure("S/N of half recovered", *_told(night.snr, 1))
    for band in bands:
        for one in band.magnitude[:1]:
            yield Figure(f"Limiting magnitude, {band.band}", *_told(one.limit, 2, "all lengths"))


def _told(limit: Limit, digits: int, what: str = "") -> tuple[str, str]:
    """Return a limit with its interval and number, or the reason why there is none."""
    streaks = count(limit.n, "streak") + (f", {what}" if what else "")
    if limit.value is None or limit.interval is None:
        return NOTHING, f"{limit.reason}; {streaks}"
    return number(limit.value, digits), f"{_range(limit.interval, digits)}; {streaks}"


def _chart(shares: Sequence[RecoveredShare], across: str) -> str:
    edges = (*(f"{each.lo:g}" for each in shares), "∞" if shares[-1].hi is None else f"{shares[-1].hi:g}")
    title = f"Share recovered against {across}: " + "; ".join(
        f"{_span(each)}: {number(each.value, 2)} of {each.n}" for each in shares
    )
    points = Points(
        "recovered",
        "ours",
        tuple(each.value for each in shares),
        tuple(each.interval if each.n else None for each in shares),
    )
    return point_chart(ChartFrame(edges, 1.0, _TENTHS, title, across, "share recovered"), [points])


def _shares(what: str, shares: Sequence[RecoveredShare]) -> Iterator[tuple[str, ...]]:
    unit = " px" if what == "length" else ""
    for each in shares:
        interval = _range(each.interval, 2) if each.n else NOTHING
        yield f"{what} {_span(each)}{unit}", count(each.n), count(each.recovered), number(each.value, 2), interval


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


def _span(each: RecoveredShare) -> str:
    return f"{each.lo:g} to {'∞' if each.hi is None else f'{each.hi:g}'}"


def _range(interval: tuple[float, float], digits: int) -> str:
    return f"{number(interval[0], digits)} to {number(interval[1], digits)}"
