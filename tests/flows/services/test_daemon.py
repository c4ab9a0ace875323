import signal
import subprocess
import sys

import psutil
import pytest

from flows.services.daemon import Daemon
from schemas.errors import Misconfigured, Retryable

STUBBORN = "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); \
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print('ready', flush=True); time.sleep(600)"


def waited(daemon, text):
    for _ in range(600):
        if daemon.log.exists() and text in daemon.log.read_text():
            return
        daemon.process.is_running()
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError(daemon.log.read_text())


def test_it_outlives_who_starts_it_and_is_found_again(tmp_path):
    code = (
        "from pathlib import Path\nfrom flows.services.daemon import Daemon\n"
        f"Daemon(Path({str(tmp_path / 'record')!r}), Path({str(tmp_path / 'log')!r}))"
        ".start(['sleep', '600'], {'PATH': '/usr/bin:/bin'})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    daemon = Daemon(tmp_path / "record", tmp_path / "log")
    assert daemon.process.name() == "sleep"
    assert daemon.log.stat().st_mode & 0o777 == 0o600
    daemon.stop(10)
    assert daemon.process is None


def test_what_does_not_end_is_killed_with_all_it_has_started(tmp_path):
    daemon = Daemon(tmp_path / "record", tmp_path / "log")
    daemon.start([sys.executable, "-c", STUBBORN], {})
    waited(daemon, "ready")
    process = daemon.process
    (child,) = process.children()
    daemon.stop(0.2)
    assert daemon.process is None
    psutil.wait_procs([process, child], timeout=10)
    assert not [one for one in (process, child) if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_another_process_with_its_number_is_not_it(tmp_path):
    daemon = Daemon(tmp_path / "record", tmp_path / "log")
    daemon.start(["sleep", "600"], {"PATH": "/usr/bin:/bin"})
    record = daemon.record.read_text()
    try:
        started = daemon.process.create_time()
        daemon.record.write_text(record.replace(str(started), str(started - 100)))
        assert daemon.process is None
        daemon.record.write_text("{}")
        assert daemon.process is None
    finally:
        daemon.record.write_text(record)
        daemon.stop(10)


def test_what_cannot_be_recorded_is_not_left_running(tmp_path):
    (tmp_path / "record").mkdir()
    daemon = Daemon(tmp_path / "record", tmp_path / "log")
    code = "import os; print(os.getpid(), flush=True); import time; time.sleep(600)"
    before = set(psutil.Process().children())
    with pytest.raises((Misconfigured, Retryable, OSError)):
        daemon.start([sys.executable, "-c", code], {})
    assert not {one for one in set(psutil.Process().children()) - before if one.status() != psutil.STATUS_ZOMBIE}


def test_it_hears_interrupts_though_who_starts_it_does_not(tmp_path):
    daemon = Daemon(tmp_path / "record", tmp_path / "log")
    code = "import signal, time; print(signal.getsignal(signal.SIGINT).__name__, flush=True); time.sleep(600)"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        daemon.start([sys.executable, "-c", code], {})
    finally:
        signal.signal(signal.SIGINT, before)
    waited(daemon, "default_int_handler")
    daemon.stop(10)
