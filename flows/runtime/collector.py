"""Imports of a command, without the garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the garbage collector from looking through what imports make, which is never garbage."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def resume_collector() -> None:
    """Let a paused collector look at what is made from here on: what begins now may take hours."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
