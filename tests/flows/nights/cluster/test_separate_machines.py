"""A night by workers on machines that share no folder and reach this one by its network alone: all is in S3."""

import os
from pathlib import Path

import pytest
from distributed import Client

from benchmarks.support.moto_server import put_folder, start_moto
from flows.nights.cluster.security import security_of
from flows.storage.object_store import configure
from schemas.cluster_settings import ClusterSettings
from schemas.settings import StoreSettings
from tests.support.cluster import make_certificates, scheduler, worker
from tests.support.machines import OWN, network, python_on
from tests.support.night import DETECTORS, VISITS, catalogues
from tests.support.services import association_database

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = [pytest.mark.slow, pytest.mark.services]
ALL = VISITS * DETECTORS


@pytest.fixture
def machines():
    with network(2) as made:
        yield made


@pytest.fixture
def s3(machines, monkeypatch):
    """A server that listens on the machines' network, and that this process is set up for."""
    server, process = start_moto(machines.here)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    configure(StoreSettings(endpoint=server.endpoint))
    yield server
    configure(StoreSettings())
    process.kill()
    process.wait()


@pytest.fixture
def objects():
    """Settings of an association in PostgreSQL that this machine alone can reach, and whose password it alone has."""
    with association_database() as (server, url):
        yield {"NIGHTSTRIDE_ASSOCIATION__STORE": url, "PGPASSWORD": server.folder.database_password}


def surroundings(*paths):
    """What a worker has: its network, whether it sees some paths, and whether it knows a password."""
    network = str(Path("/proc/self/ns/net").readlink())
    return network, [path.exists() for path in paths], "PGPASSWORD" in os.environ


def test_a_night_on_separate_machines_has_the_same_bytes(
    nightstride_run, raw_night, night_models, uninterrupted, machines, s3, objects, tmp_path
):
    files = make_certificates(tmp_path / "certificates")
    hidden = os.path.commonpath([raw_night, uninterrupted[1], tmp_path])
    bucket = s3.new_bucket()
    put_folder(s3.client, bucket, raw_night, "raw")
    out = f"s3://{bucket}/out"
    copied = (tmp_path / "certificates", night_models)
    with scheduler(tmp_path, files, machines.here) as address:
        first, second = (
            worker(address, name, tmp_path, files=files, scratch=OWN, python=python_on(name, hidden, copied))
            for name in machines.names
        )
        with first, second:
            security = security_of(ClusterSettings(kind="address", address=address, **files))
            with Client(address, security=security, set_as_default=False) as client:
                seen = [*client.run(surroundings, raw_night, uninterrupted[1], night_models).values()]
            given = {f"NIGHTSTRIDE_CLUSTER__{name.upper()}": path for name, path in files.items()}
            run = nightstride_run(f"s3://{bucket}/raw", "--out", out, "--scheduler", address, **given, **objects)
    here = surroundings()[0]
    assert len({here, *(network for network, *_ in seen)}) == 3
    assert [(sees, knows) for _, sees, knows in seen] == [([False, False, True], False)] * 2
    assert run.code == 0, run.stderr
    assert run.counts == (ALL, ALL, 0, 0, 0)
    assert catalogues(out) == catalogues(uninterrupted[1])
