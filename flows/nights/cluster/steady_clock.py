"""Clock of Dask's messages and heart-beats, which goes on when the machine's is set.

Dask waits for some milliseconds between messages (`distributed.batched`), and Tornado between the calls of whatever is
repeated, by the wall clock. If that is set back by an hour during such a wait, nothing more is sent for an hour.
"""

import time

import distributed.batched
from tornado.ioloop import IOLoop

_BEGAN = time.time() - time.monotonic()


def steady_time() -> float:
    """Return the time by a clock that was set when this module was loaded, s since 1970."""
    return _BEGAN + time.monotonic()


def keep_steady() -> None:
    """Let Dask and Tornado wait by `steady_time` in this process, for messages that are on their way, too."""
    distributed.batched.time = steady_time
    IOLoop.time = lambda _: steady_time()  # type: ignore[assignment, method-assign]
