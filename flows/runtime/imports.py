"""Imports that a command can do without, or faster."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points

from schemas.settings import STAGES


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


def without_pandas() -> None:
    """Keep pyarrow from importing pandas, which it does for its first array, for a quarter of a second, if it is there.

    Nothing here needs it. Stages of other packages may: where there are some, and where it is imported already, nothing
    changes. It can be imported afterwards; pyarrow then makes tables of its frames if it is told to.
    """
    if "pandas" in sys.modules or entry_points(group=STAGES):
        return
    import numpy as np
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array(np.zeros(1))
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("kept out")
