"""One run per output folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from pydantic import ValidationError

from flows.adapters.atomic import sweep, write_file, writing
from flows.adapters.bucket_lease import BucketLease, bucket_lease
from flows.adapters.bucket_path import BucketPath
from flows.adapters.holder import Holder, locked, myself, runs
from flows.adapters.writable_folder import writable_folder

HEARTBEAT_S = 10.0
"""How often the holder shows that it is alive, s."""

STALE_S = 120.0
"""After how long without a heartbeat a holder that cannot be looked at (another host) counts as dead, s."""


@contextmanager
def lease(out: Path, heartbeat_s: float = HEARTBEAT_S, stale_s: float = STALE_S) -> Iterator[Holder]:
    """Hold the output folder ``out`` for one run; clear what killed runs and workers left unpublished there.

    The lease is ``out/lease.json``; the time of its last change is the heartbeat. A lease whose holder is dead is
    taken over: on this host that is known from the process; elsewhere from ``stale_s`` without a heartbeat. Who looks
    at a lease in order to take it holds a file lock meanwhile, which the kernel drops with the process, so that no two
    can take it and none can block it. In a bucket a conditional put takes its place, and the age of the object is the
    heartbeat: see `flows.adapters.bucket_lease`.

    Raises
    ------
    Misconfigured
        Another run holds the folder (``locked``), or it may not be written.
    """
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
        write_file(path, me.model_dump_json(indent=1).encode(), out / "staging")
        sweep(out)
    ended = Event()
    # The heart beats on the file this process wrote, not on the name: after a takeover it touches nothing.
    descriptor = os.open(path, os.O_RDONLY)
    heart = Thread(target=_beat, args=(descriptor, heartbeat_s, ended), name="lease", daemon=True)
    heart.start()
    try:
        yield me
    finally:
        ended.set()
        heart.join()
        with _guard(out):
            if _read(path) == me:
                with suppress(OSError):  # what stays, the next run removes
                    sweep(out)
                path.unlink()
        os.close(descriptor)


def holder_of(out: Path, stale_s: float = STALE_S) -> Holder | None:
    """Give the living holder of ``out``; None if there is none."""
    if isinstance(out, BucketPath):
        return BucketLease(out, stale_s).holder()
    if not (out / "lease.json").exists():
        return None
    with _guard(out) as now:
        return _living(out / "lease.json", now, stale_s)


@contextmanager
def _guard(out: Path) -> Iterator[float]:
    """Be alone with the lease; give the time by the clock of the file system, which all hosts share."""
    with writing(out):
        descriptor = os.open(out / "lease.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.utime(descriptor)
        yield os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _living(path: Path, now: float, stale_s: float) -> Holder | None:
    holder = _read(path)
    if holder is None:
        return None
    me = myself()
    if (holder.host, holder.boot) == (me.host, me.boot):
        return holder if runs(holder) else None
    return holder if now - path.stat().st_mtime < stale_s else None


def _read(path: Path) -> Holder | None:
    try:
        return Holder.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _beat(descriptor: int, heartbeat_s: float, ended: Event) -> None:
    while not ended.wait(heartbeat_s):
        with suppress(OSError):
            os.utime(descriptor)
