"""End of a stream in bounded time, whenever and however often it is signalled."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

import psutil

ENDING_S = 2.0
"""Part of the given time reserved for ending all processes, s."""

LAST_S = 1.0
"""Part of that for writing down the final state, s."""

HOLD_S = 60.0
"""Longer than the end takes, s: for so long, a thread that waits for the interpreter does not request it."""

LEFT = "What is on its way is left to the next run: what is published is kept."


class Stop:
    """Handling of SIGTERM and SIGINT: the first lets current work finish for a while, any further one ends it at once.

    Parameters
    ----------
    within_s
        Longest time from the first signal to the end of the process, s.
    say
        Receives one line per event, and its level in `logging`.
    """

    def __init__(self, within_s: float, say: Callable[[str, int], object]) -> None:
        self._within_s, self._say = within_s, say
        self._heard, self._working = False, False
        self._timer: threading.Timer | None = None
        self._last: Callable[[], object] | None = None

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Handle signals as long as the block lasts; only in the main thread, since Python handles signals there."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self.heard) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Return whether a stop was requested."""
        return self._heard

    def begin(self, last: Callable[[], object] | None = None) -> None:
        """Note that work is in progress from now on; before that, the first signal ends the process.

        ``last`` is called for at most `LAST_S` if the process ends because its time is up.
        """
        self._working, self._last = True, last

    def heard(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal."""
        if self._heard or not self._working:
            _end(128 + number)
        self._heard = True
        self._timer = threading.Timer(max(self._within_s - ENDING_S, 0.0), self._give_up)
        self._timer.daemon = True
        self._timer.start()
        self._tell(f"Asked to stop: what is on its way has {self._within_s:g} s; a second signal ends it at once.")

    def _give_up(self) -> None:
        self._tell(f"Not finished within {self._within_s:g} s. {LEFT}", logging.WARNING)
        if self._last is not None:
            writer = threading.Thread(target=_tried, args=(self._last,), daemon=True)
            writer.start()
            writer.join(LAST_S)
        _end(1)

    def _tell(self, text: str, level: int = logging.INFO) -> None:
        with suppress(Exception):  # the signal may have interrupted a write to the same stream
            self._say(text, level)


def _tried(step: Callable[[], object]) -> None:
    with suppress(Exception):  # the disk may be full, or a store may not answer
        step()


def _end(code: int) -> NoReturn:
    """End this process and all its descendants at once; whatever they write is published completely or not at all.

    All are suspended first, so that none reports the end of another. Between the first kill and the exit, no other
    thread runs, since it might restart a worker that ended.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    seen: set[psutil.Process] = set()
    stopped: list[int] = []
    with suppress(psutil.Error):
        while started := set(psutil.Process().children(recursive=True)) - seen:
            seen |= started
            for child in started:
                with suppress(psutil.Error):
                    child.suspend()
                    stopped.append(child.pid)
    sys.setswitchinterval(HOLD_S)  # from here on no call lets another thread run
    for pid in stopped:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    os._exit(code)
