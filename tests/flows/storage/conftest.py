"""Stores of the association, on both databases; places that are full, or take no conditions."""

import subprocess

import pytest

from benchmarks.faults.fault_proxy import FaultProxy, Faults
from flows.storage.association_store import opened_association
from flows.storage.bucket_path import located
from flows.storage.object_store import configure
from schemas.settings import AssociationSettings, StoreSettings
from tests.support.services import association_database

SETTINGS = AssociationSettings()


@pytest.fixture(scope="session")
def postgres():
    """Server of PostgreSQL, and the URL of an empty database in it."""
    with association_database() as found:
        yield found


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def given_settings(request):
    if request.param == "sqlite":
        yield SETTINGS
        return
    server, url = request.getfixturevalue("postgres")
    with pytest.MonkeyPatch.context() as patch:
        # For the test alone: what is started by a later one must not find the password.
        patch.setenv("PGPASSWORD", server.folder.database_password)
        yield SETTINGS.model_copy(update={"store": url})


@pytest.fixture
def store(tmp_path, given_settings):
    with opened_association(tmp_path, given_settings, rebuild=True) as opened:
        yield opened


@pytest.fixture
def small_disk(tmp_path):
    """Give a file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no small disk can be mounted here: {mount.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def unconditional(moto, monkeypatch):
    """A folder in a store that ignores conditions."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    out = located(f"s3://{moto.new_bucket()}/out")
    with FaultProxy("127.0.0.1", moto.port, Faults(unconditional=True)) as proxy:
        configure(StoreSettings(endpoint=proxy.endpoint, patience_s=20))
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield out
    configure(StoreSettings())
