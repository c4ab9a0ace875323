import logging

from flows.dask_log import warnings_alone, without_failures_of_tasks


def record(name, level, text):
    return logging.LogRecord(name, level, __file__, 1, text, (), None)


def test_infos_are_kept_back_and_warnings_are_not():
    log = logging.getLogger("distributed")
    before = log.level
    with warnings_alone():
        assert not logging.getLogger("distributed.scheduler").isEnabledFor(logging.INFO)
        assert logging.getLogger("distributed.scheduler").isEnabledFor(logging.WARNING)
    assert log.level == before


def test_failures_of_tasks_are_kept_back_once_and_other_errors_are_not():
    log = logging.getLogger("distributed.worker")
    before = list(log.filters)
    try:
        without_failures_of_tasks()
        without_failures_of_tasks()
        assert len(log.filters) == len(before) + 1
        assert not log.filter(record(log.name, logging.ERROR, "Compute Failed\nKey: %s"))
        assert log.filter(record(log.name, logging.ERROR, "Failed to communicate with scheduler during heartbeat."))
    finally:
        log.filters[:] = before
