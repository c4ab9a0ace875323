import subprocess
import sys
import threading
from types import SimpleNamespace

import numba
import pytest
import torch

from flows.runtime import parallel
from flows.runtime.parallel import here, map_in_processes, side_by_side, single_thread, tell_to, teller


def thread(_):
    return threading.current_thread()


@pytest.mark.parametrize(
    ("count", "remote", "apart"), [(3, True, True), (2, True, True), (1, True, False), (3, False, False)]
)
def test_calls_that_wait_for_others_are_made_side_by_side(count, remote, apart):
    here = threading.current_thread()
    assert all((one is not here) is apart for one in side_by_side(thread, range(count), remote))
    assert side_by_side(lambda n: n * n, range(40), remote) == [n * n for n in range(40)]
    assert side_by_side(thread, [], remote) == []


def test_lines_are_told_here_or_to_the_process_that_called():
    lines, sent = [], []
    teller(here, lines.append)("of this process")
    apart = teller(lambda function, *arguments: function(*arguments), lines.append)
    apart("nobody has called")
    tell_to(SimpleNamespace(send=sent.append))
    try:
        apart("of another")
    finally:
        tell_to(None)
    assert (lines, sent) == (["of this process"], ["of another"])


@pytest.mark.parametrize(("count", "threads"), [(5, 5), (16, 16), (40, 16)])
def test_no_more_than_sixteen_are_on_their_way(monkeypatch, count, threads):
    asked = []

    class Pool(parallel.ThreadPoolExecutor):
        def __init__(self, workers):
            asked.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Pool)
    side_by_side(thread, range(count), True)
    assert asked == [threads]


def test_a_block_has_one_thread_and_what_was_is_restored():
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(3)
    try:
        with single_thread():
            assert (torch.get_num_threads(), numba.get_num_threads()) == (1, 1)
        assert (torch.get_num_threads(), numba.get_num_threads()) == (3, before[1])
    finally:
        torch.set_num_threads(before[0])


def test_the_start_of_numbas_threads_leaves_torch_its_number(monkeypatch):
    before = torch.get_num_threads()

    def start():
        torch.set_num_threads(before + 3)
        return 1

    monkeypatch.setattr(numba, "get_num_threads", start)
    with single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_one_worker_is_this_process_with_one_thread():
    seen = list(map_in_processes(lambda n: (n, torch.get_num_threads(), threading.current_thread()), [1, 2], 1))
    assert seen == [(n, 1, threading.current_thread()) for n in (1, 2)]


def test_what_a_process_of_a_pool_has_loaded_has_one_thread_and_what_it_loads_will_have(monkeypatch):
    before = torch.get_num_threads(), numba.get_num_threads()
    monkeypatch.setattr(parallel, "end_with_parent", lambda: None)
    monkeypatch.setattr(parallel, "os", SimpleNamespace(environ={}))
    torch.set_num_threads(3)
    try:
        parallel._one_thread()
        assert (torch.get_num_threads(), numba.get_num_threads()) == (1, 1)
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])
    told = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    assert parallel.os.environ == told
    monkeypatch.setattr(parallel, "sys", SimpleNamespace(modules={}))
    parallel._one_thread()
    assert parallel.os.environ == told | {"NUMBA_NUM_THREADS": "1"}


def test_what_waits_for_the_parent_does_not_hold_up_the_end(monkeypatch):
    ended, waited, before = threading.Event(), [], set(threading.enumerate())
    monkeypatch.setattr(parallel, "_end_after", lambda sentinel: waited.append(sentinel) or ended.wait())
    monkeypatch.setattr(parallel, "signal", SimpleNamespace(signal=lambda *_: None, SIGINT=2, SIG_IGN=1))
    monkeypatch.setattr(parallel, "parent_process", lambda: None)
    parallel.end_with_parent()
    assert set(threading.enumerate()) == before
    monkeypatch.setattr(parallel, "parent_process", lambda: SimpleNamespace(sentinel=7))
    parallel.end_with_parent()
    (thread,) = set(threading.enumerate()) - before
    ended.set()
    thread.join()
    assert (waited, thread.daemon) == ([7], True)


POOL = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from time import sleep
from flows.runtime.parallel import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context(sys.argv[1]), end_with_parent) as pool:
        pool.submit(print, "at work", flush=True).result()
        sleep(300)
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_processes_of_a_killed_command_end_too_and_leave_its_pipes(tmp_path, method):
    (tmp_path / "pool.py").write_text(POOL)
    command = subprocess.Popen([sys.executable, tmp_path / "pool.py", method], stdout=subprocess.PIPE, text=True)
    assert command.stdout.readline() == "at work\n"
    command.kill()
    assert command.communicate(timeout=60) == ("", None)  # it waits for all that hold the pipe
