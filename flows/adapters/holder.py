"""Who holds an output folder: a process, told apart from others on this host and elsewhere."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import Misconfigured


class Holder(BaseModel):
    """The process that holds a lease, told apart from a later one with the same number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    boot: str = Field(description="Boot and process namespace: within one, process numbers can be compared.")
    pid: int
    started: float = Field(description="Start of the process, s since 1970.")
    since: str = Field(description="When it took the lease, UTC.")


def myself() -> Holder:
    """Give this process, as of now."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    names = Path("/proc/self/ns/pid")
    return Holder(
        host=socket.gethostname(),
        boot=f"{boot.read_text().strip()} {names.readlink()}" if boot.exists() else str(psutil.boot_time()),
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def runs(holder: Holder) -> bool:
    """Tell whether a holder on this host is alive."""
    try:
        process = psutil.Process(holder.pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - holder.started) < 2.0
    except psutil.NoSuchProcess:
        return False


def locked(out: Path, holder: Holder) -> Misconfigured:
    """Give the error of a second run."""
    return Misconfigured(
        "locked",
        str(out),
        f"another run holds it: process {holder.pid} on {holder.host}, since {holder.since}.",
        "wait for that run to end, or choose another --out.",
    )
