"""Exposures of a run: plan and outcome."""

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
    """Reason why an exposure is to be done: a code for machines, a text for people."""

    code: Literal["new", "failed", "input", "outdated", "damaged", "tiles"]
    text: str


NEW = Stale("new", "not in the ledger yet")
"""Of an exposure that was never done."""


@dataclass(frozen=True)
class Item:
    """Exposure to be searched.

    Attributes
    ----------
    source, key
        Where it is, and which it is.
    stat
        Of its files when the run was planned.
    sha256
        Of the bytes of its files, if they are known.
    record
        What the ledger holds of it.
    superseded
        Records of other exposures that the source was taken for: they are withdrawn when it is done.
    why
        Why it has to be searched.
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
    """Exposure whose results are published and up to date: what a run says of it without doing anything.

    Attributes
    ----------
    key, source_uri
        Which it is, and where it was read from.
    detections, causes, flags
        As in its record.
    source
        That stands for it now; None: there are only copies of it.
    """

    key: ExposureKey
    source_uri: str
    detections: int = 0
    causes: Mapping[str, CauseCount] = field(default_factory=dict)
    source: Source | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Plan of what becomes of each source.

    Attributes
    ----------
    todo
        Exposures to be searched, by night, visit and detector.
    published
        Exposures whose results are published and up to date; each once, however often it was given.
    skipped
        Number of sources that need no work: published ones, and further copies of a source.
    quarantined
        Sources that cannot be used.
    failed
        Sources that could not be read this time.
    withdrawn
        Records of exposures that were published, and whose source cannot be used any more.
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
        """Return where the published exposures are now, as far as it is known."""
        return {one.key: one.source for one in self.published if one.source is not None}

    @property
    def announcement(self) -> str:
        """Return how many of the sources are to be searched, and how many cannot be, in words."""
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
        Windows searched, those of them that could not be scored, rows of `dia_source` published.
    seconds
        Stage -> worker time, s.
    not_run
        Stage -> why it had nothing to work on.
    trouble
        Why it is not done.
    causes
        Known cause of false streaks -> candidates that had it.
    searched
        Whether this run searched its windows, or kept what was found in them before.
    exposure_ended
        End of the exposure, UTC; None if it was not read.
    flags
        Of the exposure; none if it was not read.
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
    """Describe in a line what went wrong with an exposure."""
    if isinstance(error, NightstrideError):
        return Trouble(uri=name_of(item.source), code=error.code, message=str(error))
    name, kind = name_of(item.source), type(error).__name__
    text = " ".join(str(error).split()) or "no message"
    message = "; ".join([f"{name}: {kind}: {text[:500]}", *getattr(error, "__notes__", ())])
    return Trouble(uri=name, code=kind, message=message)


def unfinished(item: Item, stopped: bool, warnings: Sequence[str]) -> Trouble:
    """Return why an exposure has no outcome where a flow has ended: it was to stop, or something went wrong in it."""
    if stopped:
        name = name_of(item.source)
        message = f"{name}: was not begun, as the run was asked to stop. To fix, run again."
        return Trouble(uri=name, code=STOPPED, message=message)
    return trouble_of(item, RuntimeError(warnings[0] if warnings else "the flow ended early"))


def total_seconds(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sum times by stage; what belongs to none comes last."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    if "other" in total:
        total["other"] = total.pop("other")
    return dict(total)


def total_causes(parts: Iterable[Mapping[str, CauseCount]]) -> dict[str, CauseCount]:
    """Sum counts by cause."""
    total: dict[str, CauseCount] = {}
    for part in parts:
        for name, counted in part.items():
            total[name] = total.get(name, CauseCount()) + counted
    return total
