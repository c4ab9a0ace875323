"""What a run has to do: decided from file headers, the ledger and the published files, before anything is started."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.inputs.source import Source, name_of
from flows.inputs.source_state import stat_of
from flows.pipeline.lineage import NEW, Stale, damaged, memo_name, outdated
from flows.pipeline.models import model_digests
from flows.pipeline.unpublish import Name, SourceIndex, Superseded, name_tuple, unpublish
from flows.storage.bucket_path import BucketPath, side_by_side
from flows.storage.ledger import Ledger
from flows.storage.object_store import PROTOCOL
from flows.storage.quarantine import Quarantine
from schemas.errors import BadInput, NightstrideError, Retryable
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, SourceMemo, SourceStat
from schemas.settings import Settings
from schemas.stage import Stage
from schemas.summary import Trouble

UNREAD = frozenset({"unreadable_file"})
"""Codes of failures to reach a file: they say nothing about its bytes, and what is published of it stays."""


@dataclass(frozen=True)
class Item:
    """An exposure to be searched.

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


@dataclass(frozen=True)
class Rejected:
    """A source that cannot be used, and the exposure that it says it is, if it does."""

    source: Source
    error: BadInput
    key: ExposureKey | None


@dataclass(frozen=True)
class Plan:
    """What becomes of each source.

    Attributes
    ----------
    todo
        To be searched, by night, visit and detector.
    published
        Records of exposures whose results are published and up to date; one for each, however often it was given.
    skipped
        How many sources need no work: published ones, and further copies of a source.
    quarantined
        Sources that cannot be used.
    failed
        Sources that could not be read this time.
    withdrawn
        Records of exposures that were published, and whose source cannot be used any more.
    """

    todo: tuple[Item, ...]
    published: tuple[ExposureRecord, ...]
    skipped: int
    quarantined: tuple[Trouble, ...] = ()
    failed: tuple[Trouble, ...] = ()
    withdrawn: tuple[ExposureRecord, ...] = ()

    @property
    def seen(self) -> int:
        """Number of sources."""
        return len(self.todo) + self.skipped + len(self.quarantined) + len(self.failed)


class Planner:
    """Compares sources with what is published under ``out``.

    Parameters
    ----------
    out, settings, pipeline
        Of the run.
    probe, sha256_of
        Give the identity of a source from its headers, and the digest of the bytes of its files.
    dry
        Whether to plan only: nothing is written down, put into quarantine or withdrawn.
    index
        Which exposures the ledger has from which source, if somebody keeps that up to date; None: it is read anew.
    """

    def __init__(
        self,
        out: Path,
        settings: Settings,
        pipeline: Sequence[Stage],
        probe: Callable[[Source, Settings], ExposureKey],
        sha256_of: Callable[[Source, Settings], str],
        *,
        dry: bool = False,
        index: SourceIndex | None = None,
    ) -> None:
        self._dry, self._index = dry, index
        self._out, self._settings, self._pipeline = out, settings, pipeline
        self._probe, self._sha256_of = probe, sha256_of
        self._ledger, self._quarantine = Ledger(out), Quarantine(out)
        self._models = model_digests(pipeline, settings)
        self._quarantined: list[Trouble] = []
        self._failed: list[Trouble] = []
        self._rejected: list[Rejected] = []
        self._withdrawn: list[ExposureRecord] = []

    def plan(self, sources: Iterable[Source]) -> Plan:
        """Decide what to do with each source; keep the reasons for those that cannot be used.

        Raises
        ------
        Misconfigured
            A model or the ledger cannot be used.
        """
        self._quarantined, self._failed, self._rejected, self._withdrawn = [], [], [], []
        groups: dict[Name, list[Item]] = {}
        for item in self._identified(sorted(set(sources), key=name_of)):
            groups.setdefault(name_tuple(item.key), []).append(item)
        todo, published, skipped, claimed = [], [], 0, set()
        chosen = [(name, groups[name], *self._one_of(groups[name])) for name in sorted(groups)]
        why = self._reasons([winner for _, _, winner, _ in chosen if winner is not None])
        for name, group, winner, copies in chosen:
            skipped += copies
            if winner is not None or copies:
                claimed.add(name)
            if winner is None:
                published += [record for record in (group[0].record,) if record is not None and copies]
                continue
            if winner.record is None or why[winner.key]:
                todo.append(replace(winner, why=why[winner.key] or NEW))
            elif winner.record.status == "done":
                published.append(winner.record)
                skipped += 1
            else:
                code, _, message = (winner.record.reason or "").partition(": ")
                self._quarantined.append(Trouble(uri=name_of(winner.source), code=code, message=message))
        todo = self._settle(todo, claimed)
        troubles = tuple(self._quarantined), tuple(self._failed)
        return Plan(tuple(todo), tuple(published), skipped, *troubles, tuple(self._withdrawn))

    def _settle(self, todo: list[Item], claimed: set[Name]) -> list[Item]:
        """Say of each source what it stood for before, now that it is known who stands for what; put away the bad."""
        if not todo and not self._rejected:
            return todo
        superseded = Superseded(self._index or SourceIndex(self._ledger), claimed)
        for one in self._rejected:
            self._put_away(one, superseded)
        return [replace(item, superseded=superseded.by(name_of(item.source), item.key)) for item in todo]

    def _identified(self, sources: Sequence[Source]) -> list[Item]:
        """Name the exposures; what waits for an object store waits side by side."""
        remote = isinstance(self._out, BucketPath) or any(source.uri.startswith(PROTOCOL) for source in sources)
        found = side_by_side(lambda source: self._attempt(source, self.identify, source), sources, remote)
        self._rejected.sort(key=lambda one: name_of(one.source))
        self._failed.sort(key=lambda one: one.uri)
        return [item for item in found if item is not None]

    def _reasons(self, items: Sequence[Item]) -> dict[ExposureKey, Stale | None]:
        """Say why each has to be searched; None: it is published and up to date."""

        def reason(item: Item) -> Stale | None:
            return self.outdated(item) or (damaged(item.record, self._out) if item.record is not None else None)

        reasons = side_by_side(reason, items, isinstance(self._out, BucketPath))
        return {item.key: why for item, why in zip(items, reasons, strict=True)}

    def _attempt(self, source: Source, step: Callable[[Any], Item], subject: Any) -> Item | None:
        """Take a step that reads a source; what goes wrong is kept, and the source counted."""
        try:
            return step(subject)
        except BadInput as error:
            self._rejected.append(Rejected(source, error, None))
        except Retryable as error:
            self._failed.append(_trouble(source, error))
        return None

    def identify(self, source: Source) -> Item:
        """Name the exposure in a source, reading as little as possible; nothing is written.

        Raises
        ------
        BadInput, Retryable
            The source does not say which exposure it is, or cannot be read.
        """
        stat = stat_of(source)
        memo = self._ledger.remembered(memo_name(source, self._settings))
        if memo is not None and stat == SourceStat(size=memo.size, mtime_ns=memo.mtime_ns, each=memo.each):
            return Item(source, memo.key, stat, memo.sha256, self._ledger.get(memo.key))
        key = self._probe(source, self._settings)
        return Item(source, key, stat, None, self._ledger.get(key))

    def _one_of(self, group: list[Item]) -> tuple[Item | None, int]:
        """Choose among sources of one exposure: the one in the ledger, or the first; count copies, keep conflicts."""
        record = group[0].record
        if len(group) == 1 and (record is None or record.status == "failed"):
            return group[0], 0
        known = [self._attempt(item.source, self._hashed, item) for item in group]
        hashed = [item for item in known if item is not None]
        if not hashed:
            return None, 0
        holder = record.source_uri if record is not None and record.status == "done" else name_of(hashed[0].source)
        winner = next((item for item in hashed if name_of(item.source) == holder), None)
        if winner is None and record is not None:
            # The file was moved: a copy takes its place, so that the results can be made again from it.
            winner = next((item for item in hashed if item.sha256 == record.source_sha256), None)
        first = winner.source if winner is not None else Source(holder)
        rest = [item for item in hashed if item is not winner]
        conflicts = [item for item in rest if not self._is_copy(item.source, first)]
        for item in conflicts:
            self._rejected.append(Rejected(item.source, _conflict(item, holder), item.key))
        return winner, len(rest) - len(conflicts)

    def _is_copy(self, one: Source, other: Source) -> bool:
        """Return whether the difference images have the same bytes, whatever lies beside them."""
        try:
            first, second = (
                self._sha256_of(Source(source.uri, index=source.index), self._settings) for source in (one, other)
            )
        except (BadInput, Retryable):
            return False
        return first == second

    def _hashed(self, item: Item) -> Item:
        if item.sha256 is not None:
            return item
        sha256 = self._sha256_of(item.source, self._settings)
        if not self._dry:
            remember(self._ledger, item, sha256, self._settings)
        return replace(item, sha256=sha256)

    def outdated(self, item: Item) -> Stale | None:
        """Tell by digests alone whether an exposure is to be done, and why: see `flows.pipeline.lineage.outdated`."""
        return outdated(item.source, item.sha256, item.record, self._pipeline, self._models, self._settings)

    def _put_away(self, one: Rejected, superseded: Superseded) -> None:
        """Put a source in quarantine, and withdraw what was published of an earlier content of its file."""
        uri = name_of(one.source)
        if self._dry:
            self._quarantined.append(_trouble(one.source, one.error))
            return
        try:
            if one.error.code not in UNREAD:
                for record in superseded.by(uri, one.key):
                    unpublish(record, self._out)
                    self._withdrawn.append(record)
            self._quarantine.put(one.error, uri, one.key)
        except Retryable as error:  # the disk is full: the next run tries again, this one goes on
            self._failed.append(_trouble(one.source, error))
        else:
            self._quarantined.append(_trouble(one.source, one.error))


def remember(ledger: Ledger, item: Item, sha256: str, settings: Settings) -> None:
    """Keep what a source holds, so that a rerun need not read it."""
    if item.stat is not None:
        name = memo_name(item.source, settings)
        ledger.remember(SourceMemo(**item.stat.model_dump(), uri=name, sha256=sha256, key=item.key))


def _trouble(source: Source, error: NightstrideError) -> Trouble:
    return Trouble(uri=name_of(source), code=error.code, message=str(error))


def _conflict(item: Item, holder: str) -> BadInput:
    return BadInput(
        "conflict",
        name_of(item.source),
        f"says it is exposure {item.key.name} of night {item.key.night}, as {holder} does, but the files differ.",
        "keep one of them, or correct the identity in the other.",
    )
