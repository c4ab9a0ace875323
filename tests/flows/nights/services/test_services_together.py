"""How services are started, stopped and looked at, with services that only say whether they run."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname
from types import SimpleNamespace

import pytest

from flows.nights.services import processes, stack
from flows.nights.services.folder import Addresses, ServiceFolder
from flows.nights.services.processes import Daemon, Postgres
from flows.nights.services.stack import Server, Worker, down, states, up
from schemas.errors import Misconfigured


class FakeService:
    """A service that is healthy some looks after it was started."""

    def __init__(self, name, done, running=False, looks=0, lives=True):
        self.name, self.done, self.running, self.looks, self.lives = name, done, running, looks, lives

    def start(self):
        self.done.append(f"start {self.name}")
        self.running = self.lives

    def stop(self):
        self.done.append(f"stop {self.name}")
        self.running = False

    @property
    def healthy(self):
        self.looks -= 1
        return self.running and self.looks < 0


@pytest.fixture
def folder(tmp_path):
    return ServiceFolder(tmp_path, Addresses())


@pytest.fixture
def faked(monkeypatch):
    """Services of which some run; what was done with them."""

    def make(*running, **given):
        done = []
        known = {name: FakeService(name, done, name in running, **given) for name in ("postgres", "server", "worker")}
        monkeypatch.setattr(stack, "services", lambda folder: known)
        return known, done

    return make


def test_what_does_not_run_is_started_in_its_order(folder, faked):
    _, done = faked("server")
    told = []
    up(folder, told.append)
    assert done == ["start postgres", "start worker"]
    assert told == ["postgres is started", "server runs", "worker is started"]


@pytest.mark.parametrize(
    ("parts", "stopped"), [([], ["worker", "server", "postgres"]), (["postgres", "worker"], ["worker", "postgres"])]
)
def test_what_needs_others_is_stopped_before_them(folder, faked, parts, stopped):
    _, done = faked("server", "worker")
    told = []
    down(folder, parts, told.append)
    assert done == [f"stop {name}" for name in stopped]
    assert told == [f"{name} {'does not run' if name == 'postgres' else 'is stopped'}" for name in stopped]
    with pytest.raises(Misconfigured, match="redis: is not a service"):
        down(folder, ["redis", "worker"], told.append)


def test_a_service_is_healthy_runs_or_is_down(folder, faked):
    known, _ = faked("postgres", "server")
    known["server"].looks = 5
    assert states(folder) == {"postgres": "healthy", "server": "unhealthy", "worker": "down"}


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(stack, "monotonic", lambda: now[0])
    monkeypatch.setattr(stack, "sleep", lambda seconds: now.append(now.pop() + seconds))
    return now


def test_a_service_is_waited_for_until_it_is_healthy(folder, faked, clock):
    known, _ = faked()
    known["server"].looks = 10
    up(folder, print)
    assert clock[0] == pytest.approx(10 * 0.2)


@pytest.mark.parametrize(("healthy_s", "looks"), [(1.0, 6), (1.1, 6)])
def test_a_service_that_stays_ill_is_told_of_when_patience_ends(folder, faked, clock, monkeypatch, healthy_s, looks):
    monkeypatch.setattr(stack, "HEALTHY_S", healthy_s)
    known, _ = faked()
    known["server"].looks = 10**6
    with pytest.raises(Misconfigured, match=rf"server: is not healthy after {healthy_s:g} s\."):
        up(folder, print)
    assert clock[0] == pytest.approx(0.2 * looks)


def test_a_service_that_ends_at_once_is_told_of(folder, faked, clock):
    known, _ = faked()
    known["postgres"].lives = False
    with pytest.raises(Misconfigured, match=r"postgres: ended at once\."):
        up(folder, print)
    assert clock[0] == 0.0


def heartbeat(name, status, seconds):
    time = datetime.fromtimestamp(1000.0, UTC) + timedelta(seconds=seconds)
    return {"name": name, "status": status, "last_heartbeat_time": time.isoformat()}


@pytest.mark.parametrize(
    ("known", "healthy"),
    [
        (None, False),
        ([], False),
        ([heartbeat(gethostname(), "ONLINE", 1)], True),
        ([heartbeat(gethostname(), "ONLINE", 0)], False),  # of an earlier worker
        ([heartbeat(gethostname(), "OFFLINE", 1)], False),
        ([heartbeat("elsewhere", "ONLINE", 1)], False),
        ([heartbeat(gethostname(), "ONLINE", -5), heartbeat(gethostname(), "ONLINE", 5)], True),
    ],
)
def test_a_worker_is_healthy_if_it_was_heard_of_since_it_began(folder, monkeypatch, known, healthy):
    monkeypatch.setattr(stack, "_answer", lambda *_: known)
    monkeypatch.setattr(Daemon, "process", SimpleNamespace(create_time=lambda: 1000.0))
    assert Worker(folder).healthy is healthy
    assert Worker(folder).running
    monkeypatch.setattr(Daemon, "process", None)
    assert not Worker(folder).healthy
    assert not Worker(folder).running


@pytest.mark.parametrize(("runs", "answer", "healthy"), [(True, {}, True), (True, None, False), (False, {}, False)])
def test_a_server_is_healthy_if_it_runs_and_answers(folder, monkeypatch, runs, answer, healthy):
    monkeypatch.setattr(stack, "_answer", lambda *_: answer)
    monkeypatch.setattr(Daemon, "process", object() if runs else None)
    assert Server(folder).healthy is healthy
    assert Server(folder).running is runs


@pytest.fixture
def started(monkeypatch):
    """Command and environment of what is started; how long what is stopped may take."""
    seen = []
    monkeypatch.setattr(Daemon, "start", lambda self, command, environment: seen.append((command, environment)))
    monkeypatch.setattr(Daemon, "stop", lambda self, patience: seen.append(patience))
    return seen


def test_the_environment_of_a_worker_is_ours_without_prefects_then_that_of_its_file(folder, started, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere")
    monkeypatch.setenv("PREFECT_HOME_OF_OURS", "x")
    monkeypatch.setenv("OURS", "1")
    monkeypatch.setenv("BOTH", "ours")
    (folder.path / "worker.env").write_text("BOTH=theirs\nEMPTY=\nOWN=2\n")
    Worker(folder).start()
    ((command, environment),) = started
    assert (environment["OURS"], environment["BOTH"], environment["OWN"]) == ("1", "theirs", "2")
    assert {"EMPTY", "PREFECT_HOME_OF_OURS"}.isdisjoint(environment)
    assert environment["PREFECT_API_URL"] == folder.api
    assert environment["PREFECT_CLIENT_MAX_RETRIES"] == "8"
    assert command[-2:] == ["--name", gethostname()]
    Worker(folder).stop()
    Server(folder).stop()
    assert started[1:] == [120.0, 20.0]


def test_a_server_gets_little_of_our_environment(folder, started, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("LC_ALL", raising=False)
    Server(folder).start()
    ((command, environment),) = started
    assert environment["TZ"] == "UTC"
    assert {"AWS_SECRET_ACCESS_KEY", "LC_ALL"}.isdisjoint(environment)
    assert environment["PREFECT_SERVER_API_PORT"] == command[command.index("--port") + 1] == "4200"


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """PostgreSQL of some versions, whose programs do nothing."""

    def make(*versions):
        for version in versions:
            for name in ("pg_ctl", "initdb"):
                program = tmp_path / "lib" / version / "bin" / name
                program.parent.mkdir(parents=True, exist_ok=True)
                program.write_text("#!/bin/sh\n")
                program.chmod(0o755)
        monkeypatch.setattr(processes, "PACKAGES", tmp_path / "lib")

    return make


def test_the_newest_version_is_used_unless_there_are_data_of_another(folder, installed):
    installed("9.6", "13", "16")
    database = Postgres(folder)
    assert Path(database._program("pg_ctl")).parts[-3] == "16"
    database.data.mkdir(parents=True)
    (database.data / "PG_VERSION").write_text("13\n")
    assert Path(database._program("pg_ctl")).parts[-3] == "13"
    (database.data / "PG_VERSION").write_text("12\n")
    with pytest.raises(Misconfigured, match=r"is not installed in .*/12/bin"):
        database._program("pg_ctl")


def test_a_program_that_is_in_no_package_is_looked_for_on_the_path(folder, installed, monkeypatch, tmp_path):
    installed()
    (tmp_path / "lib").mkdir(exist_ok=True)
    program = tmp_path / "pg_ctl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Postgres(folder)._program("pg_ctl") == str(program)
    installed("15")
    monkeypatch.setattr(processes.shutil, "which", lambda name, path=None: None if path else "/found")
    with pytest.raises(Misconfigured, match=r"is not installed in .*/15/bin"):
        Postgres(folder)._program("pg_ctl")


def test_versions_are_compared_as_numbers():
    places = [Path(f"/usr/lib/postgresql/{version}/bin") for version in ("16", "9.6", "9.10", "10")]
    assert [path.parts[-2] for path in sorted(places, key=processes._version)] == ["9.6", "9.10", "10", "16"]


@pytest.fixture
def called(monkeypatch):
    """Programs that are run, and how they end."""
    seen, ends = [], SimpleNamespace(returncode=0, stdout="", stderr="")
    monkeypatch.setattr(Postgres, "_program", lambda self, name: name)
    monkeypatch.setattr(processes, "_called", lambda command, *given, **more: seen.append(command) or ends)
    return seen, ends


def test_a_database_is_made_only_where_there_is_none_and_stopped_only_where_it_runs(folder, called, monkeypatch):
    seen, ends = called
    database, made = Postgres(folder), []
    monkeypatch.setattr(Postgres, "_make", lambda self: made.append(1))
    assert not database.running
    database.stop()
    assert seen == []
    database.start()
    assert made == [1]
    command = seen[0]
    assert command[:5] == ["pg_ctl", "start", "-w", "-t", "120"]
    assert command[-1] == "-c listen_addresses=127.0.0.1 -c port=5442 -c unix_socket_directories="
    database.data.mkdir(parents=True)
    database.start()
    assert made == [1]
    assert database.running
    database.stop()
    assert seen[-1][:7] == ["pg_ctl", "stop", "-w", "-t", "120", "-m", "fast"]
    ends.returncode = 3
    assert not database.running


@pytest.mark.parametrize(("said", "healthy"), [("1\n", True), ("", False), ("2", False)])
def test_a_database_is_healthy_if_it_answers_the_role_of_the_server(folder, called, said, healthy):
    called[1].stdout = said
    assert Postgres(folder).healthy is healthy


def test_what_a_program_says_last_is_told(folder, called):
    _, ends = called
    ends.returncode, ends.stderr, ends.stdout = 2, "", "x" * 600 + "the end"
    with pytest.raises(Misconfigured) as told:
        Postgres(folder)._run("initdb")
    assert f"initdb ends with 2: {('x' * 600 + 'the end')[-500:]}." in str(told.value)
    ends.stderr = "an error"
    with pytest.raises(Misconfigured, match="initdb ends with 2: an error"):
        Postgres(folder)._run("initdb")
