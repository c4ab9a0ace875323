"""Log of a command and its workers: words on the terminal, or a JSON object per line."""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flows.runtime.secrets import without_secrets
from flows.runtime.traces import Fields, bound, span, trace_id, traceparent, where
from schemas.errors import printable

if TYPE_CHECKING:
    from rich.console import Console


LOGGER = logging.getLogger("nightstride")

_run: str | None = None


def log_as_json(run: str | None = None) -> str:
    """Log as JSON from now on, one object per line on standard error, whatever the source; return the run's name.

    Parameters
    ----------
    run
        Its name; None: a new one. Workers are given that of their command.
    """
    global _run
    first, _run = _run is None, run or _run or uuid4().hex
    if first:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_formatter())
        logging.getLogger().handlers[:] = [handler]
        logging.captureWarnings(True)
        LOGGER.setLevel(logging.INFO)
        sys.excepthook = _uncaught
    for name in ("distributed", "bokeh", "tornado"):  # Dask gives them handlers of their own
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    return _run


def run_name() -> str | None:
    """Return the name of the run; None if the log is plain text."""
    return _run


def report_line(console: "Console", text: str, level: int = logging.INFO, **fields: Any) -> None:
    """Print a line on the console, or log it with its fields if the log is JSON; a quiet console still warns."""
    if _run is None:
        before, console.quiet = console.quiet, console.quiet and level < logging.WARNING
        console.print(printable(without_secrets(text), lines=True), highlight=False, markup=False, soft_wrap=True)
        console.quiet = before
    else:
        LOGGER.log(level, text, extra=fields)


def _formatter() -> logging.Formatter:
    # Imported here: most commands do not need it.
    from pythonjsonlogger.json import JsonFormatter

    class JsonLines(JsonFormatter):
        """Formatter of JSON lines: the time first, then what, where and who."""

        def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
            """Put our own fields before the others of a record."""
            log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
            log_data["level"] = record.levelname.lower()
            log_data["event"] = record.getMessage()
            log_data |= {"run": _run, **where(), "trace": trace_id(), "logger": record.name, "pid": record.process}
            super().add_fields(log_data, record, message_dict)
            log_data.pop("message", None)

        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            """Remove secrets anywhere in a record, and fields without a value."""
            return {name: _clean(value) for name, value in log_data.items() if value is not None}

    return JsonLines()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {name: _clean(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return value


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    LOGGER.critical("ended by an error", exc_info=(kind, error, trace))


@dataclass(frozen=True)
class Origin:
    """What a worker knows of the command that its task comes from.

    Attributes
    ----------
    run
        Name of the run; None: the log is plain text.
    fields
        Names and values of what is being worked on.
    parent
        W3C traceparent of the exposure; None: it is not traced.
    """

    run: str | None
    fields: Fields
    parent: str | None


def origin() -> Origin | None:
    """Return the origin for tasks submitted here; None if a worker does not need it."""
    run, parent = run_name(), traceparent()
    return None if run is None and parent is None else Origin(run, dict(where()), parent)


def observed(came: Origin, name: str, task: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task in a worker as part of its trace; if the log is JSON, log how it ended."""
    start = perf_counter()
    run = {} if came.run is None else {"run": came.run}
    with bound({**came.fields, **run}), span(name, came.fields, came.parent):
        try:
            result = task(*arguments)
        except Exception as error:
            _log(came, logging.WARNING, f"{name} failed: {error}", name, start)
            raise
        _log(came, logging.INFO, f"{name} done", name, start)
        return result


def _log(came: Origin, level: int, event: str, task: str, start: float) -> None:
    if came.run is not None:
        LOGGER.log(level, event, extra={"task": task, "seconds": round(perf_counter() - start, 4)})
