"""Plan of a run, made from file headers, the ledger and the published files before any work starts."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple

from flows.inputs.source import Source, name_of
from flows.inputs.source_state import has_bytes, stat_of
from flows.pipeline.lineage import damaged, memo_name, memo_of, outdated, without_tiles
from flows.pipeline.models import model_digests
from flows.pipeline.outcome import Item, Plan, PublishedExposure, Stale
from flows.pipeline.superseded import Name, Superseded, name_tuple
from flows.runtime.parallel import Found, Given, side_by_side
from flows.storage.bucket_path import BucketPath
from flows.storage.ledger import Ledger, unpublish
from flows.storage.object_store import PROTOCOL
from flows.storage.quarantine import Quarantine
from schemas.errors import BadInput, NightstrideError, Retryable
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, SourceFile, SourceStat, file_of_source
from schemas.settings import Settings
from schemas.stage import Stage
from schemas.summary import Trouble

PAGE = 1000
"""Number of exposures whose records are in memory at once."""

MOST_EXAMINED = 20
"""Maximum number of sources that a plan reads completely to tell damage from a conflict, as it must be quick."""

LARGEST_EXAMINED = 2**28
"""Maximum size of such a source, bytes."""

UNREAD = frozenset({"unreadable_file", "not_a_file", "bad_name", "unexpected_error"})
"""Codes of failures to read a file that do not depend on its bytes, so its published results stay."""


class Rejected(NamedTuple):
    """Source that cannot be used, with the exposure given in its header, if any."""

    source: Source
    error: BadInput
    key: ExposureKey | None


class Unread(NamedTuple):
    """Source that could not be read this time."""

    source: Source
    error: Retryable


class Chosen(NamedTuple):
    """Exposure with its sources, and the source chosen for it.

    Attributes
    ----------
    name, record
        Name of the exposure, and its record in the ledger.
    winner
        Chosen source, if any can be used.
    copies
        Number of further copies of that source.
    refused
        Sources that cannot be read, or that have the identity of the exposure but different content.
    why
        Reason for a search; None: nothing needs to be done.
    """

    name: Name
    record: ExposureRecord | None
    winner: Item | None
    copies: int = 0
    refused: tuple[Rejected | Unread, ...] = ()
    why: Stale | None = None

    @property
    def claimed(self) -> bool:
        """Return whether the exposure has a chosen source."""
        return self.winner is not None or self.copies > 0

    @property
    def published(self) -> bool:
        """Return whether the published results of the exposure are still valid."""
        if self.record is None:
            return False
        return self.copies > 0 if self.winner is None else self.why is None and self.record.status == "done"

    @property
    def verdict(self) -> Trouble | None:
        """Return the error of the source in the ledger, if it still applies."""
        if self.record is None or self.winner is None or self.why is not None or self.published:
            return None
        code, _, message = (self.record.reason or "").partition(": ")
        return Trouble(uri=name_of(self.winner.source), code=code, message=message)


@dataclass
class Decided:
    """Decisions on exposures, collected one by one; their records are not kept, since nights may be large.

    Attributes
    ----------
    todo, published, skipped
        As in `flows.pipeline.outcome.Plan`.
    verdicts
        Errors of sources in the ledger.
    refused
        Sources that cannot be used or read.
    claimed
        Exposures with a chosen source.
    """

    todo: list[Item] = field(default_factory=list)
    published: list[PublishedExposure] = field(default_factory=list)
    skipped: int = 0
    verdicts: list[Trouble] = field(default_factory=list)
    refused: list[Rejected | Unread] = field(default_factory=list)
    claimed: set[Name] = field(default_factory=set)

    def add(self, one: Chosen) -> None:
        """Add the decision on an exposure."""
        if one.winner is not None and one.why is not None:
            self.todo.append(replace(one.winner, why=one.why))
        if one.published and (record := one.record) is not None:
            source = one.winner.source if one.winner is not None else None
            found = PublishedExposure(
                record.key, record.source_uri, record.detections, record.causes, source, record.flags
            )
            self.published.append(found)
        if one.verdict is not None:
            self.verdicts.append(one.verdict)
        if one.claimed:
            self.claimed.add(one.name)
        self.skipped += one.copies + (one.published and one.winner is not None)
        self.refused += one.refused


class PutAway(NamedTuple):
    """Outcome of a source that cannot be used.

    Attributes
    ----------
    trouble, quarantined
        Error, and whether the source is quarantined; if not, it could not be put in quarantine.
    withdrawn
        Records of results published from earlier content of its file.
    """

    trouble: Trouble
    quarantined: bool
    withdrawn: tuple[ExposureRecord, ...] = ()


class Planner:
    """Planner that compares sources with the results published under ``out``.

    Parameters
    ----------
    out, settings, pipeline
        Output folder, settings and stages of the run.
    probe, sha256_of
        Functions that return the identity of a source from its headers, and the digest of the bytes of its files.
    examine
        Function that raises an error found in the pixels of a source. It is called for up to `MOST_EXAMINED` differing
        sources of one identity. The default raises nothing.
    dry
        Whether only to plan: nothing is recorded, quarantined or withdrawn.
    tiles
        Whether tiles must exist and be intact, for which every chunk is read. Otherwise they are made when needed.
    """

    def __init__(
        self,
        out: Path,
        settings: Settings,
        pipeline: Sequence[Stage],
        probe: Callable[[Source, Settings], ExposureKey],
        sha256_of: Callable[[Source, Settings], str],
        examine: Callable[[Source, Settings], object] = lambda *_: None,
        *,
        dry: bool = False,
        tiles: bool = False,
    ) -> None:
        self._dry, self._tiles, self._examine, self._examined = dry, tiles, examine, 0
        self._out, self._settings, self._pipeline = out, settings, pipeline
        self._probe, self._sha256_of = probe, sha256_of
        self._ledger, self._quarantine = Ledger(out), Quarantine(out)
        self._models = model_digests(pipeline, settings)

    def plan(self, sources: Iterable[Source]) -> Plan:
        """Return the plan for each source; record the reasons for those that cannot be used.

        Raises
        ------
        Misconfigured
            A model or the ledger cannot be used.
        """
        found = self._identified(sorted(set(sources), key=name_of))
        groups: dict[Name, list[Item]] = {}
        for item in found:
            if isinstance(item, Item):
                groups.setdefault(name_tuple(item.key), []).append(item)
        unnamed = sorted((item for item in found if not isinstance(item, Item)), key=lambda one: name_of(one.source))
        del found  # each group is freed once it is decided
        decided, names = Decided(), sorted(groups)
        for first in range(0, len(names), PAGE):
            page = names[first : first + PAGE]
            for one in self._side_by_side(lambda name: self._judged(name, groups.pop(name)), page):
                decided.add(one)
        return self._applied(decided, [*unnamed, *decided.refused])

    def _applied(self, decided: "Decided", refused: Sequence[Rejected | Unread]) -> Plan:
        """Quarantine the sources that cannot be used, and only those; return them, and the work on the rest."""
        superseded = Superseded(self._ledger, decided.claimed, self._settings.fits.extension)
        away = [self._put_away(one, superseded) for one in refused if isinstance(one, Rejected)]
        if not self._dry:  # sources that could not be read, or were refused with other settings, and are up to date
            self._quarantine.clear_all(name_of(one.source) for one in decided.published if one.source is not None)
        # Former exposures of a source can be found only after every exposure has its source.
        todo = self._side_by_side(
            lambda one: replace(one, superseded=superseded.by(name_of(one.source), one.key)), decided.todo
        )
        unread = [Trouble.of(name_of(one.source), one.error) for one in refused if isinstance(one, Unread)]
        return Plan(
            todo=tuple(todo),
            published=tuple(decided.published),
            skipped=decided.skipped,
            quarantined=(*decided.verdicts, *(one.trouble for one in away if one.quarantined)),
            failed=(*unread, *(one.trouble for one in away if not one.quarantined)),
            withdrawn=tuple(record for one in away for record in one.withdrawn),
        )

    def _identified(self, sources: Sequence[Source]) -> list[Item | Rejected | Unread]:
        """Return the identified exposures; requests to an object store run in parallel."""
        remote = isinstance(self._out, BucketPath) or any(source.uri.startswith(PROTOCOL) for source in sources)
        return side_by_side(lambda source: _attempt(source, partial(self._named, source)), sources, remote)

    def _side_by_side(self, function: Callable[[Given], Found], items: Sequence[Given]) -> list[Found]:
        """Return the results of a function that reads the ledger; requests to a ledger in a bucket run in parallel."""
        return side_by_side(function, items, isinstance(self._out, BucketPath))

    def _judged(self, name: Name, group: list[Item]) -> Chosen:
        """Return the source chosen for an exposure, and the reason for a search, if any."""
        chosen = self._chosen(name, group)
        if chosen.winner is None:
            return chosen
        why = self.outdated(chosen.winner)
        if why is None and chosen.record is not None:
            why = damaged(chosen.record, self._out)
        if why is None and self._tiles and chosen.record is not None and chosen.record.status == "done":
            why = without_tiles(chosen.record, self._out)
        if why is not None and why.code == "tiles":  # existing results are replaced
            chosen = chosen._replace(winner=replace(chosen.winner, sha256=None))
        return self._followed(chosen) if why is None else chosen._replace(why=why)

    def _followed(self, chosen: Chosen) -> Chosen:
        """Return an exposure of which nothing needs to be done; if its file was moved, its record says where to."""
        winner, record = chosen.winner, chosen.record
        if winner is None or record is None or record.status != "done":
            return chosen
        uri, before = name_of(winner.source), file_of_source(record.source_uri)
        if uri == record.source_uri or "://" in before or not _is_missing(Path(before)):
            return chosen
        files = {
            plane: SourceFile(uri=place, sha256=known.sha256 if (known := record.source_files.get(plane)) else None)
            for plane, place in (winner.source.files if record.source_files else ())
        }
        moved = {"source_uri": uri, "source_stat": winner.stat, "source_files": files}
        record = record.model_copy(update=moved)
        if not self._dry:
            self._ledger.put(record)
        return chosen._replace(record=record)

    def identify(self, source: Source) -> Item:
        """Return the exposure in a source, reading as little as possible; nothing is written.

        Raises
        ------
        BadInput, Retryable
            The source does not identify its exposure, or cannot be read.
        """
        item = self._named(source)
        return replace(item, record=self._ledger.get(item.key))

    def _named(self, source: Source) -> Item:
        """Return the exposure in a source, without its record in the ledger."""
        if source.refusal is not None:
            raise source.refusal
        stat = stat_of(source)
        memo = self._ledger.remembered(memo_name(source, self._settings))
        if memo is not None and stat == SourceStat(size=memo.size, mtime_ns=memo.mtime_ns, each=memo.each):
            return Item(source, memo.key, stat, memo.sha256)
        return Item(source, self._probe(source, self._settings), stat)

    def _chosen(self, name: Name, group: list[Item]) -> Chosen:
        """Return the source chosen for an exposure, with the number of its copies and the conflicting sources.

        The published source is chosen, or else the first that was not quarantined when it was searched.
        """
        record = self._ledger.get(group[0].key)
        group = [replace(item, record=record) for item in group]
        if len(group) == 1 and (record is None or record.status == "failed"):
            return Chosen(name, record, group[0])
        known = [_attempt(item.source, partial(self._hashed, item)) for item in group]
        hashed = [item for item in known if isinstance(item, Item)]
        unusable = tuple(item for item in known if not isinstance(item, Item))
        if not hashed:
            return Chosen(name, record, None, refused=unusable)
        faults = self._faults(hashed, record)
        sound = [item for item in hashed if name_of(item.source) not in faults] or hashed
        holder = record.source_uri if record is not None and record.status == "done" else _first(sound, record)
        winner = next((item for item in hashed if name_of(item.source) == holder), None)
        if winner is None and record is not None:
            # The file was moved: a copy replaces it, so that the results can be made again.
            winner = next((item for item in hashed if item.sha256 == record.source_sha256), None)
            winner = winner or self._heir(sound, record)
        first = winner.source if winner is not None else Source(holder)
        rest = [item for item in hashed if item is not winner]
        others = [item for item in rest if not self._is_copy(item.source, first)]
        errors = ((item, faults.get(name_of(item.source)) or _conflict(item, holder)) for item in others)
        conflicts = tuple(Rejected(item.source, error, item.key) for item, error in errors)
        return Chosen(name, record, winner, len(rest) - len(others), (*unusable, *conflicts))

    def _heir(self, hashed: Sequence[Item], record: ExposureRecord) -> Item | None:
        """Return the source that replaces the file of a record, if that file can no longer be read.

        It is a source with the same bytes of the difference image and other files beside it; or the first source, if
        the file has disappeared from an existing folder.
        """
        gone = _is_gone(record.source_uri)
        if not gone and self._difference(Source(record.source_uri)) is not None:
            return None
        same = next((item for item in hashed if self._difference(item.source) == record.source_sha256), None)
        if same is None and gone:
            name = _first(hashed, None)
            return next(item for item in hashed if name_of(item.source) == name)
        return same

    def _faults(self, hashed: Sequence[Item], record: ExposureRecord | None) -> dict[str, BadInput]:
        """Return the errors of differing sources of one identity, by name; they take precedence over the conflict."""
        published, contents, found = "", {item.sha256 for item in hashed}, dict[str, BadInput]()
        if record is not None and record.status == "done":
            published, contents = record.source_uri, contents | {record.source_sha256}
        for item in hashed if len(contents) > 1 else ():
            name, small = name_of(item.source), item.stat is not None and item.stat.size <= LARGEST_EXAMINED
            if name == published or not small or self._examined >= MOST_EXAMINED:
                continue
            self._examined += 1
            outcome = _attempt(item.source, partial(self._sound, item))
            if isinstance(outcome, Rejected):
                found[name] = outcome.error
        return found

    def _sound(self, item: Item) -> Item:
        self._examine(item.source, self._settings)
        return item

    def _is_copy(self, one: Source, other: Source) -> bool:
        """Return whether the difference images have the same bytes, whatever files lie beside them."""
        first = self._difference(one)
        return first is not None and first == self._difference(other)

    def _difference(self, source: Source) -> str | None:
        """Return the digest of only the difference image; None if it cannot be read."""
        try:
            return self._sha256_of(Source(source.uri, index=source.index), self._settings)
        except (BadInput, Retryable):
            return None

    def _hashed(self, item: Item) -> Item:
        if item.sha256 is not None:
            return item
        sha256 = self._sha256_of(item.source, self._settings)
        if not self._dry:
            self._ledger.remember(memo_of(item, sha256, self._settings))
        return replace(item, sha256=sha256)

    def outdated(self, item: Item) -> Stale | None:
        """Return why an exposure must be processed, if so, from digests only; see `flows.pipeline.lineage.outdated`."""
        return outdated(item.source, item.sha256, item.record, self._pipeline, self._models, self._settings)

    def _put_away(self, one: Rejected, superseded: Superseded) -> PutAway:
        """Quarantine a source, and withdraw results published from earlier content of its file."""
        uri = name_of(one.source)
        trouble = Trouble.of(uri, one.error)
        if self._dry:
            return PutAway(trouble, quarantined=True)
        withdrawn: list[ExposureRecord] = []
        try:
            if one.error.code not in UNREAD:
                for record in superseded.by(uri, one.key):
                    if not self._is_unchanged(one.source, record):
                        unpublish(record, self._out)
                        withdrawn.append(record)
            self._quarantine.put(one.error, uri, one.key)
        except Retryable as error:  # the disk is full: this run continues, and the next run tries again
            return PutAway(Trouble.of(name_of(one.source), error), quarantined=False, withdrawn=tuple(withdrawn))
        return PutAway(trouble, quarantined=True, withdrawn=tuple(withdrawn))

    def _is_unchanged(self, source: Source, record: ExposureRecord) -> bool:
        """Return whether a file is unchanged since its search, so that it is refused because of other settings."""
        try:
            return has_bytes(source, record.source_sha256, self._settings, record.source_stat)
        except (BadInput, Retryable):
            return False


def _attempt(source: Source, step: Callable[[], Item]) -> Item | Rejected | Unread:
    """Return the result of a step that reads a source, or its error as a value, so that no source ends a night."""
    try:
        return step()
    except BadInput as error:
        return Rejected(source, error, None)
    except Retryable as error:
        return Unread(source, error)
    except NightstrideError:  # an error of the settings affects all sources
        raise
    except Exception as error:
        kind = f"{type(error).__name__}: {error}"
        return Rejected(source, _unexpected(name_of(source), kind), None)


def _unexpected(where: str, what: str) -> BadInput:
    remedy = "fetch the file again; if it is as it should be, report this."
    return BadInput("unexpected_error", where, f"cannot be looked at: {what}.", remedy)


def _is_gone(uri: str) -> bool:
    """Return whether a file is missing from an existing local folder; if the folder is missing too, it may return."""
    path = Path(file_of_source(uri))
    return "://" not in uri and _is_missing(path) and not _is_missing(path.parent)


def _is_missing(path: Path) -> bool:
    """Return whether a path does not exist; False if that cannot be told, as in a folder that may not be read."""
    try:
        return not path.exists()
    except OSError:
        return False


_DIFFERENCE = re.compile(r"diff|(?<![a-z])sub(?![a-z])|subtracted")
"""Matches names of difference images, but not of the science images beside them."""


def _first(hashed: Sequence[Item], record: ExposureRecord | None) -> str:
    """Return the name of the first source that is not in quarantine according to the ledger, or of the first source.

    Files named like a difference image come first, then those with more files beside them, since an exposure without
    its science image would be searched without it.
    """
    bad = record.source_sha256 if record is not None and record.status == "quarantined" else None
    ordered = sorted(hashed, key=_rank)
    return name_of(next((item for item in ordered if item.sha256 != bad), ordered[0]).source)


def _rank(item: Item) -> tuple[bool, int]:
    named = _DIFFERENCE.search(PurePath(item.source.uri).name.lower())
    return named is None, -len(item.source.siblings)


def _conflict(item: Item, holder: str) -> BadInput:
    return BadInput(
        "conflict",
        name_of(item.source),
        f"says it is exposure {item.key.name} of night {item.key.night}, as {holder} does, but the files differ.",
        "keep one of them; or name the keyword that tells them apart, [fits.detector] or [fits.visit]; or list a "
        "science image beside its difference image, in exposures.csv.",
    )
