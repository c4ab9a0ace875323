"""Quality of the night on its page: verdicts, and its place among the nights before it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.results.page.scatter import TrendNight, trend_chart
from flows.results.page.words import NOTHING, count
from flows.storage.ledger import Ledger
from schemas.quality import METRICS, BandQuality, Drift, Gate, QualityRecord, Verdict

NIGHTS = 60
"""Most nights in a chart."""

_WORDS: dict[Verdict, str] = {"pass": "pass", "warn": "warning", "fail": "fail", "no_history": "not enough history"}


@dataclass(frozen=True)
class QualityLine:
    """Row of a table: cells, the verdict as a class of the style sheet and in words, the problem and its remedy."""

    cells: tuple[str, ...]
    style: str
    verdict: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class Band:
    """Band of the night: verdict, notes, values, distributions, and charts of two nights or more as (name, SVG)."""

    name: str
    style: str
    verdict: str
    notes: tuple[str, ...]
    gates: tuple[QualityLine, ...]
    drifts: tuple[QualityLine, ...]
    charts: tuple[tuple[str, str], ...]


def quality_of(out: Path, night: str) -> tuple[Band, ...]:
    """Describe the verdicts on a night, as they are kept in the ledger; nothing of a night that was not judged."""
    ledger = Ledger(out)
    record = ledger.quality(night)
    if record is None:
        return ()
    labels = [label for label in ledger.quality_nights() if label <= night][-NIGHTS:]
    nights = [found for label in labels if (found := ledger.quality(label)) is not None]
    return tuple(_band(band, nights) for band in record.judged)


def _band(band: BandQuality, nights: Sequence[QualityRecord]) -> Band:
    return Band(
        name=f"{band.instrument}, {band.band}",
        style=f"verdict-{band.verdict}",
        verdict=_WORDS[band.verdict],
        notes=band.notes,
        gates=tuple(_gate(one) for one in band.gates),
        drifts=tuple(_drift(one) for one in band.drifts if one.psi is not None),
        charts=tuple(_charts(band, nights)),
    )


def _gate(gate: Gate) -> QualityLine:
    limits = [f"{sign} {limit:g}" for sign, limit in zip("≥≤", gate.limits, strict=True) if limit is not None]
    usual = NOTHING if gate.median is None else f"{gate.median:.4g} ± {gate.sigma or 0:.2g}"
    value = NOTHING if gate.value is None else f"{gate.value:.4g}{f' {gate.unit}' if gate.unit else ''}"
    cells = (_capital(METRICS[gate.metric].words), value, ", ".join(limits) or NOTHING, usual, count(gate.nights))
    return QualityLine(cells, f"verdict-{gate.verdict}", _WORDS[gate.verdict], gate.problem, gate.remedy)


def _drift(drift: Drift) -> QualityLine:
    numbers = (drift.psi or 0.0, drift.distance or 0.0, drift.usual or 0.0)
    words = "drift" if drift.verdict == "warn" else "as before"
    cells = (drift.feature, count(drift.n), *(f"{value:.3f}" for value in numbers), f"{drift.p or 0:.1g}")
    return QualityLine(cells, f"verdict-{drift.verdict}", words, drift.problem, drift.remedy)


def _charts(band: BandQuality, nights: Sequence[QualityRecord]) -> Iterator[tuple[str, str]]:
    for gate in band.gates:
        if gate.value is None:
            continue
        known = [_place(record, band, gate) for record in nights]
        found = [one for one in known if one is not None]
        if len(found) < 2:
            continue  # one night is not a history: its values are in the table
        words = _capital(METRICS[gate.metric].words)
        yield words, trend_chart(found, f"{words} over {count(len(found), 'night')}", gate.unit or "S/N")


def _place(record: QualityRecord, band: BandQuality, gate: Gate) -> TrendNight | None:
    judged = next((one for one in record.judged if (one.instrument, one.band) == (band.instrument, band.band)), None)
    found = next((one for one in judged.gates if one.metric == gate.metric), None) if judged else None
    if found is None or found.unit != gate.unit:
        return None
    return TrendNight(record.night, found.value, found.median, found.sigma, found.verdict)


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
