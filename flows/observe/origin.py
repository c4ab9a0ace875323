"""Where a task of a worker comes from, so that its logs and spans say so."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from flows.observe.log import LOGGER, run_name
from flows.observe.traces import span, traceparent
from flows.observe.where import Fields, bound, where


@dataclass(frozen=True)
class Origin:
    """What a worker is told of the command that a task belongs to.

    Attributes
    ----------
    run
        Name of the run; None: logs are words.
    fields
        What is worked on.
    parent
        W3C traceparent of the exposure; None: it is not traced.
    """

    run: str | None
    fields: Fields
    parent: str | None


def origin() -> Origin | None:
    """Give the origin of a task that is handed out here; None if a worker need not know."""
    run, parent = run_name(), traceparent()
    return None if run is None and parent is None else Origin(run, dict(where()), parent)


def observed(came: Origin, task: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task in a worker, as part of the trace that it belongs to; log how it ended if logs are JSON."""
    start = perf_counter()
    run = {} if came.run is None else {"run": came.run}
    with bound({**came.fields, **run}), span(task.__name__, came.fields, came.parent):
        try:
            result = task(*arguments)
        except Exception as error:
            _log(came, logging.WARNING, f"{task.__name__} failed: {error}", task, start)
            raise
        _log(came, logging.INFO, f"{task.__name__} done", task, start)
        return result


def _log(came: Origin, level: int, event: str, task: Callable[..., Any], start: float) -> None:
    if came.run is not None:
        LOGGER.log(level, event, extra={"task": task.__name__, "seconds": round(perf_counter() - start, 4)})
