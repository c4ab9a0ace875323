"""Importing without the garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector during imports, which leave nothing to collect."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def resume_collector() -> None:
    """Resume a paused collector: the work that begins now may take hours."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
