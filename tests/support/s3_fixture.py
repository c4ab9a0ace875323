"""S3 servers for tests, each started once and stopped at the end."""

import os
import shutil

import pytest

from benchmarks.support.moto_server import start_moto
from flows.storage.bucket_path import located
from flows.storage.object_store import configure
from schemas.settings import StoreSettings
from tests.support.s3 import CEPH_PROGRAMS, start_ceph, stop_ceph


@pytest.fixture(scope="session")
def moto():
    server, process = start_moto()
    yield server
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def ceph(tmp_path_factory):
    missing = [name for name in CEPH_PROGRAMS if shutil.which(name) is None]
    if (missing or os.getuid()) and "NIGHTSTRIDE_REQUIRE_SERVICES" not in os.environ:
        pytest.skip(f"no Ceph RADOS Gateway: needs root and {', '.join(missing) or 'nothing else'}")
    folder = tmp_path_factory.mktemp("ceph")
    try:
        yield start_ceph(folder)
    finally:
        stop_ceph(folder)


@pytest.fixture(scope="session", params=["moto", pytest.param("ceph", marks=[pytest.mark.slow, pytest.mark.services])])
def server(request):
    """Each S3 server in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def s3(server, monkeypatch):
    """A server that this process is set up for."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    configure(StoreSettings(endpoint=server.endpoint, timeout_s=20, patience_s=20))
    yield server
    configure(StoreSettings())


@pytest.fixture
def bucket(s3):
    """An empty output folder in a bucket of each server in turn."""
    return located(f"s3://{s3.new_bucket()}/some/out")


@pytest.fixture(
    params=[
        "local",
        pytest.param("moto", marks=pytest.mark.services),
        pytest.param("ceph", marks=[pytest.mark.slow, pytest.mark.services]),
    ]
)
def out(request, tmp_path, monkeypatch):
    """An empty output folder: on this machine, and in a bucket of each server."""
    if request.param == "local":
        yield tmp_path / "out"
        return
    server = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    configure(StoreSettings(endpoint=server.endpoint, timeout_s=20, patience_s=20))
    yield located(f"s3://{server.new_bucket()}/some/out")
    configure(StoreSettings())
