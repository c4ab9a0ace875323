"""Fence of a task: it publishes only while the run that submitted it holds the output folder.

A run whose host was suspended may wake up, with its workers, after another run has taken over its folder. A task
carries the lease of its run, and compares it with the current lease just before each file or group gets its name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import Misconfigured


@dataclass(frozen=True)
class Fence:
    """Lease of a run.

    Attributes
    ----------
    path
        ``OUT/lease.json``.
    content
        Content as written by the run; heartbeats do not change it.
    """

    path: Path
    content: bytes


_current: ContextVar[Fence | None] = ContextVar("fence", default=None)


@contextmanager
def behind(fence: Fence | None) -> Iterator[None]:
    """Allow publishing within the block only while the lease of ``fence`` holds; None: no condition."""
    before = _current.set(fence)
    try:
        yield
    finally:
        _current.reset(before)


def fenced_task(fence: Fence, task: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task behind a fence."""
    with behind(fence):
        return task(*arguments)


def require_held(path: Path) -> None:
    """Raise if the run that submitted this task is over, or another run holds its folder now.

    Raises
    ------
    Misconfigured
        ``taken_over``, with ``path`` in the message.
    OSError, Misconfigured, Retryable
        The lease cannot be read.
    """
    fence = _current.get()
    if fence is None:
        return
    try:
        found = fence.path.read_bytes()
    except FileNotFoundError:
        found = b""
    if found != fence.content:
        raise taken_over(path)


def taken_over(path: Path) -> Misconfigured:
    """Return the error for a run that has lost its folder."""
    return Misconfigured(
        "taken_over",
        str(path),
        "cannot be written: another run has taken the folder over from this one.",
        "let one run at a time write to a folder, and see why this one gave no sign of life for two minutes.",
    )
