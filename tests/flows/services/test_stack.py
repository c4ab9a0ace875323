import subprocess
import sys

import psutil
import pytest

from flows.services.orchestrator import Server, Worker
from flows.services.postgres import Postgres
from flows.services.stack import down, services, states, up
from schemas.errors import Misconfigured

pytest_plugins = ("tests.flows.services.services_fixture",)
pytestmark = [pytest.mark.services, pytest.mark.slow]

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
    assert states(running_services) == HEALTHY
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
    assert states(running_services) == HEALTHY


def test_two_at_once_start_each_service_once(running_services):
    down(running_services, ["worker"], print)
    code = (
        "from pathlib import Path\nfrom flows.services.folder import opened\nfrom flows.services.stack import up\n"
        f"up(opened(Path({str(running_services.path)!r})), print)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = "".join(one.communicate(timeout=600)[0] for one in both)
    assert told.count("worker is started") == 1
    assert told.count("worker runs") == 1


def test_a_service_that_does_not_exist_is_named(running_services):
    with pytest.raises(Misconfigured, match=r"redis: is no service.*use postgres, server, worker"):
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
    """Wait for the worker's next word after the server was away."""
    for _ in range(600):
        if states(folder) == HEALTHY:
            return
        subprocess.run(["sleep", "0.2"], check=True)
    raise AssertionError(folder.log("worker").read_text()[-3000:])
