"""Another user of the machine tries every socket that `run`, `watch` and `services up` listen on, and their files."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster
from prometheus_client import CollectorRegistry

from flows.nights.cluster.prefect_server import LIGHT, QUIET
from flows.nights.services.processes import Postgres
from flows.nights.services.stack import Server, Worker
from flows.runtime.metrics import metrics_server
from schemas.observe_settings import ObserveSettings
from tests.support.intruder import Targets, attacked, family, listening, targets
from tests.support.night import Command, later
from tests.support.services import place
from tests.support.wait import until

pytest_plugins = ("tests.support.night_fixture", "tests.support.services_fixture")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.services,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists() or os.geteuid() != 0, reason="only for root"),
]

PUBLIC = ("catalogs", "tiles", "ledger", "quarantine", "reports", "staging")
"""Parts of an output folder that others may read."""


@pytest.fixture(scope="module")
def nights(raw_night, tmp_path_factory):
    """Folder with more than a run can search while it is attacked."""
    folder = tmp_path_factory.mktemp("nights")
    for day in range(8):
        later(raw_night, folder / f"{day}", day)
    return folder


@pytest.fixture(params=["run", "watch"])
def command(request, night_models, prefect_home, monkeypatch):
    """`nightstride run` and `watch` with metrics, all that they write where others may pass, and that place."""
    with place() as path:
        for name in ("home", "tmp", "metrics"):
            (path / name).mkdir()
        for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME"):
            monkeypatch.setenv(name, "")  # so that it is restored
            monkeypatch.delenv(name)
        shutil.copytree(prefect_home, path / "home" / "nightstride" / "prefect")
        environment = {
            "XDG_CACHE_HOME": str(path / "home"), "TMPDIR": str(path / "tmp"), "NIGHTSTRIDE_OBSERVE__METRICS": "0",
            "NIGHTSTRIDE_OBSERVE__METRICS_TOKEN_FILE": str(path / "metrics" / "token"),
        }  # fmt: skip
        yield Command(night_models, environment, request.param), path


def test_another_user_gets_nothing_of_a_run_and_of_a_watch(command, nights):
    start, path = command
    out = path / "out"
    with start.start(nights, "--out", out) as running:
        try:
            # The scheduler, a worker and its nanny, metrics, Prefect.
            until(lambda: len(listening(family(running.pid))) >= 5, seconds=300, process=running)
            aims = targets(family(running.pid), [path])
            got = attacked(aims)
            assert running.poll() is None, "has ended before it was attacked"
        finally:
            running.terminate()
            running.communicate(timeout=120)
    assert {host for host, _ in aims.ports} == {"127.0.0.1"}, "listens to other machines, too"
    assert {Path(one).name for one in aims.files} >= {"lease.json", "lease.lock", "token"}
    public = tuple(f"{out / name}/" for name in PUBLIC)
    assert {
        name: what for name, what in got.items() if not (name.startswith(public) and what == ["read", "lock"])
    } == {}


def test_another_user_gets_nothing_of_services_but_the_empty_pages(running_services):
    postgres = int((Postgres(running_services).data / "postmaster.pid").read_text().split()[0])
    daemons = [service(running_services).daemon.process.pid for service in (Server, Worker)]
    aims = targets(family(postgres, *daemons), [running_services.path])
    addresses = running_services.addresses
    assert {("127.0.0.1", addresses.port), ("127.0.0.1", addresses.postgres_port)} <= set(aims.ports)
    assert {host for host, _ in aims.ports} == {"127.0.0.1"}
    assert {Path(one).name for one in aims.files} >= {"api-password", "database-password", "client.env", "lock", "log"}
    got = attacked(aims)
    page = f"http://127.0.0.1:{addresses.port}/"  # without what it shows, which the API refuses
    got = {name: what for name, what in got.items() if not name.startswith(page) or name.startswith(f"{page}api/")}
    records = {str(running_services.path / f"{name}.json") for name in ("services", "server", "worker")}
    assert got.keys() <= records
    assert {one for what in got.values() for one in what} <= {"read", "lock"}
    known = Targets((("127.0.0.1", addresses.postgres_port),), password=running_services.database_password)
    assert attacked(known) == {f"postgresql://prefect@127.0.0.1:{addresses.postgres_port}": "prefect"}


@pytest.fixture
def open_prefect(prefect_home):
    """Port of a Prefect server without a password."""
    variables = {name: value for name, value in {**os.environ, **QUIET}.items() if "AUTH_STRING" not in name}
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))  # the server listens
    port, descriptor = listener.getsockname()[1], listener.fileno()
    with subprocess.Popen(
        [sys.executable, "-m", "flows.nights.cluster.prefect_server", str(descriptor)],
        stdin=subprocess.PIPE, env={**variables, **LIGHT, "PREFECT_HOME": str(prefect_home)}, pass_fds=[descriptor],
    ) as server:  # fmt: skip
        listener.close()
        until(lambda: listening(family(server.pid)), seconds=300, process=server)
        yield port
        server.stdin.close()


def test_the_attack_gets_in_where_nothing_is_closed(open_prefect):
    ours = psutil.Process()
    with (
        place() as path,
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster,
        metrics_server(ObserveSettings(metrics="0"), CollectorRegistry()) as metrics,
        socket.socket(socket.AF_UNIX) as pipe,
    ):
        (path / "lease.json").touch(mode=0o666)
        (path / "lease.json").chmod(0o666)
        pipe.bind(str(path / "pipe"))
        (path / "pipe").chmod(0o777)
        path.chmod(0o777)
        pipe.listen()
        aims = targets([ours], [path])
        got = attacked(Targets(((("127.0.0.1", open_prefect)), *aims.ports), aims.sockets, aims.files, aims.folders))
        scheduler = cluster.scheduler_address
    assert got[str(path)] == ["create"]
    assert got[str(path / "lease.json")] == ["read", "lock", "write", "lock"]
    assert got[str(path / "pipe")] == ["connect"]
    assert got[scheduler].startswith("{'type': 'Scheduler'")
    assert got[f"{scheduler} client"] == "0"  # who runs it
    assert f"http://127.0.0.1:{metrics}/metrics" in got
    prefect = {name.partition(f":{open_prefect}")[2] for name in got}
    assert prefect >= {"/api/flows/filter", "/api/flow_runs/", "/api/events/in old", "/api/logs/out None"}
