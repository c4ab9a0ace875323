"""Lease of an output folder, which lets one run at a time write to it, and waiting for it."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from uuid import uuid4

from flows.storage.atomic import (
    WriteConditions,
    fenced,
    forbid,
    is_lost,
    permit,
    release,
    sweep,
    write_conditions,
    write_file,
)
from flows.storage.bucket_path import BucketPath
from flows.storage.file_lock import MODE, file_lock
from flows.storage.folder import writable_folder
from flows.storage.holder import Holder, is_here, myself, parsed_holder, runs
from flows.storage.layout import refuse_release, staging_folder
from flows.storage.ledger import Ledger
from flows.storage.night_sums import settle
from flows.storage.writing import writing
from schemas.errors import HELD, Misconfigured, NightstrideError, Retryable


def locked(out: Path, holder: Holder) -> Misconfigured:
    """Return the error for a second run."""
    return Misconfigured(
        HELD,
        str(out),
        f"another run holds it: process {holder.pid} on {holder.host}, since {holder.since}.",
        "wait for that run to end.",
    )


logger = logging.getLogger("nightstride")

SETTLE_S = 2.0
"""For stores without conditional writes: wait before checking whether one's own lease is still there, s."""


class BucketLease:
    """Lease object of an output folder in a bucket, and how its store handles conditions."""

    def __init__(self, out: BucketPath, stale_s: float) -> None:
        self.out, self._path, self._stale_s = out, out / "lease.json", stale_s
        self._conditions = WriteConditions()
        self._version = ""

    def take(self) -> Holder:
        """Take the lease.

        Raises
        ------
        Misconfigured
            Another run holds it (``locked``), or the bucket cannot be written.
        Retryable
            The store does not answer.
        """
        self._conditions = write_conditions(self.out)
        if not self._conditions.enforced:
            logger.warning(
                "%s: the store ignores conditions on writes, so that the lease only keeps out runs that start more "
                "than %g s apart.",
                self.out,
                SETTLE_S,
            )
        me = myself()
        content = me.model_dump_json(indent=1).encode()
        while True:
            before, version = self._living()
            if before is not None:
                raise locked(self.out, before)
            try:
                self._version = self._conditions.write(self._path, content, version)
                break
            except FileExistsError:  # another run has taken it meanwhile
                continue
        if not self._conditions.enforced:
            sleep(SETTLE_S)
            if (other := _last(self.out)) is not None and other != me:
                raise locked(self.out, other)
        return me

    def beat(self, me: Holder) -> bool:
        """Renew the heartbeat; return False if another process has the lease now."""
        try:
            self._version = self._conditions.write(self._path, me.model_dump_json(indent=1).encode(), self._version)
        except FileExistsError:
            return False
        return True

    def give_back(self, me: Holder) -> None:
        """Remove the lease if it is still ours."""
        if _last(self.out) == me:
            self._path.unlink()

    def holder(self) -> Holder | None:
        """Return the living holder; None if there is none."""
        if not self._path.is_file():
            return None
        return self._living()[0]

    def _living(self) -> tuple[Holder | None, str | None]:
        """Return the living holder and the version of the lease object; None for either that does not exist."""
        try:
            found = self._path.read_versioned()
        except FileNotFoundError:
            return None, None
        holder = parsed_holder(found.content)
        if holder is None:
            return None, found.version
        if is_here(holder):
            return (holder if runs(holder) else None), found.version
        age = (self._now() - found.written).total_seconds()
        return (holder if age < self._stale_s else None), found.version

    def _now(self) -> datetime:
        """Return the time by the clock of the store, which all hosts share; by our own if we can only read."""
        clock = staging_folder(self.out) / f"clock-{uuid4().hex}"
        try:
            clock.write(b"")
        except Misconfigured as error:
            if error.code != "access_denied":
                raise
            return datetime.now(UTC)
        try:
            return clock.read_versioned().written
        finally:
            clock.unlink()


@contextmanager
def bucket_lease(out: BucketPath, heartbeat_s: float, stale_s: float) -> Iterator[Holder]:
    """Hold the output folder ``out`` in a bucket for one run; see `lease`.

    Raises
    ------
    Misconfigured
        Another run holds it (``locked``), or it cannot be written.
    Retryable
        The store does not answer.
    """
    held = BucketLease(out, stale_s)
    me = held.take()
    permit(out)
    ended = Event()
    heart = Thread(target=_beat, args=(held, me, heartbeat_s, stale_s, ended), name="lease", daemon=True)
    heart.start()
    try:
        yield me
        with suppress(Retryable):  # the ledger is correct anyway, and the next run does it
            settle(Ledger(out))
    finally:
        ended.set()
        heart.join()
        release(out)
        with suppress(Retryable):  # blocks nobody: this host checks the process, others wait until the lease is stale
            held.give_back(me)


def _beat(held: BucketLease, me: Holder, heartbeat_s: float, stale_s: float, ended: Event) -> None:
    last = monotonic()
    while not ended.wait(heartbeat_s):
        try:
            if not held.beat(me):
                forbid(held.out)
                logger.error(
                    "The lease was taken over by another run, %.0f s after the last sign of this one.",
                    monotonic() - last,
                )
                return
            last = monotonic()
        except NightstrideError as error:
            if monotonic() - last > stale_s:
                logger.warning("No sign of life could be given for %.0f s: %s", monotonic() - last, error)


LOCK_WAIT_S = 30.0
"""How long to wait for other processes that check the lease, which takes them moments, s."""

HEARTBEAT_S = 10.0
"""Interval of the holder's heartbeat, s."""

STALE_S = 120.0
"""Time without a heartbeat after which a holder on another host, whose process cannot be checked, counts as dead, s."""


@contextmanager
def lease(out: Path, heartbeat_s: float = HEARTBEAT_S, stale_s: float = STALE_S) -> Iterator[Holder]:
    """Hold the output folder ``out`` for one run; remove what killed runs and workers left unpublished there.

    The lease is ``out/lease.json``; its modification time is the heartbeat. The lease of a dead holder is taken over:
    on this host the process is checked; elsewhere a holder is dead after ``stale_s`` without a heartbeat. If it wakes
    up later, it can write no more records. Checking and taking a lease is protected by a file lock, which the kernel
    releases with the process, so that no two processes take it. In a bucket, conditional puts replace the lock, and the
    age of the object is the heartbeat: see `BucketLease`.

    Raises
    ------
    Misconfigured
        Another run holds the folder (``locked``), or it cannot be written. Another process has locked ``lease.lock``
        for too long (``lock_held``). The folder is a data release (``frozen``).
    """
    refuse_release(out)
    if isinstance(out, BucketPath):
        with bucket_lease(out, heartbeat_s, stale_s) as me:
            yield me
        return
    writable_folder(out)
    path = out / "lease.json"
    me = myself()
    with _guard(out) as now:
        if (holder := _living(path, now, stale_s)) is not None:
            raise locked(out, holder)
        write_file(path, me.model_dump_json(indent=1).encode(), staging_folder(out), MODE)
        sweep(out)
    ended = Event()
    # The heartbeat goes to the file that this process wrote, not to the name: after a takeover it changes nothing.
    descriptor = os.open(path, os.O_RDONLY)
    heart = Thread(target=_beat_local, args=(path, descriptor, heartbeat_s, ended), name="lease", daemon=True)
    try:
        with fenced(out, path, descriptor):
            heart.start()
            try:
                yield me
            finally:
                ended.set()
                heart.join()
    finally:
        with _guard(out):
            if _last(out) == me:
                with suppress(OSError):  # the next run removes the rest
                    sweep(out)
                path.unlink()
        os.close(descriptor)


def holder_of(out: Path) -> Holder | None:
    """Return the living holder of ``out``; None if there is none."""
    if isinstance(out, BucketPath):
        return BucketLease(out, STALE_S).holder()
    if not (out / "lease.json").exists():
        return None
    with _guard(out) as now:
        return _living(out / "lease.json", now, STALE_S)


def dead_holder_of(out: Path) -> Holder | None:
    """Return the holder of ``out`` whose process ended without releasing it; None if the lease is free or held."""
    left = _last(out)
    if left is None or holder_of(out) is not None:
        return None
    return left if _last(out) == left else None  # otherwise it was released or taken meanwhile


def _last(out: Path) -> Holder | None:
    """Return the process that took the lease and has not released it, whether or not it still runs."""
    try:
        return parsed_holder((out / "lease.json").read_bytes())
    except FileNotFoundError:
        return None


@contextmanager
def _guard(out: Path) -> Iterator[float]:
    """Lock the lease; yield the time by the clock of the file system, which all hosts share."""
    with writing(out), file_lock(out / "lease.lock", LOCK_WAIT_S) as descriptor:
        os.utime(descriptor)
        yield os.fstat(descriptor).st_mtime


def _living(path: Path, now: float, stale_s: float) -> Holder | None:
    holder = _last(path.parent)
    if holder is None:
        return None
    if is_here(holder):
        return holder if runs(holder) else None
    return holder if now - path.stat().st_mtime < stale_s else None


def _beat_local(path: Path, descriptor: int, heartbeat_s: float, ended: Event) -> None:
    while not ended.wait(heartbeat_s):
        with suppress(OSError):
            if is_lost(path):
                forbid(path.parent)
                logger.error("The lease was taken over by another run: this one writes nothing any more.")
                return
            os.utime(descriptor)


POLL_S = 1.0
"""How often a waiting run checks whether the folder is free, s."""

SAY_S = 600.0
"""How often it reports that it waits, and for whom, s."""


def require_free(out: Path) -> None:
    """Raise `Misconfigured` (``locked``) if another run holds the output folder ``out``, without creating anything."""
    if (holder := holder_of(out)) is not None:
        raise locked(out, holder)


@contextmanager
def patient_lease(
    out: Path, wait_s: float | None, say: Callable[[str], None], poll_s: float = POLL_S
) -> Iterator[Holder]:
    """Hold the output folder as `lease` does, once its current holder has released it.

    Parameters
    ----------
    out
        Output folder.
    wait_s
        Longest time to wait, s; None: no limit.
    say
        Receives a message that names the holder: at once, every `SAY_S` seconds, and when the holder changes.
    poll_s
        How often to check, s.

    Raises
    ------
    Misconfigured
        The folder is still held after ``wait_s`` (``locked``), or it cannot be written.
    """
    deadline = None if wait_s is None else monotonic() + wait_s
    told, again = "", 0.0
    with ExitStack() as stack:
        while True:
            try:
                holder = stack.enter_context(lease(out))
                break
            except Misconfigured as error:
                if error.code != HELD or (deadline is not None and monotonic() >= deadline):
                    raise
                if error.problem != told or monotonic() >= again:
                    say(f"Waiting: {error.where}: {error.problem}")
                    told, again = error.problem, monotonic() + SAY_S
            sleep(poll_s)
        yield holder
