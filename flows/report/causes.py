"""Candidates that had a known cause of false streaks."""

from collections.abc import Mapping
from dataclasses import dataclass

from flows.outcome import total_causes
from flows.report.night import Night
from flows.report.words import FLAG_WORDS, NOTHING, count
from schemas.cause_count import CauseCount
from schemas.dia_source import DetectionFlag


@dataclass(frozen=True)
class CauseRow:
    """A cause, and how many candidates with it were refused, and published with its flag."""

    cause: str
    refused: str
    published: str


def cause_rows(night: Night) -> tuple[CauseRow, ...]:
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
