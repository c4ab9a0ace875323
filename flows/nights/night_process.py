"""Process beside that of a run, for the work on whole nights: association, its catalogues, and pages."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any

from flows.nights.cluster.local import METHOD
from flows.runtime.log import log_as_json, observed, origin, run_name
from flows.runtime.parallel import Caller, end_with_parent, tell_to
from flows.runtime.traces import start_traces, stop_traces, wanted
from flows.storage.fence import fenced_task
from flows.storage.holder import own_fence
from flows.storage.object_store import configure
from schemas.settings import Settings, StoreSettings


@contextmanager
def night_process(out: Path, settings: Settings, say: Callable[[str], object]) -> Iterator[Caller]:
    """Yield a caller of functions in a separate process, which is forked like local workers.

    In the process of the run, imports for these functions would take seconds, and each exposure would take memory. They
    publish only while the run holds ``out``, and are part of its trace.

    Parameters
    ----------
    out, settings
        Output folder and settings of the run, which holds the lease.
    say
        Receives the messages of functions; see `flows.runtime.parallel.teller`.
    """
    context = get_context(METHOD if settings.cluster.kind == "local" else "spawn")
    heard, told = context.Pipe(duplex=False)
    with heard, told, ProcessPoolExecutor(1, context, _begin, (settings.store, run_name(), wanted(), told)) as pool:
        call = _Beside(out, pool, heard, told, say)
        try:
            yield call
        except Exception:
            raise
        except BaseException:  # the command is ending, and work in progress there would delay it
            call.kill()
            raise
        if wanted():
            with suppress(Exception):  # it has ended, or the folder is another run's
                call(stop_traces)


@dataclass
class _Beside:
    """Caller of functions in another process: parameters of `night_process`, and both ends of the pipe from it."""

    out: Path
    pool: ProcessPoolExecutor
    heard: Connection
    told: Connection
    say: Callable[[str], object]

    def __post_init__(self) -> None:
        self._one_at_a_time, self._pid = Lock(), 0

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        came, fence = origin(), own_fence(self.out)
        if came is not None and arguments:
            function, arguments = observed, (came, _name(function), function, *arguments)
        if fence is not None:
            function, arguments = fenced_task, (fence, function, *arguments)
        with self._one_at_a_time:
            done = self.pool.submit(function, *arguments)
            done.add_done_callback(lambda _: self.told.send(None))  # also where the process has died
            while (line := self.heard.recv()) is not None:
                if isinstance(line, int):
                    self._pid = line
                else:
                    self.say(line)
            return done.result()

    def kill(self) -> None:
        """End the process at once, if it has started."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)


def _name(function: Callable[..., Any]) -> str:
    called = getattr(function, "func", function)  # of a partial
    return str(called.__name__).strip("_")


def _begin(store: StoreSettings, run: str | None, traced: bool, told: Connection) -> None:
    tell_to(told)
    told.send(os.getpid())
    end_with_parent()
    configure(store)
    if run is not None:
        log_as_json(run)
    if traced:
        start_traces()
