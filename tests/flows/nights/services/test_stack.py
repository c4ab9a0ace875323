import json
import os
import socket
import stat
import subprocess
import sys
from base64 import b64encode
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from flows.nights.services.processes import Postgres
from flows.nights.services.stack import Server, Worker, down, load_database, services, states, up
from schemas.errors import Misconfigured
from tests.support.services import new_services

pytest_plugins = ("tests.support.services_fixture",)


pytestmark = [pytest.mark.services, pytest.mark.slow]


def test_only_who_knows_the_password_is_answered(running_services):
    assert urlopen(f"{running_services.api}/health").status == 200
    for headers in ({}, {"Authorization": "Basic bm9ib2R5Om5vdGhpbmc="}):
        with pytest.raises(HTTPError) as refused:
            urlopen(
                Request(f"{running_services.api}/flows/count", b"{}", {**headers, "Content-Type": "application/json"})
            )
        assert refused.value.code == 401
        refused.value.close()


def test_it_is_on_our_postgres_and_listens_on_this_machine_alone(running_services):
    process = Server(running_services).daemon.process
    connections = process.net_connections()
    assert {one.laddr.ip for one in connections if one.status == "LISTEN"} == {"127.0.0.1"}
    assert running_services.addresses.postgres_port in {one.raddr.port for one in connections if one.raddr}
    assert not list(running_services.home.rglob("*.db"))


def test_nothing_is_sent_elsewhere_and_no_secret_is_on_a_command_line(running_services):
    for service in (Server(running_services), Worker(running_services)):
        process = service.daemon.process
        environment = process.environ()
        assert environment["DO_NOT_TRACK"] == "1"
        assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert {one.raddr.ip for one in process.net_connections() if one.raddr} <= {"127.0.0.1"}
        line = " ".join(process.cmdline())
        assert running_services.auth not in line
        assert running_services.database_password not in line
        assert stat.S_IMODE(service.daemon.log.stat().st_mode) == 0o600


def test_its_pages_are_served(running_services):
    page = urlopen(running_services.api.removesuffix("/api")).read().decode()
    assert "<title>Prefect" in page
    told = json.load(urlopen(f"{running_services.api.removesuffix('/api')}/ui-settings"))
    assert (told["api_url"], told["default_ui"]) == (running_services.api, "v1")


def test_a_worker_is_known_to_its_server_and_has_the_environment_of_its_file(running_services, monkeypatch):
    monkeypatch.setenv("PREFECT_LOGGING_TO_API_ENABLED", "false")
    monkeypatch.setenv("NIGHTSTRIDE_STORE__REGION", "eu-west-3")
    worker = Worker(running_services)
    _healthy(running_services)
    worker.stop()
    assert not worker.running
    (running_services.path / "worker.env").write_text("# keys\nAWS_PROFILE='night watch'\nPREFECT_API_URL=http://no\n")
    worker.start()
    environment = worker.daemon.process.environ()
    assert environment["AWS_PROFILE"] == "night watch"
    assert environment["PREFECT_API_URL"] == running_services.api
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["NIGHTSTRIDE_STORE__REGION"] == "eu-west-3"
    assert "PREFECT_LOGGING_TO_API_ENABLED" not in environment
    assert socket.gethostname() in worker.daemon.process.cmdline()


def test_the_server_knows_nothing_of_the_keys_of_its_user(running_services):
    assert not [name for name in Server(running_services).daemon.process.environ() if "PYTEST" in name]


def test_what_was_never_started_does_not_run(tmp_path):
    folder = new_services(tmp_path)
    for service in (Server(folder), Worker(folder)):
        assert not service.running
        assert not service.healthy
        service.stop()


HEALTHY = {"postgres": "healthy", "server": "healthy", "worker": "healthy"}


def killed(folder):
    """Kill every process of the services at once, as a power cut does."""
    family = [psutil.Process(int((Postgres(folder).data / "postmaster.pid").read_text().split()[0]))]
    family += [service.daemon.process for service in (Server(folder), Worker(folder))]
    family += [child for one in family for child in one.children(recursive=True)]
    for one in family:
        one.kill()
    psutil.wait_procs(family, timeout=60)


def test_what_runs_is_left_alone(running_services):
    _healthy(running_services)
    before = [service.daemon.process for service in (Server(running_services), Worker(running_services))]
    told = []
    up(running_services, told.append)
    assert told == ["postgres runs", "server runs", "worker runs"]
    assert [service.daemon.process for service in (Server(running_services), Worker(running_services))] == before


@pytest.mark.parametrize("part", ["postgres", "server", "worker"])
def test_each_can_be_stopped_and_started_alone(running_services, part):
    down(running_services, [part], print)
    assert states(running_services)[part] == "down"
    assert {name for name, service in services(running_services).items() if not service.running} == {part}
    told = []
    up(running_services, told.append)
    assert f"{part} is started" in told
    assert len([line for line in told if line.endswith("runs")]) == 2
    _healthy(running_services)


def test_after_a_power_cut_everything_comes_back(running_services):
    killed(running_services)
    assert set(states(running_services).values()) == {"down"}
    up(running_services, print)
    _healthy(running_services)


def test_two_at_once_start_each_service_once(running_services):
    down(running_services, ["worker"], print)
    code = (
        "from pathlib import Path\nfrom flows.nights.services.folder import opened\n"
        "from flows.nights.services.stack import up\n"
        f"up(opened(Path({str(running_services.path)!r})), print)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = "".join(one.communicate(timeout=600)[0] for one in both)
    assert told.count("worker is started") == 1
    assert told.count("worker runs") == 1


def test_a_service_that_does_not_exist_is_named(running_services):
    with pytest.raises(Misconfigured, match=r"redis: is not a service.*use postgres, server, worker"):
        down(running_services, ["redis"], print)


def test_a_service_that_ends_at_once_is_told_of(running_services):
    down(running_services, ["worker"], print)
    own = running_services.path / "worker.env"
    before = own.read_text()
    own.write_text("PREFECT_WORKER_QUERY_SECONDS=never\n")
    try:
        with pytest.raises(Misconfigured, match=r"worker: ended at once.*the log of worker in"):
            up(running_services, print)
    finally:
        own.write_text(before)
    up(running_services, print)


def _healthy(folder):
    """Wait until all are: on a busy machine a heartbeat of the worker comes late, and it counts as away until then."""
    for _ in range(1500):
        if states(folder) == HEALTHY:
            return
        subprocess.run(["sleep", "0.2"], check=True)
    raise AssertionError(folder.log("worker").read_text()[-3000:])


def asked(folder, path, content):
    """Answer of the Prefect server's API."""
    words = {"Authorization": f"Basic {b64encode(folder.auth.encode()).decode()}", "Content-Type": "application/json"}
    with urlopen(Request(f"{folder.api}/{path}", json.dumps(content).encode(), words)) as reply:
        return json.load(reply)


def _names(folder):
    """Names of the variables of the Prefect server that the test below makes."""
    return sorted(one["name"] for one in asked(folder, "variables/filter", {}) if one["name"].endswith("_backup"))


def test_a_database_comes_back_as_it_was_dumped(running_services, tmp_path):
    for name in ("before", "kept"):
        asked(running_services, "variables/", {"name": f"{name}_backup", "value": 1})
    Postgres(running_services).dump(tmp_path / "prefect.sql")
    assert (tmp_path / "prefect.sql").stat().st_mode & 0o777 == 0o600
    asked(running_services, "variables/", {"name": "after_backup", "value": 2})
    with pytest.raises(Misconfigured, match="server and worker use the database"):
        load_database(running_services, tmp_path / "prefect.sql")
    assert "after_backup" in _names(running_services)
    down(running_services, ["server", "worker"], print)
    try:
        with pytest.raises(Misconfigured, match="does not exist"):
            load_database(running_services, tmp_path / "none.sql")
        (tmp_path / "half.sql").write_text((tmp_path / "prefect.sql").read_text()[:-5000] + "nonsense")
        with pytest.raises(Misconfigured, match="psql ends with"):
            load_database(running_services, tmp_path / "half.sql")
        load_database(running_services, tmp_path / "prefect.sql")
    finally:
        up(running_services, print)
    assert _names(running_services) == ["before_backup", "kept_backup"]
