import logging
import os
import subprocess
import sys

import dask
import distributed  # noqa: F401 registers its settings with Dask
from dask import system
from distributed.comm import CommClosedError

from flows.nights.cluster import local as module
from flows.nights.cluster.local import (
    MALLOC,
    THREADS,
    WORKERS,
    environment,
    exports,
    gpu_host_bytes,
    local_workers,
    warnings_alone,
    without_failures_of_tasks,
)
from schemas.settings import DetectSettings, ExecutionSettings, Settings


def test_one_worker_per_core_of_the_process_or_its_container_unless_told(monkeypatch):
    monkeypatch.setattr(system, "_try_extract_cgroup_cpu_quota", lambda: (None, None))
    assert local_workers(Settings()) == len(os.sched_getaffinity(0))
    monkeypatch.setattr(system, "_try_extract_cgroup_cpu_quota", lambda: (50_000, 100_000))  # half a core
    assert local_workers(Settings()) == 1
    assert local_workers(Settings(execution=ExecutionSettings(workers=7))) == 7


def test_room_for_cuda_where_it_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "GPU_CONTROL", tmp_path / "nvidiactl")
    assert gpu_host_bytes(Settings()) == 0
    assert gpu_host_bytes(Settings(detect=DetectSettings(device="cuda"))) > 0
    (tmp_path / "nvidiactl").touch()
    assert gpu_host_bytes(Settings()) > 0
    assert gpu_host_bytes(Settings(detect=DetectSettings(device="cpu"))) == 0


def test_dask_reads_from_the_environment_what_our_own_workers_get():
    code = f"import dask, json; print(json.dumps([dask.config.get(name) for name in {list(WORKERS)}]))"
    script = "\n".join([*exports(), f'{sys.executable} -c "{code}"'])
    run = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    assert dask.config.get("distributed.worker.memory.target") is not False
    assert run.stdout.strip() == '[false, false, false, 0.95, "500ms", false]'


def test_threads_and_allocator_are_among_it():
    assert (THREADS | MALLOC).items() <= environment().items()


SCRIPT = """
import multiprocessing, os, sys
from flows.nights.cluster.local import MALLOC, METHOD, THREADS, start_worker_server

def look(queue):
    imported = {"torch", "distributed", "flows.inputs.ingest"} <= sys.modules.keys()
    queue.put((imported, {name: os.environ[name] for name in THREADS | MALLOC}, os.getppid()))

if __name__ == "__main__":
    before = dict(os.environ)
    start_worker_server()
    assert os.environ == before
    context = multiprocessing.get_context(METHOD)
    answers = []
    for _ in range(2):
        queue = context.Queue()
        child = context.Process(target=look, args=(queue,))
        child.start()
        answers.append(queue.get())
        child.join()
    assert answers[0] == answers[1]
    imported, environment, parent = answers[0]
    assert imported, "nothing was imported before the fork"
    assert environment == THREADS | MALLOC
    assert parent != os.getpid()
"""


def test_processes_are_forked_from_one_that_has_imported_the_libraries(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    others = os.environ | dict.fromkeys(THREADS | MALLOC, "7")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, env=others)
    assert run.returncode == 0, run.stderr


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
        for error, said in ((CommClosedError("in <TLS ConnectionPool>"), False), (TimeoutError(), True)):
            beat = record(log.name, logging.ERROR, "Failed to communicate with scheduler during heartbeat.")
            beat.exc_info = (type(error), error, None)
            assert bool(log.filter(beat)) is said  # the scheduler has ended, or does not answer
    finally:
        log.filters[:] = before
