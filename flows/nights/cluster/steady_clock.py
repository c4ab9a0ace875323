"""Clock for Dask's messages and heartbeats that is not affected when the system clock is set.

Dask's pauses between messages (`distributed.batched`) and Tornado's periodic calls use the system clock. If that is set
back by an hour during such a pause, nothing is sent for an hour.
"""

import time

import distributed.batched
from tornado.ioloop import IOLoop

_BEGAN = time.time() - time.monotonic()


def steady_time() -> float:
    """Return the time of a clock that was set once, when this module was imported, s since 1970."""
    return _BEGAN + time.monotonic()


def keep_steady() -> None:
    """Let Dask and Tornado use `steady_time` in this process, including for pauses already begun."""
    distributed.batched.time = steady_time
    IOLoop.time = lambda _: steady_time()  # type: ignore[assignment, method-assign]
