"""Plan and outcomes of the exposures of a run."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from flows.inputs.source import Source, name_of
from schemas.errors import NightstrideError
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, SourceStat
from schemas.summary import STOPPED, CauseCount, Trouble


@dataclass(frozen=True)
class Stale:
    """Reason why an exposure must be processed: a code for programs and a text for people."""

    code: Literal["new", "failed", "input", "outdated", "damaged", "tiles"]
    text: str


NEW = Stale("new", "not in the ledger yet")
"""State of an exposure that was never searched."""


@dataclass(frozen=True)
class Item:
    """Exposure to search.

    Attributes
    ----------
    source, key
        Source and key of the exposure.
    stat
        State of its files when the run was planned.
    sha256
        SHA-256 of the bytes of its files, if known.
    record
        Record in the ledger.
    superseded
        Records of other exposures that were read from the same source; they are withdrawn when this one is done.
    why
        Reason for the search.
    """

    source: Source
    key: ExposureKey
    stat: SourceStat | None
    sha256: str | None = None
    record: ExposureRecord | None = None
    superseded: tuple[ExposureRecord, ...] = ()
    why: Stale = NEW


@dataclass(frozen=True, slots=True)
class PublishedExposure:
    """Exposure whose published results are up to date, as reported by a run without further work.

    Attributes
    ----------
    key, source_uri
        Key, and URI from which it was read.
    detections, causes, flags
        As in its record.
    source
        Its current source; None: only copies of it were given.
    """

    key: ExposureKey
    source_uri: str
    detections: int = 0
    causes: Mapping[str, CauseCount] = field(default_factory=dict)
    source: Source | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Plan for each source.

    Attributes
    ----------
    todo
        Exposures to search, by night, visit and detector.
    published
        Exposures whose published results are up to date, each once, even if it was given several times.
    skipped
        Number of sources that need no work: published ones, and further copies of a source.
    quarantined
        Sources that cannot be used.
    failed
        Sources that could not be read this time.
    withdrawn
        Records of published exposures whose source can no longer be used.
    """

    todo: tuple[Item, ...]
    published: tuple[PublishedExposure, ...]
    skipped: int
    quarantined: tuple[Trouble, ...] = ()
    failed: tuple[Trouble, ...] = ()
    withdrawn: tuple[ExposureRecord, ...] = ()

    @property
    def seen(self) -> int:
        """Return the number of sources."""
        return len(self.todo) + self.skipped + len(self.quarantined) + len(self.failed)

    @property
    def sources(self) -> dict[ExposureKey, Source]:
        """Return the current sources of the published exposures, as far as they are known."""
        return {one.key: one.source for one in self.published if one.source is not None}

    @property
    def announcement(self) -> str:
        """Return a sentence with the numbers of sources to search and of those that cannot be used."""
        told = [f"{len(self.todo)} of {self.seen} exposures to be searched"]
        for what, troubles in (("quarantined", self.quarantined), ("not readable now", self.failed)):
            codes = sorted({one.code for one in troubles})
            if codes:
                told.append(f"{len(troubles)} {what} ({', '.join(codes[:3])}{', ...' if len(codes) > 3 else ''})")
        return ", ".join(told)


@dataclass(frozen=True)
class Outcome:
    """Result of one exposure of a run.

    Attributes
    ----------
    item, status
        Exposure, and its outcome.
    windows, unscored, detections
        Numbers of windows searched, of windows without a score, and of published rows of `dia_source`.
    seconds
        Stage -> worker time, s.
    not_run
        Stage -> reason why it had no input.
    trouble
        Reason why the exposure is not done.
    causes
        Known cause of false streaks -> numbers of candidates.
    searched
        Whether this run searched its windows, rather than keeping earlier results.
    exposure_ended
        End of the exposure, UTC; None if it was not read.
    flags
        Flags of the exposure; empty if it was not read.
    """

    item: Item
    status: Literal["done", "quarantined", "failed"]
    windows: int = 0
    unscored: int = 0
    detections: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)
    trouble: Trouble | None = None
    causes: Mapping[str, CauseCount] = field(default_factory=dict)
    searched: bool = True
    exposure_ended: datetime | None = None
    flags: tuple[str, ...] = ()


def trouble_of(item: Item, error: BaseException) -> Trouble:
    """Return a one-line description of the error of an exposure."""
    if isinstance(error, NightstrideError):
        return Trouble(uri=name_of(item.source), code=error.code, message=str(error))
    name, kind = name_of(item.source), type(error).__name__
    text = " ".join(str(error).split()) or "no message"
    message = "; ".join([f"{name}: {kind}: {text[:500]}", *getattr(error, "__notes__", ())])
    return Trouble(uri=name, code=kind, message=message)


def unfinished(item: Item, stopped: bool, warnings: Sequence[str]) -> Trouble:
    """Return why an exposure has no outcome after its flow ended: the run was stopped, or the flow failed."""
    if stopped:
        name = name_of(item.source)
        message = f"{name}: was not begun, as the run was asked to stop. To fix, run again."
        return Trouble(uri=name, code=STOPPED, message=message)
    return trouble_of(item, RuntimeError(warnings[0] if warnings else "the flow ended early"))


def total_seconds(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the total times by stage; times outside of stages come last."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    if "other" in total:
        total["other"] = total.pop("other")
    return dict(total)


def total_causes(parts: Iterable[Mapping[str, CauseCount]]) -> dict[str, CauseCount]:
    """Return the total counts by cause."""
    total: dict[str, CauseCount] = {}
    for part in parts:
        for name, counted in part.items():
            total[name] = total.get(name, CauseCount()) + counted
    return total
