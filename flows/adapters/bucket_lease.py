"""One run per output folder in a bucket: the lease is one object, taken by a conditional put."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from threading import Event, Thread
from time import monotonic, sleep
from uuid import uuid4

from pydantic import ValidationError

from flows.adapters.bucket_path import BucketPath
from flows.adapters.bucket_records import forbid, permit
from flows.adapters.conditional import Conditions, conditions_of
from flows.adapters.holder import Holder, locked, myself, runs
from schemas.errors import NightstrideError, Retryable

logger = logging.getLogger("nightstride")

SETTLE_S = 2.0
"""Where the store knows no conditions: who has put a lease looks after so long whether it is still there, s."""


class BucketLease:
    """The lease object of an output folder, and what its store can do."""

    def __init__(self, out: BucketPath, stale_s: float) -> None:
        self.out, self._path, self._stale_s = out, out / "lease.json", stale_s
        self._conditions = Conditions()
        self._version = ""

    def take(self) -> Holder:
        """Take it.

        Raises
        ------
        Misconfigured
            Another run holds it (``locked``), or the bucket may not be written.
        Retryable
            The store does not answer.
        """
        self._conditions = conditions_of(self.out)
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
            except FileExistsError:  # somebody else has taken it meanwhile
                continue
        if not self._conditions.enforced:
            sleep(SETTLE_S)
            if (other := self._read()) is not None and other != me:
                raise locked(self.out, other)
        return me

    def beat(self, me: Holder) -> bool:
        """Show that the holder is alive; give False if somebody else has the lease now."""
        try:
            self._version = self._conditions.write(self._path, me.model_dump_json(indent=1).encode(), self._version)
        except FileExistsError:
            return False
        return True

    def give_back(self, me: Holder) -> None:
        """Remove it, if it is still ours."""
        if self._read() == me:
            self._path.unlink()

    def holder(self) -> Holder | None:
        """Give the living holder; None if there is none."""
        if not self._path.is_file():
            return None
        return self._living()[0]

    def _living(self) -> tuple[Holder | None, str | None]:
        """Give the living holder, and the version of what is there; None for what is not."""
        try:
            found = self._path.read_versioned()
        except FileNotFoundError:
            return None, None
        holder = _parsed(found.content)
        if holder is None:
            return None, found.version
        me = myself()
        if (holder.host, holder.boot) == (me.host, me.boot):
            return (holder if runs(holder) else None), found.version
        age = (self._now() - found.written).total_seconds()
        return (holder if age < self._stale_s else None), found.version

    def _now(self) -> datetime:
        """Give the time by the clock of the store, which all hosts share."""
        clock = self.out / "staging" / f"clock-{uuid4().hex}"
        clock.write(b"")
        try:
            return clock.read_versioned().written
        finally:
            clock.unlink()

    def _read(self) -> Holder | None:
        try:
            return _parsed(self._path.read_bytes())
        except FileNotFoundError:
            return None


@contextmanager
def bucket_lease(out: BucketPath, heartbeat_s: float, stale_s: float) -> Iterator[Holder]:
    """Hold the output folder ``out`` in a bucket for one run; see `flows.adapters.lease.lease`.

    Raises
    ------
    Misconfigured
        Another run holds it (``locked``), or it may not be written.
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
    finally:
        ended.set()
        heart.join()
        with suppress(Retryable):  # nobody is kept out: on this host the process is looked up, elsewhere it grows stale
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


def _parsed(content: bytes) -> Holder | None:
    try:
        return Holder.model_validate_json(content)
    except ValidationError:
        return None
