"""First sentence, key figures and tables of a night: exposures, causes, troubles, quality, times."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.pipeline.outcome import total_causes
from flows.results.page.chart import Bars, ChartFrame, bar_chart, count_ticks, stacked_bar
from flows.results.page.night import Exposure, PublishedNight
from flows.results.page.scatter import TrendNight, trend_chart
from flows.results.page.words import (
    FLAG_WORDS,
    GRADES,
    NOTHING,
    Figure,
    Told,
    count,
    duration,
    file_name,
    number,
    utc,
)
from flows.results.quality.measure import compass, depth, spread
from flows.storage.ledger import Ledger
from schemas.dia_source import DetectionFlag
from schemas.exposure import ASSUMPTIONS, SIMULATED, ExposureInfo
from schemas.quality import METRICS, BandQuality, Drift, Gate, QualityRecord, Verdict
from schemas.summary import ELAPSED, CauseCount, ExposureCounts

SNR_EDGES = (4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100)

LENGTH_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Inner bin edges; the first and the last bin are open."""


@dataclass(frozen=True)
class CauseRow:
    """Cause, and the numbers of candidates refused for it, and published with its flag."""

    cause: str
    refused: str
    published: str


def cause_rows(night: PublishedNight) -> tuple[CauseRow, ...]:
    """List the causes found in candidates of the night, in the order of their flags."""
    total = total_causes(exposure.record.causes for exposure in night.exposures)
    return tuple(
        CauseRow(cause_words(name), count(counted.refused), count(counted.published))
        for name, counted in total.items()
        if counted != CauseCount()
    )


def refused_words(causes: Mapping[str, CauseCount]) -> str:
    """Return the refused candidates by cause, in a line; a dash if there are none."""
    parts = [f"{cause_words(name)} {count(counted.refused)}" for name, counted in causes.items() if counted.refused]
    return ", ".join(parts) or NOTHING


def cause_words(name: str) -> str:
    """Return words for a cause, the name of a flag in lower case; an unknown one is returned unchanged."""
    flag = DetectionFlag.__members__.get(name.upper())
    return name.replace("_", " ") if flag is None else FLAG_WORDS[flag]


@dataclass(frozen=True)
class TroubleRow:
    """Row for one input: its name, the problem, the remedy ("" if none is known)."""

    status: str
    source: str
    code: str
    problem: str
    remedy: str


def troubles(night: PublishedNight) -> tuple[TroubleRow, ...]:
    """List the failures of this run, exposures first, then the inputs in quarantine, by source."""
    summary = night.summary
    failed = () if summary is None else (*summary.failed, *summary.night_failed, *summary.alerts_failed)
    return (
        *(TroubleRow("failed", file_name(trouble.uri), trouble.code, trouble.message, "") for trouble in failed),
        *(
            TroubleRow(
                "quarantined",
                file_name(record.source_uri),
                record.code,
                f"{record.where}: {record.problem}",
                record.remedy,
            )
            for record in night.quarantined
        ),
    )


_OWN_STYLES = {"other": "part-other", "waiting": "part-waiting"}


@dataclass(frozen=True)
class StageTime:
    """Worker time for one part of the work, in words; ``style`` is the name of its colour in the style sheet."""

    stage: str
    style: str
    time: str
    share: str


@dataclass(frozen=True)
class Timing:
    """Bar and legend of the worker time by part of the work."""

    bar: str
    stages: tuple[StageTime, ...]
    total: str


def timing(seconds: Mapping[str, float]) -> Timing | None:
    """Divide the worker time among parts of the work; None if nothing was timed."""
    spent = {stage: time for stage, time in seconds.items() if stage not in ELAPSED and time > 0}
    total = sum(spent.values())
    if not total:
        return None
    styles = {stage: _OWN_STYLES.get(stage, f"part-{place % 8}") for place, stage in enumerate(spent)}
    stages = tuple(
        StageTime(stage, styles[stage], duration(time), f"{100 * time / total:.0f} %") for stage, time in spent.items()
    )
    title = "Worker time: " + ", ".join(f"{stage.stage} {stage.share}" for stage in stages)
    bar = stacked_bar([(stage, styles[stage], time) for stage, time in spent.items()], title)
    return Timing(bar, stages, duration(total))


HEADINGS = (
    ("Visit", ""),
    ("Detector", ""),
    ("Band", ""),
    ("Middle", "UTC"),
    ("Seeing", "FWHM"),
    ("Noise", "σ per px"),
    ("Zero point", "mag"),
    ("Depth", "mag, 5σ point"),
    ("Masked", ""),
    ("Windows", ""),
    ("Unscored", "windows"),
    ("Detections", ""),
    ("Refused", "candidates, by cause"),
    ("Worker time", "s"),
    ("Notes", ""),
    ("File", ""),
)
"""Names of the columns, and their units."""

_NOTES = {
    "no_wcs": "no WCS", "no_zero_point": "no zero point", "assumed_psf": "PSF assumed",
    "assumed_detector": "detector assumed", "assumed_equinox": "equinox assumed", "assumed_gain": "gain assumed",
    "assumed_pixel_unit": "unit assumed", "assumed_psf_unit": "unit of PSF assumed", "assumed_site": "site assumed",
    "ambiguous_time": "time in doubt", "asinh_pixels": "pixels made linear",
    "colour_mosaic": "pixels of three colours", "planes_left_out": "extensions not used",
    "mostly_masked": "mostly masked", "psf_differs": "PSF of header and stars differ",
    "high_background": "background far from 0", "science_differs": "science image of other pixels or unit",
    "template_band": "template of another band", "template_not_aligned": "template left out",
    "uneven_background": "background made even", "unknown_unit": "unit not known",
}  # fmt: skip


def assumed_notes(infos: Sequence[ExposureInfo], exposures: int) -> tuple[str, ...]:
    """Return a line for each kind of assumption about exposures, or of missing information.

    Parameters
    ----------
    infos
        Metadata of exposures of the night.
    exposures
        Total number of exposures: if not all were examined, the lines say so.
    """
    counted = Counter(flag for info in infos for flag in info.flags)
    among = f" of {count(len(infos))} looked at" if len(infos) < exposures else ""
    lines = [
        f"Assumed or not known, {count(counted[flag], 'exposure')}{among}: {words}."
        for flag, words in ASSUMPTIONS.items()
        if counted[flag]
    ]
    if lines:
        lines.append("nightstride inspect FILE tells what a file says, and writes the settings that say the rest.")
    return tuple(lines)


@dataclass(frozen=True)
class ExposureRow:
    """Row for an exposure: cells for the columns `HEADINGS`."""

    name: str
    cells: tuple[Told, ...]


def exposure_row(exposure: Exposure, info: ExposureInfo | None) -> ExposureRow:
    """Describe an exposure; unknown values are dashes. ``info`` is None if its tiles were removed."""
    record = exposure.record
    notes = ", ".join(_NOTES.get(flag, flag.replace("_", " ")) for flag in info.flags) if info else "tiles are gone"
    cells = (
        str(record.visit),
        str(record.detector),
        *(_described(info) if info else (NOTHING,) * 7),
        count(record.windows),
        count(record.windows_unscored),
        count(record.detections),
        refused_words(record.causes),
        number(sum(record.seconds.values())),
        notes,
        file_name(record.source_uri),
    )
    assumed = _assumed(info) if info else {}
    told = zip(HEADINGS, cells, strict=True)
    return ExposureRow(record.key.name, tuple(Told(name, cell, assumed.get(name, "")) for (name, _), cell in told))


def _assumed(info: ExposureInfo) -> dict[str, str]:
    """Return column -> assumption that it depends on."""
    found = dict[str, str]()
    if info.psf.source == "assumed":
        found |= {"Seeing": "PSF", "Depth": "PSF"}
    if {"ambiguous_time", "no_time"} & set(info.flags):
        found["Middle"] = "time"
    return found


def _seeing(infos: Sequence[ExposureInfo]) -> str:
    """Return the median FWHM, in arcsec if each exposure has a scale, else in px."""
    scales = [directions.scale for info in infos if (directions := compass(info)) is not None]
    if len(scales) < len(infos):
        return number(median(info.psf.fwhm_px for info in infos), 1, " px")
    return number(median(info.psf.fwhm_px * scale for info, scale in zip(infos, scales, strict=True)), 1, "″")


def _described(info: ExposureInfo) -> tuple[str, ...]:
    directions = compass(info)
    if directions is None:
        seeing = number(info.psf.fwhm_px, 2, " px")
    else:
        seeing = number(info.psf.fwhm_px * directions.scale, 2, "″")
    return (
        info.band,
        utc(info.midpoint_mjd_tai),
        seeing,
        number(info.noise, 2, f" {info.pixel_unit}"),
        number(info.zero_point, 3),
        number(depth(info), 2),
        number(100 * info.masked_fraction, 1, " %"),
    )


LOOKED_AT = 200
"""Number of exposures, spread over the night, examined for depth and seeing in the first sentence."""


def headline(night: PublishedNight, infos: Sequence[ExposureInfo]) -> tuple[Told, ...]:
    """Return the first sentence in parts: what was searched, depth in each band, and seeing."""
    searched, looked = _searched(night), spread(infos, LOOKED_AT)
    if not looked:
        return searched
    guessed = "PSF" if all(info.psf.source == "assumed" for info in looked) else ""
    limits = []
    for band in sorted({info.band for info in looked}):
        depths = [value for info in looked if info.band == band and (value := depth(info)) is not None]
        if depths:
            limits.append(f"{number(median(depths), 1)} in {band}")
    limit = f"limit {', '.join(limits)}" if limits else "limit not known: no zero point"
    return (
        *searched,
        Told("limit", limit, guessed if limits else ""),
        Told("seeing", f"seeing {_seeing(looked)}", guessed),
    )


def _searched(night: PublishedNight) -> tuple[Told, ...]:
    """Return the number of exposures searched, and of files in quarantine that do not belong to these."""
    published = {exposure.record.key for exposure in night.exposures}
    refused = [record.key for record in night.quarantined]
    lost = {key for key in refused if key is not None and key not in published}
    known = len(published) + len(lost) + len(_failed(night))
    told = [Told("searched", f"{count(len(published))} of {count(known, 'exposure')} searched")]
    if nowhere := refused.count(None):
        told.append(Told("of no known night", f"{count(nowhere, 'file')} of no known night in quarantine"))
    if further := len(refused) - nowhere - len(lost):
        told.append(Told("further files", f"{count(further, 'further file')} of these exposures in quarantine"))
    return tuple(told)


def _failed(night: PublishedNight) -> set[str]:
    """Return the files of exposures of a night without published results, which failed or were not begun."""
    summary, done = night.summary, {exposure.record.source_uri for exposure in night.exposures}
    of_run = summary.failed if summary is not None and {*summary.nights} <= {night.label} else ()
    return {*night.failed, *(trouble.uri for trouble in of_run)} - done


@dataclass(frozen=True)
class Counts:
    """Exposures of a run by outcome: a bar, its legend as (name, style, number), and their sum."""

    bar: str
    parts: tuple[tuple[str, str, str], ...]
    total: str


def lead(night: PublishedNight, infos: Sequence[ExposureInfo]) -> tuple[str, ...]:
    """Return instrument, bands, size and times of a night."""
    if not night.exposures:
        return ("No exposure was published.",)
    visits, detectors = (len({getattr(one.record, name) for one in night.exposures}) for name in ("visit", "detector"))
    size = f"{count(visits, 'visit')} of {count(detectors, 'detector')}"
    if not infos:
        return size, "tiles are gone"
    instruments = " and ".join(sorted({info.instrument for info in infos}))
    simulated = sum(SIMULATED in info.flags for info in infos)
    if simulated:
        instruments += ", simulated" if simulated == len(infos) else f", {count(simulated, 'exposure')} simulated"
    bands = ", ".join(sorted({info.band for info in infos}))
    times = [info.midpoint_mjd_tai for info in infos if "no_time" not in info.flags]
    span = f"{_span(utc(min(times))[:16], utc(max(times))[:16])} UTC" if times else "time not known"
    return instruments, bands, size, span


def _span(first: str, last: str) -> str:
    """Return two times to the minute, without repeating the date."""
    if first == last:
        return first
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def figures(night: PublishedNight, infos: Sequence[ExposureInfo]) -> tuple[Figure, ...]:
    """Return the key figures of a night; those about time only if recorded by a run."""
    records = [exposure.record for exposure in night.exposures]
    windows, unscored = sum(r.windows for r in records), sum(r.windows_unscored for r in records)
    reliable = pc.sum(pc.greater_equal(night.sources["reliability"], GRADES[0][1])).as_py() or 0
    found = [
        Figure("Exposures published", count(len(records)), f"{count(len(night.quarantined))} quarantined"),
        Figure("Places searched", count(windows), f"{count(unscored)} too masked to score"),
        Figure("Detections", count(night.sources.num_rows), f"{count(reliable)} of reliability {GRADES[0][1]} or more"),
    ]
    depths = [value for info in spread(infos, LOOKED_AT) if (value := depth(info)) is not None]
    if depths:
        found.append(
            Figure(
                "Median depth",
                f"{number(median(depths), 2)} mag",
                f"point source, 5σ; {count(len(depths), 'exposure')}",
            )
        )
    if night.summary and "wall" in night.summary.seconds:
        wall = night.summary.seconds["wall"]
        found.append(Figure("Wall time", duration(wall), _rate(windows, night, wall)))
    return tuple(found)


def counts(exposures: ExposureCounts) -> Counts:
    """Count the exposures of a run by outcome."""
    kinds = ("done", "skipped", "quarantined", "failed")
    values = {kind: getattr(exposures, kind) for kind in kinds}
    title = f"{count(exposures.seen, 'exposure')}: " + ", ".join(f"{value} {kind}" for kind, value in values.items())
    bar = stacked_bar([(kind, kind, value) for kind, value in values.items() if value], title)
    parts = tuple((kind, kind, count(value)) for kind, value in values.items())
    return Counts(bar, parts, f"= {count(exposures.seen)} seen by this run")


def _rate(windows: int, night: PublishedNight, wall: float) -> str:
    """Return the windows per second, if the run searched everything on the page."""
    if night.summary is None or night.summary.windows != windows or wall <= 0:
        return ""
    return f"{count(round(windows / wall))} places a second"


def snr_histogram(snr: NDArray[np.floating], reliability: NDArray[np.floating]) -> str:
    """Return an SVG of the number of detections by S/N, divided by class of reliability."""
    return _histogram(snr, reliability, SNR_EDGES, "signal to noise")


def length_histogram(length: NDArray[np.floating], reliability: NDArray[np.floating]) -> str:
    """Return an SVG of the number of detections by length in px, divided by class of reliability."""
    return _histogram(length, reliability, LENGTH_EDGES, "trail length, px")


def _histogram(
    value: NDArray[np.floating], reliability: NDArray[np.floating], edges: tuple[int, ...], across: str
) -> str:
    ends = [-np.inf, *edges, np.inf]
    upper = np.inf
    series = []
    for letter, least, words in GRADES:
        chosen = (reliability >= least) & (reliability < upper)
        heights, _ = np.histogram(value[chosen], ends)
        series.append(Bars(f"reliability {words}", f"grade-{letter}", tuple(float(height) for height in heights)))
        upper = least
    ticks = count_ticks(max(np.sum([bars.heights for bars in series], axis=0)))
    title = f"Histogram of {count(len(value), 'detection')} by {across}"
    labels = ("0", *(str(edge) for edge in edges), "∞")
    return bar_chart(ChartFrame(labels, ticks[-1], ticks, title, across, "detections"), series)


NIGHTS = 60
"""Maximum number of nights in a chart."""

_WORDS: dict[Verdict, str] = {"pass": "pass", "warn": "warning", "fail": "fail", "no_history": "not enough history"}


@dataclass(frozen=True)
class QualityLine:
    """Row of a table: cells, the verdict as style class and in words, the problem and its remedy."""

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
    """Describe the verdicts on a night recorded in the ledger; empty if it was not judged."""
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
            continue  # one night is not a history; its values are in the table
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
