"""Key figures and tables of a night: exposures, causes, troubles, times."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.pipeline.outcome import total_causes
from flows.results.page.chart import Bars, ChartFrame, bar_chart, count_ticks, stacked_bar
from flows.results.page.night import Exposure, PublishedNight
from flows.results.page.words import FLAG_WORDS, GRADES, NOTHING, Figure, count, duration, number, utc
from flows.results.quality.measure import compass, depth
from schemas.dia_source import DetectionFlag
from schemas.exposure import ASSUMPTIONS, ExposureInfo
from schemas.summary import ELAPSED, CauseCount, ExposureCounts

SNR_EDGES = (4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100)

LENGTH_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Inner edges: the first and the last bin are open."""


@dataclass(frozen=True)
class CauseRow:
    """Cause, and the numbers of candidates with it that were refused, and published with its flag."""

    cause: str
    refused: str
    published: str


def cause_rows(night: PublishedNight) -> tuple[CauseRow, ...]:
    """List the causes that some candidate of the night had, in the order of their flags."""
    total = total_causes(exposure.record.causes for exposure in night.exposures)
    return tuple(
        CauseRow(cause_words(name), count(counted.refused), count(counted.published))
        for name, counted in total.items()
        if counted != CauseCount()
    )


def refused_words(causes: Mapping[str, CauseCount]) -> str:
    """Return the candidates refused by cause, in a line; a dash if there are none."""
    parts = [f"{cause_words(name)} {count(counted.refused)}" for name, counted in causes.items() if counted.refused]
    return ", ".join(parts) or NOTHING


def cause_words(name: str) -> str:
    """Return words for a cause, the name of a flag in lower case; one that is not known is returned as it is."""
    flag = DetectionFlag.__members__.get(name.upper())
    return name.replace("_", " ") if flag is None else FLAG_WORDS[flag]


@dataclass(frozen=True)
class TroubleRow:
    """Row of one input: its place, the problem, the remedy ("" if none is known)."""

    status: str
    source: str
    code: str
    problem: str
    remedy: str


def troubles(night: PublishedNight) -> tuple[TroubleRow, ...]:
    """List inputs that failed in this run, then those in quarantine, by source."""
    failed = night.summary.failed if night.summary else ()
    return (
        *(TroubleRow("failed", _short(trouble.uri), trouble.code, trouble.message, "") for trouble in failed),
        *(
            TroubleRow(
                "quarantined",
                _short(record.source_uri),
                record.code,
                f"{record.where}: {record.problem}",
                record.remedy,
            )
            for record in night.quarantined
        ),
    )


def _short(uri: str) -> str:
    return PurePosixPath(uri).name or uri


_OWN_STYLES = {"other": "part-other", "waiting": "part-waiting"}


@dataclass(frozen=True)
class StageTime:
    """Worker time of one part of the work, in words; ``style`` names its colour in the style sheet."""

    stage: str
    style: str
    time: str
    share: str


@dataclass(frozen=True)
class Timing:
    """Bar and legend of the worker time by its use."""

    bar: str
    stages: tuple[StageTime, ...]
    total: str


def timing(seconds: Mapping[str, float]) -> Timing | None:
    """Divide the worker time among the parts of the work; None if nothing was timed."""
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
)
"""Names of the columns, and what they are measured in."""

_NOTES = {
    "no_wcs": "no WCS",
    "no_zero_point": "no zero point",
    "assumed_psf": "PSF assumed",
    "assumed_gain": "gain assumed",
    "assumed_site": "site assumed",
    "ambiguous_time": "time in doubt",
    "psf_differs": "PSF of header and stars differ",
    "unknown_unit": "unit not known",
}


def assumed_notes(infos: Sequence[ExposureInfo]) -> tuple[str, ...]:
    """Return a line for each kind of assumption that the exposures rest on; what is null is in the tables."""
    counted = Counter(flag for info in infos for flag in info.flags if not flag.startswith("no_"))
    return tuple(
        f"Assumed for {count(counted[flag], 'exposure')}: {words}."
        for flag, words in ASSUMPTIONS.items()
        if counted[flag]
    )


@dataclass(frozen=True)
class ExposureRow:
    """Row of an exposure: cells in the order of `HEADINGS`."""

    name: str
    cells: tuple[str, ...]


def exposure_row(exposure: Exposure, info: ExposureInfo | None) -> ExposureRow:
    """Describe an exposure; what is not known is a dash. ``info`` is None where its tiles are gone."""
    record = exposure.record
    cells = (
        str(record.visit),
        str(record.detector),
        *(_described(info) if info else (NOTHING,) * 7),
        count(record.windows),
        count(record.windows_unscored),
        count(record.detections),
        refused_words(record.causes),
        number(sum(record.seconds.values())),
        ", ".join(_NOTES.get(flag, flag.replace("_", " ")) for flag in info.flags) if info else "tiles are gone",
    )
    return ExposureRow(record.key.name, cells)


def _described(info: ExposureInfo) -> tuple[str, ...]:
    directions = compass(info)
    if directions is None:
        seeing = number(info.psf.fwhm_px, 2, " px")
    else:
        seeing = number(info.psf.fwhm_px * directions.scale, 2, "″")
    if info.psf.source == "assumed":
        seeing += " assumed"
    return (
        info.band,
        utc(info.midpoint_mjd_tai),
        seeing,
        number(info.noise, 2, f" {info.pixel_unit}"),
        number(info.zero_point, 3),
        number(depth(info), 2),
        number(100 * info.masked_fraction, 1, " %"),
    )


@dataclass(frozen=True)
class Counts:
    """Exposures of a run by outcome: a bar, its key as (name, style, number), and their sum."""

    bar: str
    parts: tuple[tuple[str, str, str], ...]
    total: str


def lead(night: PublishedNight, infos: Sequence[ExposureInfo]) -> tuple[str, ...]:
    """Return instrument, bands, size and times of a night."""
    if not infos:
        return ("No exposure was published.",)
    instruments = " and ".join(sorted({info.instrument for info in infos}))
    bands = ", ".join(sorted({info.band for info in infos}))
    visits = len({exposure.record.visit for exposure in night.exposures})
    detectors = len({exposure.record.detector for exposure in night.exposures})
    times = [info.midpoint_mjd_tai for info in infos]
    span = _span(utc(min(times))[:16], utc(max(times))[:16])
    size = f"{count(visits, 'visit')} of {count(detectors, 'detector')}"
    return instruments, bands, size, f"{span} UTC"


def _span(first: str, last: str) -> str:
    """Return two times to the minute, without repetition."""
    if first == last:
        return first
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def figures(night: PublishedNight, infos: Sequence[ExposureInfo]) -> tuple[Figure, ...]:
    """Return the key figures of a night; those of time only where a run has recorded them."""
    records = [exposure.record for exposure in night.exposures]
    windows, unscored = sum(r.windows for r in records), sum(r.windows_unscored for r in records)
    reliable = pc.sum(pc.greater_equal(night.sources["reliability"], GRADES[0][1])).as_py() or 0
    found = [
        Figure("Exposures published", count(len(records)), f"{count(len(night.quarantined))} quarantined"),
        Figure("Places searched", count(windows), f"{count(unscored)} too masked to score"),
        Figure("Detections", count(night.sources.num_rows), f"{count(reliable)} of reliability {GRADES[0][1]} or more"),
    ]
    depths = [value for info in infos if (value := depth(info)) is not None]
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
    """Return the windows per second, where the run searched everything on the page."""
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
