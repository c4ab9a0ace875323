"""Ledger in a bucket: new entries as single objects, older ones in a few SQLite files, and a head that lists them.

docs/operate/object_stores.md describes the layout, and why it is valid after each request.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from threading import RLock
from typing import TypeVar
from uuid import uuid4

from flows.runtime.parallel import side_by_side
from flows.storage.atomic import holds, lost_to_another, outdate, require_lease, term_of, write_record
from flows.storage.bucket_path import BucketPath, remove_objects
from flows.storage.layout import ledger_folder
from flows.storage.ledger_head import HEAD, TRIES, Group, Head, Single, State, list_singles, look_up, read_head
from flows.storage.ledger_segment import Entry, Snapshot, damaged_ledger, packed_segment
from schemas.errors import Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, SourceMemo

Found = TypeVar("Found")

FOLD = 1000
"""Number of new objects that a process merges into segments as it goes on, and of records read at a time."""

LOADED = 8
"""Number of nights whose segments are kept on this machine."""

INDEX = "index"
"""Group of everything that is not of a night."""

EXPOSURE, MEMO, PATCH = "exposure", "memo", "patch"


_states: dict[str, State] = {}
"""State for each output folder that this process writes or holds, shared by all its ledgers."""

_loaded: OrderedDict[tuple[str, ...], Snapshot] = OrderedDict()
"""Snapshots by their segments, whose names are never reused."""

_lock = RLock()


class BucketRecords:
    """Records as bytes under ``OUT/ledger/``: see `flows.storage.ledger_local.LocalRecords`.

    A ledger that only reads keeps the state of its first use until one of its objects is gone.

    All methods raise as `flows.storage.atomic.write_record` does, and `Misconfigured` (``damaged_ledger``,
    ``other_version``).
    """

    def __init__(self, out: BucketPath) -> None:
        self._out, self._root = out, ledger_folder(out)
        self._head = self._root / HEAD
        self._read: State | None = None

    def nights(self) -> list[str]:
        """Return the nights with records of exposures, sorted."""

        def read(state: State) -> list[str]:
            settled = {group for group, one in state.head.groups.items() if one.records and group not in state.singles}
            return sorted(settled | {group for group in state.singles if self._has_records(state, group)})

        return self._steadily(read)

    def get(self, key: ExposureKey) -> bytes | None:
        """Return the record of an exposure; None if there is none."""
        return self._get(key.night, EXPOSURE, key.name)

    def put(self, record: ExposureRecord, content: bytes) -> None:
        """Write or replace a record."""
        self._hold(record.source_uri, record.key)
        self._put(record.night, EXPOSURE, record.name, content)

    def remove(self, key: ExposureKey) -> None:
        """Remove a record, if it exists."""
        content = self.get(key)
        if content is None:
            return
        self._put(key.night, EXPOSURE, key.name, b"")
        with suppress(ValueError):  # the record may be damaged
            self._release(json.loads(content)["source_uri"], lambda one: one == key)

    def count(self, night: str) -> int:
        """Return the number of records of a night."""

        def read(state: State) -> int:
            if night in state.singles:
                return len(self._names(state, night, EXPOSURE))
            return state.head.groups[night].records if night in state.head.groups else 0

        return self._steadily(read)

    def contents(self, night: str) -> Iterator[tuple[str, bytes]]:
        """Yield name and record of each exposure of a night, by visit and detector."""
        names = self._steadily(lambda state: self._names(state, night, EXPOSURE))
        names.sort(key=lambda name: tuple(map(int, name.split("-"))))
        for first in range(0, len(names), FOLD):
            yield from self._page(night, EXPOSURE, names[first : first + FOLD])

    def patches(self, night: str) -> Iterator[tuple[str, bytes]]:
        """Yield name and record of each patch of a night, by name."""
        names = sorted(self._steadily(lambda state: self._names(state, night, PATCH)))
        for first in range(0, len(names), FOLD):
            yield from self._page(night, PATCH, names[first : first + FOLD])

    def put_patch(self, night: str, name: str, content: bytes) -> None:
        """Write or replace the record of a patch."""
        self._put(night, PATCH, name, content)

    def remove_patch(self, night: str, name: str) -> None:
        """Remove the record of a patch, which must exist."""
        self._remove(night, PATCH, name)

    def stamp(self, night: str) -> str:
        """Return a value that changes with each change of a settled night; empty if part of it is not settled."""
        state = self._state()
        if night in state.singles or night not in state.head.groups:
            return ""
        return " ".join(state.head.groups[night].segments)

    def sources(self, uri: str) -> list[ExposureKey]:
        """Return the exposures for which a source was ever recorded, by night, visit and detector."""
        return self._held(self._of_source(uri))[0]

    def memo(self, name: str) -> bytes | None:
        """Return the memo of a source; None if there is none."""
        nights = sorted({key.night for key in self.sources(_source_of(name))})
        return next((found for night in nights if (found := self._get(night, MEMO, _hashed(name)))), None)

    def put_memo(self, memo: SourceMemo, content: bytes) -> None:
        """Store the memo of a source in the night to which it belongs now, and only there."""
        name, night = _hashed(memo.uri), memo.key.night
        for other in {key.night for key in self._hold(_source_of(memo.uri), memo.key)} - {night}:
            self._remove(other, MEMO, name)
        if self._get(night, MEMO, name) != content:
            self._put(night, MEMO, name, content)

    def memo_nights(self) -> list[str]:
        """Return the nights that may have memos of sources, sorted."""
        return self._steadily(lambda state: sorted({*state.head.groups, *state.singles} - {INDEX}))

    def forget(self, night: str) -> None:
        """Remove everything of a night without records, and the notes that sources were ever recorded for it."""
        names = self._steadily(lambda state: self._names(state, night, MEMO))
        uris = {_source_of(json.loads(content)["uri"]) for _, content in self._page(night, MEMO, names)}
        side_by_side(lambda uri: self._release(uri, lambda one: one.night == night), sorted(uris), remote=True)
        with _lock:
            if names:
                self._fold(self._writer(), without=night)

    def documents(self, kind: str) -> list[str]:
        """Return the names of the documents of a kind, sorted."""
        return sorted(self._steadily(lambda state: self._names(state, INDEX, kind)))

    def document(self, kind: str, name: str) -> bytes | None:
        """Return a document; None if there is none."""
        return self._get(INDEX, kind, name)

    def put_document(self, kind: str, name: str, content: bytes) -> None:
        """Write or replace a document."""
        self._put(INDEX, kind, name, content)

    def remove_document(self, kind: str, name: str) -> None:
        """Remove a document, if it exists."""
        self._remove(INDEX, kind, name)

    def place(self, kind: str, name: str) -> str:
        """Return the name of a document in messages, or of an exposure's record if ``kind`` is its night."""
        return f"{self._root} {kind} {name}"

    def damage(self, night: str | None) -> Iterator[tuple[str, str, str]]:
        """Yield place, problem and remedy for each group with unreadable segments: of a night and the index, or all."""
        for group in sorted(self._state().head.groups) if night is None else (INDEX, night):
            try:
                self._steadily(lambda state, group=group: self._names(state, group, EXPOSURE))  # type: ignore[misc]
            except Misconfigured as error:
                yield error.where, error.problem, error.remedy

    def settle(self) -> list[str]:
        """Merge all single objects into one segment per group; return the nights that this changes.

        Only for the holder of the lease.
        """
        with _lock:
            state = self._state()
            if not state.generation and not state.head.open:
                return []
            return self._fold(self._writer(), last=True)

    def _state(self) -> State:
        """Return the state known to this process; for the lease holder it is valid until another run takes over."""
        term = term_of(self._out)
        with _lock:
            for state in (_states.get(str(self._out)), self._read):
                if state is not None and state.term == term:
                    return state
            self._read = look_up(self._root, term)
            if holds(self._out):
                _states[str(self._out)] = self._read
            return self._read

    def _steadily(self, read: Callable[[State], Found]) -> Found:
        """Read, again from a newer state if an object is gone because another process has settled the ledger."""
        missing = ""
        for _ in range(TRIES):
            state = self._state()
            try:
                return read(state)
            except FileNotFoundError as error:
                missing = str(error.filename)
                if state.generation or holds(self._out):
                    self._require_head(state)
                self._read = None
        raise damaged_ledger(missing, "is not there, and the ledger names it")

    def _names(self, state: State, group: str, kind: str) -> list[str]:
        snapshot = self._snapshot(state, group)
        names = set(snapshot.names(kind)) if snapshot is not None else set()
        with _lock:
            singles = list(state.singles.get(group, {}).items())
        for (found, name), single in singles:
            if found == kind:
                (names.discard if single.content == b"" else names.add)(name)
        return list(names)

    def _has_records(self, state: State, group: str) -> bool:
        singles = list(state.singles[group].items())
        found = any(kind == EXPOSURE and one.content != b"" for (kind, _), one in singles)
        return group != INDEX and (found or bool(self._names(state, group, EXPOSURE)))

    def _get(self, group: str, kind: str, name: str) -> bytes | None:
        return self._steadily(lambda state: self._content(state, group, (kind, name)))

    def _content(self, state: State, group: str, entry: Entry) -> bytes | None:
        single = state.singles.get(group, {}).get(entry)
        if single is not None:
            content = single.path.read_bytes() if single.content is None else single.content
            return content or None
        snapshot = self._snapshot(state, group)
        return None if snapshot is None else snapshot.get(*entry)

    def _page(self, group: str, kind: str, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield entries, reading single objects in parallel; those that disappear meanwhile are left out."""
        remote = group in self._state().singles
        contents = side_by_side(lambda name: self._get(group, kind, name), names, remote)
        yield from ((name, content) for name, content in zip(names, contents, strict=True) if content is not None)

    def _snapshot(self, state: State, group: str) -> Snapshot | None:
        if group not in state.head.groups:
            return None
        segments = state.head.groups[group].segments
        with _lock:
            if segments not in _loaded:
                paths = [self._segment(name) for name in segments]
                contents = side_by_side(BucketPath.read_bytes, paths, remote=True)
                _keep(segments, Snapshot(str(paths[-1]), contents))
            _loaded.move_to_end(segments)
            return _loaded[segments]

    def _writer(self) -> State:
        """Return the state of this process as a writer; the first time, open its own generation.

        After the new head is written, every other process fails to write a head: from here on this is the only writer.
        """
        state = self._state()
        if state.generation:
            return state
        # The lease holder uses its known head: if another process had changed that, this one would have to stop.
        head, version = (state.head, state.version) if holds(self._out) else read_head(self._root)
        # Listed before the head is written: objects that no head names by then never will be, whoever made them.
        litter = [path for path, _ in (self._root / "open").objects() if path.parts[-3] not in head.open]
        named = {name for group in head.groups.values() for name in group.segments}
        litter += [path for path, _ in (self._root / "segments").objects() if path.name not in named]
        generation = uuid4().hex
        opened = head.model_copy(update={"open": (*head.open, generation)})
        state = State(opened, self._put_head(opened, version), term_of(self._out), generation=generation)
        if head.open:  # listed after the head is written, so it includes everything others wrote before
            list_singles(self._root, state)
        _remove(litter)
        _states[str(self._out)] = state
        return state

    def _put(self, group: str, kind: str, name: str, content: bytes) -> None:
        """Write an entry; once this returns, no head written by another process leaves it out."""
        with _lock:
            state = self._writer()
            path = self._root / "open" / state.generation / group / f"{kind}.{name}.json"
            with self._dropped_on_failure():
                state.versions[path] = write_record(path, content, self._out, state.versions.get(path))
                state.objects.add(path)
                state.singles.setdefault(group, {})[kind, name] = Single(path, content)
                if kind != MEMO:
                    self._require_head(state)
            if len(state.versions) >= FOLD:
                with suppress(Retryable):  # the entry is written; the next fold includes the open objects
                    self._fold(state)

    def _remove(self, group: str, kind: str, name: str) -> None:
        if self._get(group, kind, name) is not None:
            self._put(group, kind, name, b"")

    def _fold(self, state: State, *, last: bool = False, without: str = "") -> list[str]:
        """Merge single objects into a new segment per group; in the ``last`` fold, into one with the older segments.

        ``without``: night to drop completely.
        """
        with self._dropped_on_failure():
            many = {group for group, one in state.head.groups.items() if len(one.segments) > 1} if last else set()
            groups, snapshots, former = dict(state.head.groups), dict[tuple[str, ...], Snapshot](), list[str]()
            if without in groups:
                former += groups.pop(without).segments
            for group in sorted((state.singles.keys() | many) - {without}):
                before = groups[group].segments if group in groups else ()
                entries = self._entries(state, group)
                snapshot = self._snapshot(state, group) or Snapshot(group)
                _loaded.pop(before, None)  # no head will name this state any more
                snapshot.change(entries)
                content = snapshot.packed() if last else packed_segment(entries)
                groups.pop(group, None)
                former += before if last else ()
                if content:
                    name = f"{group}-{uuid4().hex}.sqlite"
                    self._segment(name).write(content)
                    segments = (name,) if last else (*before, name)
                    groups[group] = Group(segments=segments, records=len(snapshot.names(EXPOSURE)))
                    snapshots[segments] = snapshot
            generation = "" if last else uuid4().hex
            head = Head(groups=groups, open=(generation,) if generation else ())
            version = self._put_head(head, state.version)
        for segments, snapshot in snapshots.items():
            _keep(segments, snapshot)
        _remove([*state.objects, *map(self._segment, former)])
        self._drop()
        after = self._read = State(head, version, term_of(self._out), generation=generation)
        if generation or holds(self._out):
            _states[str(self._out)] = after
        return sorted((state.singles.keys() | many) - {INDEX})

    def _entries(self, state: State, group: str) -> dict[Entry, bytes | None]:
        """Return the entries of a group that are single objects; None: removed."""
        singles = state.singles.get(group, {})
        contents = side_by_side(lambda entry: self._content(state, group, entry), list(singles), remote=True)
        return dict(zip(singles, contents, strict=True))

    def _put_head(self, head: Head, version: str | None) -> str:
        return write_record(self._head, head.model_dump_json().encode(), self._out, version)

    def _require_head(self, state: State) -> None:
        """Raise if another process has written a head since."""
        try:
            version = self._head.version()
        except FileNotFoundError:
            version = None
        if version != state.version:
            self._drop()
            raise lost_to_another(self._head, self._out)

    def _drop(self) -> None:
        """Forget everything this process knows about the ledger."""
        _states.pop(str(self._out), None)
        outdate(self._out)

    @contextmanager
    def _dropped_on_failure(self) -> Iterator[None]:
        """If the block fails, forget what this process knows, so that the actual state is looked up."""
        try:
            yield
        except BaseException:
            self._drop()
            raise

    def _hold(self, uri: str, key: ExposureKey) -> list[ExposureKey]:
        """Note, before writing a record, that a source was recorded for an exposure; return the earlier exposures."""
        path = self._of_source(uri)
        held, version = self._held(path)
        if key not in held:
            with _lock:
                self._writer()
            keys = [one.model_dump() for one in (*held, key)]
            write_record(path, json.dumps(keys).encode(), self._out, version)
        return held

    def _release(self, uri: str, gone: Callable[[ExposureKey], bool]) -> None:
        path = self._of_source(uri)
        held, version = self._held(path)
        keys = [one.model_dump() for one in held if not gone(one)]
        if not keys:
            require_lease(path)
            path.unlink(missing_ok=True)
        elif len(keys) < len(held):
            write_record(path, json.dumps(keys).encode(), self._out, version)

    def _held(self, path: BucketPath) -> tuple[list[ExposureKey], str | None]:
        try:
            found = path.read_versioned()
        except FileNotFoundError:
            return [], None
        keys = [ExposureKey.model_validate(one) for one in json.loads(found.content)]
        return sorted(keys, key=lambda key: (key.night, key.visit, key.detector)), found.version

    def _segment(self, name: str) -> BucketPath:
        return self._root / "segments" / name

    def _of_source(self, uri: str) -> BucketPath:
        name = _hashed(uri)
        return self._root / "held" / name[:2] / f"{name}.json"


def _keep(segments: tuple[str, ...], snapshot: Snapshot) -> None:
    _loaded[segments] = snapshot
    while len(_loaded) > LOADED:
        _loaded.popitem(last=False)


def _remove(paths: Sequence[BucketPath]) -> None:
    """Remove objects that no head names; the next process that opens a generation removes any that remain."""
    with suppress(Retryable):
        remove_objects(sorted(paths))


def _source_of(name: str) -> str:
    """Return the URI of a source from the name of its memo, which ends with how the source is read."""
    return name.rpartition(" ")[0] or name


def _hashed(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
