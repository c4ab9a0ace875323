"""Parallel work: in processes, and in threads that wait for other machines."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, Protocol, TypeVar

Given = TypeVar("Given")
Found = TypeVar("Found")

SIDE_BY_SIDE = 16
"""Number of requests sent at a time."""

_caller: Connection | None = None  # of a process that works for a run


class Caller(Protocol):
    """Way to call a function: here, or in another process, to and from which arguments and result are sent."""

    def __call__(self, function: Callable[..., Found], *arguments: Any) -> Found:
        """Return what the function returns, or raise what it raises."""


def here(function: Callable[..., Found], *arguments: Any) -> Found:
    """Call a function in this process."""
    return function(*arguments)


def tell_to(caller: Connection | None) -> None:
    """Send the messages of functions called in this process to the process that called them."""
    global _caller
    _caller = caller


def _tell(line: str) -> None:
    if _caller is not None:
        _caller.send(line)


def teller(call: Caller, say: Callable[[str], object]) -> Callable[[str], object]:
    """Return what a function called with ``call`` reports its messages to, so that they reach ``say``."""
    return say if call is here else _tell


def map_in_processes(function: Callable[[Given], Found], items: Iterable[Given], workers: int) -> Iterator[Found]:
    """Apply ``function`` in ``workers`` single-threaded processes; yield results in the order of the items.

    With one worker that is this process: a new one takes seconds to import what it needs.
    """
    if workers == 1:
        with single_thread():
            yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread) as pool:
        yield from pool.map(function, items)


def end_with_parent() -> None:
    """End this process as soon as its parent has ended for whatever reason, Ctrl-C included.

    A process of a pool would otherwise wait for work forever, and keep open the ends of pipes that others read.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := parent_process()) is not None:
        Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@contextmanager
def single_thread() -> Iterator[None]:
    """Limit numba to one thread within the block, and torch if it is loaded; restore their numbers."""
    import numba

    torch: Any = sys.modules.get("torch")  # loading it takes two seconds
    before = 1 if torch is None else torch.get_num_threads()
    before_numba = numba.get_num_threads()  # starts numba's threads, which raises torch's number to theirs
    numba.set_num_threads(1)
    if torch is not None:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before_numba)
        if torch is not None:
            torch.set_num_threads(before)


def _one_thread() -> None:
    """Limit this process to one thread, numba and torch included, without importing them, which takes seconds."""
    end_with_parent()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    numba, torch = (sys.modules.get(name) for name in ("numba", "torch"))
    if numba is None:
        os.environ["NUMBA_NUM_THREADS"] = "1"  # numba ignores a later change
    else:
        numba.set_num_threads(1)
    if torch is not None:
        torch.set_num_threads(1)


def side_by_side(function: Callable[[Given], Found], items: Sequence[Given], remote: bool) -> list[Found]:
    """Call a function for each item, return results in order; calls that wait for other machines overlap."""
    if not remote or len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(SIDE_BY_SIDE, len(items))) as pool:
        return list(pool.map(function, items))
