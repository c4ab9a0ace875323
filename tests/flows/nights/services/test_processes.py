import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from flows.nights.services import processes as postgres
from flows.nights.services.folder import private_file
from flows.nights.services.processes import Daemon, Postgres
from schemas.errors import Misconfigured, Retryable
from tests.support.services import new_services, place, queried, require_postgres

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
        "from pathlib import Path\nfrom flows.nights.services.processes import Daemon\n"
        f"Daemon(Path({str(tmp_path / 'record')!r}), Path({str(tmp_path / 'log')!r}))"
        ".start(['sleep', '600'], {'PATH': '/usr/bin:/bin'})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    daemon = Daemon(tmp_path / "record", tmp_path / "log")
    assert daemon.process.name() == "sleep"
    assert daemon.log.stat().st_mode & 0o777 == 0o600
    daemon.stop(10)
    assert daemon.process is None


def test_what_ends_by_itself_as_it_is_stopped_is_forgotten(tmp_path):
    class Ending(Daemon):
        @property
        def process(self):
            found = super().process
            found.kill()
            os.waitpid(found.pid, 0)
            return found

    daemon = Ending(tmp_path / "record", tmp_path / "log")
    daemon.start(["sleep", "600"], {"PATH": "/usr/bin:/bin"})
    daemon.stop(10)
    assert not daemon.record.exists()


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
        known = json.loads(record)
        daemon.record.write_text(json.dumps(known | {"started": known["started"] - 100}))
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


pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def database():
    require_postgres()
    with place() as path:
        running = Postgres(new_services(path))
        running.start()
        yield running
        running.stop()


def test_it_answers_whom_it_should_and_nobody_else(database):
    assert database.healthy
    assert queried(database, "SHOW password_encryption").stdout.strip() == "scram-sha-256"
    assert queried(database, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user").stdout.strip() == "f"
    assert "password authentication failed" in queried(database, "SELECT 1", password="wrong").stderr
    assert "password authentication failed" in queried(database, "SELECT 1", user="postgres").stderr


def test_it_listens_on_this_machine_alone_and_is_not_root(database):
    pid = int((database.data / "postmaster.pid").read_text().split()[0])
    process = psutil.Process(pid)
    assert {one.laddr.ip for one in process.net_connections() if one.status == "LISTEN"} == {"127.0.0.1"}
    assert process.uids().effective != 0
    assert database.data.stat().st_mode & 0o777 == 0o700
    assert database.folder.database_password not in " ".join(process.cmdline())
    assert database.folder.database_password not in (database.data.parent / "log").read_text()


def test_what_is_written_outlives_a_kill(database):
    queried(database, "CREATE TABLE kept (value int); INSERT INTO kept VALUES (7)")
    process = psutil.Process(int((database.data / "postmaster.pid").read_text().split()[0]))
    family = [process, *process.children(recursive=True)]
    process.kill()
    psutil.wait_procs(family, timeout=60)
    assert not database.running
    assert not database.healthy
    database.start()
    assert database.running
    assert queried(database, "SELECT value FROM kept").stdout.strip() == "7"
    database.stop()
    database.stop()
    assert not database.running
    database.start()
    assert queried(database, "SELECT value FROM kept").stdout.strip() == "7"


def test_one_that_was_half_made_is_made_again(database):
    with place() as path:
        folder = new_services(path)
        half = folder.path / "postgres" / "new" / "base"
        half.mkdir(parents=True)
        other = Postgres(folder)
        private_file(folder.path / "database-password", "it's; a\\ 'secret")
        del folder.__dict__["database_password"]
        other.start()
        assert other.healthy
        assert not (folder.path / "postgres" / "new").exists()
        other.stop()


def test_a_port_that_is_taken_is_named(database):
    with place() as path:
        folder = new_services(path)
        taken = folder.addresses.model_copy(update={"postgres_port": database.folder.addresses.postgres_port})
        other = Postgres(type(folder)(folder.path, taken))
        with pytest.raises(Misconfigured, match=rf"(?s)pg_ctl ends with 1.*port {taken.postgres_port} must be free"):
            other.start()


def test_where_it_is_not_installed_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(postgres, "PACKAGES", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Misconfigured, match=r"initdb: is not installed.*apt-get install postgresql"):
        Postgres(new_services(tmp_path)).start()


def test_data_of_a_version_that_is_not_installed_are_left_alone(monkeypatch, tmp_path):
    folder = new_services(tmp_path)
    other = Postgres(folder)
    other.data.mkdir(parents=True)
    (other.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(Misconfigured, match=r"pg_ctl: is not installed in .*/9/bin.*pg_upgrade"):
        other.start()
    assert (other.data / "PG_VERSION").read_text() == "9\n"
