"""Tables of the night page: exposures, causes, troubles, times."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from flows.pipeline.outcome import total_causes
from flows.results.page.chart import stacked_bar
from flows.results.page.night import Exposure, PublishedNight
from flows.results.page.words import FLAG_WORDS, NOTHING, count, duration, number, utc
from flows.results.quality.measure import compass, depth
from schemas.dia_source import DetectionFlag
from schemas.exposure import ExposureInfo
from schemas.summary import ELAPSED, CauseCount


@dataclass(frozen=True)
class CauseRow:
    """A cause, and how many candidates with it were refused, and published with its flag."""

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
    """Candidates refused by cause, in a line; a dash if there are none."""
    parts = [f"{cause_words(name)} {count(counted.refused)}" for name, counted in causes.items() if counted.refused]
    return ", ".join(parts) or NOTHING


def cause_words(name: str) -> str:
    """Words for a cause, which is the name of a flag in lower case; one that is not known is given as it is."""
    flag = DetectionFlag.__members__.get(name.upper())
    return name.replace("_", " ") if flag is None else FLAG_WORDS[flag]


@dataclass(frozen=True)
class TroubleRow:
    """One input: where it is, what is wrong with it, the remedy ("" if none is known)."""

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
    """Bar and legend of the worker time by what it went to."""

    bar: str
    stages: tuple[StageTime, ...]
    total: str


def timing(seconds: Mapping[str, float]) -> Timing | None:
    """Share out the worker time among the parts of the work; None if nothing was timed."""
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

_NOTES = {"no_wcs": "no WCS", "no_zero_point": "no zero point", "assumed_psf": "PSF assumed"}


@dataclass(frozen=True)
class ExposureRow:
    """Cells in the order of `HEADINGS`."""

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
    return (
        info.band,
        utc(info.midpoint_mjd_tai),
        seeing,
        number(info.noise, 2, f" {info.pixel_unit}"),
        number(info.zero_point, 3),
        number(depth(info), 2),
        number(100 * info.masked_fraction, 1, " %"),
    )
