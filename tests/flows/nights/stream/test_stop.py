"""The end of a stream, in a process that does nothing else."""

import signal
import subprocess
import sys
from contextlib import suppress
from time import monotonic, sleep

import psutil
import pytest

from flows.nights.stream import stop as module
from flows.nights.stream.stop import Stop

module.LAST_S = 0.2

SCRIPT = """
import subprocess, sys, threading, time
from flows.nights.stream import stop as module
from flows.nights.stream.stop import Stop
module.LAST_S = 0.2
child = subprocess.Popen(["sleep", "600"])
started = threading.Event()
def keep():
    while True:
        kept = subprocess.Popen(["sleep", "600"])
        started.set()
        kept.wait()
if sys.argv[1] == "keeping":
    threading.Thread(target=keep, daemon=True).start()
    started.wait()
with Stop(3.0, lambda text, level: print(text, file=sys.stderr, flush=True)).listening() as stop:
    if sys.argv[1] == "working":
        stop.begin()
    elif sys.argv[1] == "telling":
        stop.begin(lambda: print("the last word", file=sys.stderr, flush=True))
    elif sys.argv[1] == "failing":
        stop.begin(lambda: 1 / 0)
    elif sys.argv[1] == "hanging":
        stop.begin(lambda: time.sleep(600))
    print(child.pid, flush=True)
    while True:
        time.sleep(0.05)
"""


def ended(state, *signals):
    """Return exit code, seconds from the first signal, what was said, and whether its child lives."""
    command = [sys.executable, "-c", SCRIPT, state]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    begin = monotonic()
    for number in signals:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    return process.returncode, monotonic() - begin, stderr, lives(child)


def lives(pid):
    """Return whether a process lives on; one that was killed has a moment to end in."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for _ in range(100):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            sleep(0.05)
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_what_has_not_begun_and_all_that_it_started(number):
    code, seconds, said, left = ended("starting", number)
    assert (code, said, left) == (128 + number, "", False)
    assert seconds < 5


def test_the_first_signal_gives_time_which_is_bounded():
    code, seconds, said, left = ended("working", signal.SIGTERM)
    assert (code, left) == (1, False)
    assert 0.9 < seconds < 10
    first, last = said.splitlines()
    assert first.startswith("Asked to stop: what is on its way has 3 s")
    assert last.startswith("Not finished within 3 s.")


@pytest.mark.parametrize(("what", "lines"), [("telling", ["the last word"]), ("failing", []), ("hanging", [])])
def test_what_is_to_be_written_down_last_is_before_it_ends_and_holds_up_nothing(what, lines):
    code, seconds, said, left = ended(what, signal.SIGTERM)
    assert (code, left, said.splitlines()[2:]) == (1, False, lines)
    assert seconds < 10


def test_another_signal_ends_it_at_once():
    code, seconds, _, left = ended("working", signal.SIGTERM, signal.SIGINT)
    assert (code in (128 + signal.SIGINT, 128 + signal.SIGTERM), left) == (True, False)  # whichever is heard last
    assert seconds < 5


def test_a_child_that_a_thread_would_start_again_when_it_ends_is_not():
    for _ in range(5):
        code, _, _, left = ended("keeping", signal.SIGTERM)  # which waits for whoever holds the standard error
        assert (code, left) == (128 + signal.SIGTERM, False)


def test_what_ends_in_time_is_left_alone_and_signals_are_what_they_were():
    before = signal.getsignal(signal.SIGTERM)
    with Stop(2.1, print).listening() as stop:
        stop.begin()
        assert not stop.asked
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        assert signal.getsignal(signal.SIGTERM) == stop.heard
    assert signal.getsignal(signal.SIGTERM) == before
    assert stop._timer.finished.wait(5)  # cancelled: this process lives
