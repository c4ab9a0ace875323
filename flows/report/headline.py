"""What a night came to, in a few figures and sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import pyarrow.compute as pc

from flows.report.chart import stacked_bar
from flows.report.night import Night
from flows.report.sky import depth
from flows.report.words import GRADES, count, duration, number, utc
from schemas.exposure import ExposureInfo
from schemas.summary import ExposureCounts


@dataclass(frozen=True)
class Figure:
    """A key figure."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Counts:
    """Exposures of a run by what became of them: a bar, its key as (name, style, number), and their sum."""

    bar: str
    parts: tuple[tuple[str, str, str], ...]
    total: str


def lead(night: Night, infos: Sequence[ExposureInfo]) -> tuple[str, ...]:
    """Instrument, bands, size and times of a night."""
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
    """Two times to the minute, with nothing said twice."""
    if first == last:
        return first
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def figures(night: Night, infos: Sequence[ExposureInfo]) -> tuple[Figure, ...]:
    """Key figures of a night; those of time only where a run tells them."""
    records = [exposure.record for exposure in night.exposures]
    windows, unscored = sum(r.windows for r in records), sum(r.windows_unscored for r in records)
    reliable = pc.sum(pc.greater_equal(night.sources["reliability"], GRADES[0][1])).as_py() or 0
    found = [
        Figure("Exposures published", count(len(records)), f"{count(len(night.quarantined))} quarantined"),
        Figure("Windows searched", count(windows), f"{count(unscored)} too masked to score"),
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
    """Share a run out by what became of its exposures."""
    kinds = ("done", "skipped", "quarantined", "failed")
    values = {kind: getattr(exposures, kind) for kind in kinds}
    title = f"{count(exposures.seen, 'exposure')}: " + ", ".join(f"{value} {kind}" for kind, value in values.items())
    bar = stacked_bar([(kind, kind, value) for kind, value in values.items() if value], title)
    parts = tuple((kind, kind, count(value)) for kind, value in values.items())
    return Counts(bar, parts, f"= {count(exposures.seen)} seen by this run")


def _rate(windows: int, night: Night, wall: float) -> str:
    """Windows per second, where the run searched all of what the page is about."""
    searched = night.summary.windows if night.summary else 0
    return f"{count(round(searched / wall))} windows a second" if searched == windows and wall > 0 else ""
