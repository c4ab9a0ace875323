import json
import os
import socket
import stat
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from flows.services.orchestrator import Server, Worker
from tests.flows.services.services_support import new_services

pytest_plugins = ("tests.flows.services.services_fixture",)
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
    assert worker.healthy
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
