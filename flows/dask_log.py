"""What Dask says on the terminal: warnings, and nothing else."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def warnings_alone() -> Iterator[None]:
    """Keep Dask's infos in this process off the terminal, also those of its end.

    Set on the logger: Dask silences its own handlers, and Prefect may have put one elsewhere.
    """
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def without_failures_of_tasks() -> None:
    """Keep failures of tasks out of the log of this worker: the command is told of each, and says so itself."""
    log = logging.getLogger("distributed.worker")
    if _is_news not in log.filters:
        log.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Compute Failed")
