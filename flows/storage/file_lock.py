"""File lock that the kernel releases when its process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import psutil

from schemas.errors import Misconfigured

MODE = 0o660
"""Mode of lock files: whoever can open one can block all others, so only the owner and the group may."""

_POLL_S = 0.02


@contextmanager
def file_lock(path: Path, wait_s: float) -> Iterator[int]:
    """Hold the lock on ``path``, which is created if necessary; yield the file descriptor.

    Raises
    ------
    Misconfigured
        ``lock_held``: another process has held it for ``wait_s``.
    OSError
        It cannot be created or opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, MODE)
    try:
        with suppress(PermissionError):  # it belongs to another member of the group
            os.fchmod(descriptor, os.fstat(descriptor).st_mode & MODE)
        _wait(descriptor, path, wait_s)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(descriptor: int, path: Path, wait_s: float) -> None:
    end = monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if monotonic() >= end:
                raise Misconfigured(
                    "lock_held",
                    str(path),
                    f"{_holder(descriptor)} has locked it for {wait_s:g} s or more.",
                    "see what that process is; if it is not one of nightstride's, end it.",
                ) from None
        sleep(_POLL_S)


def _holder(descriptor: int) -> str:
    """Return who holds the lock on a file, as far as this machine's kernel shows it (Linux, proc_locks(5))."""
    table, inode = Path("/proc/locks"), str(os.fstat(descriptor).st_ino)
    lines = [line.split() for line in table.read_text().splitlines()] if table.exists() else []
    pids = [int(line[4]) for line in lines if line[1] == "FLOCK" and line[5].split(":")[-1] == inode]
    try:
        process = psutil.Process(pids[0])
        return f"process {process.pid} ({process.name()}, user {process.username()})"
    except (IndexError, ValueError, psutil.Error):  # held on another machine or in another container
        return "a process"
