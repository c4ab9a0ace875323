"""What a night came to, in a few figures and histograms."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.results.page.chart import Bars, ChartFrame, bar_chart, count_ticks, stacked_bar
from flows.results.page.night import PublishedNight
from flows.results.page.words import GRADES, Figure, count, duration, number, utc
from flows.results.quality.measure import depth
from schemas.exposure import ExposureInfo
from schemas.summary import ExposureCounts


@dataclass(frozen=True)
class Counts:
    """Exposures of a run by what became of them: a bar, its key as (name, style, number), and their sum."""

    bar: str
    parts: tuple[tuple[str, str, str], ...]
    total: str


def lead(night: PublishedNight, infos: Sequence[ExposureInfo]) -> tuple[str, ...]:
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


def figures(night: PublishedNight, infos: Sequence[ExposureInfo]) -> tuple[Figure, ...]:
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


def _rate(windows: int, night: PublishedNight, wall: float) -> str:
    """Windows per second, where the run searched all of what the page is about."""
    searched = night.summary.windows if night.summary else 0
    return f"{count(round(searched / wall))} windows a second" if searched == windows and wall > 0 else ""


SNR_EDGES = (4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100)
LENGTH_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Inner edges: the first and the last bin are open."""


def snr_histogram(snr: NDArray[np.floating], reliability: NDArray[np.floating]) -> str:
    """SVG of the number of detections by S/N, shared out by class of reliability."""
    return _histogram(snr, reliability, SNR_EDGES, "signal to noise")


def length_histogram(length: NDArray[np.floating], reliability: NDArray[np.floating]) -> str:
    """SVG of the number of detections by length in px, shared out by class of reliability."""
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
