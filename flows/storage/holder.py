"""Holder of an output folder's lease: a process, identified beyond its number, and its fence."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.storage.fence import Fence, taken_over

_COUNTED = "started since boot"
"""Suffix of `Holder.boot`. Earlier checkouts, whose `Holder.started` is in s since 1970, then see a boot other than
their own, and rely on the heartbeat."""


class Holder(BaseModel):
    """Process that holds a lease, distinguished from a later one with the same number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    boot: str = Field(description="Boot and process namespace: within one, process numbers can be compared.")
    pid: int
    started: float = Field(description="Start of the process, s since the boot; by earlier checkouts since 1970.")
    since: str = Field(description="When it took the lease, UTC.")


def myself() -> Holder:
    """Return a holder for this process, as of now."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    names = Path("/proc/self/ns/pid")
    return Holder(
        host=socket.gethostname(),
        boot=f"{boot.read_text().strip()} {names.readlink()} {_COUNTED}" if boot.exists() else str(psutil.boot_time()),
        pid=os.getpid(),
        started=start_of(psutil.Process()),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def start_of(process: psutil.Process) -> float:
    """Return when a process started, s since boot, which does not change when the clock is set."""
    return process.create_time() - psutil.boot_time()


def is_here(holder: Holder) -> bool:
    """Return whether a holder is on this host, in this boot and process namespace, so that `runs` can check it."""
    me = myself()
    return (holder.host, _bare(holder.boot)) == (me.host, _bare(me.boot))


def _bare(boot: str) -> str:
    return boot.removesuffix(f" {_COUNTED}")


def runs(holder: Holder) -> bool:
    """Return whether a holder on this host is alive."""
    try:
        process = psutil.Process(holder.pid)
        starts = start_of(process), process.create_time()
        return process.status() != psutil.STATUS_ZOMBIE and min(abs(one - holder.started) for one in starts) < 2.0
    except psutil.NoSuchProcess:
        return False


def parsed_holder(content: bytes) -> Holder | None:
    """Return the holder named in a lease file; None if it cannot be read."""
    try:
        return Holder.model_validate_json(content)
    except ValidationError:
        return None


def own_fence(out: Path) -> Fence | None:
    """Return the fence for this process's lease of ``out``; None if nobody holds it.

    Raises
    ------
    Misconfigured
        Another process has taken it over (``taken_over``), or the store refuses access.
    """
    path = out / "lease.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    holder, me = parsed_holder(content), myself()
    if holder is None or (holder.host, holder.boot, holder.pid) != (me.host, me.boot, me.pid):
        raise taken_over(path)
    return Fence(path, content)
