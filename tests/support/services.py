"""Services of a machine's own packages in folders that their users can reach."""

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from flows.nights.services.folder import DATABASE, made
from flows.nights.services.processes import PACKAGES, Postgres


def absent(reason):
    """Skip a test for what is not there, or fail where services are required."""
    if os.environ.get("NIGHTSTRIDE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{reason}, and NIGHTSTRIDE_REQUIRE_SERVICES=1 asks for it")
    pytest.skip(reason)


def require_postgres():
    """Skip, or fail where services are required, if PostgreSQL is not installed."""
    if not list(PACKAGES.glob("*/bin/initdb")) and shutil.which("initdb") is None:
        absent("PostgreSQL is not installed: apt-get install postgresql")


def queried(database, statement, user="prefect", password=None):
    """Return the ended psql that has asked a database something, as the role of the Prefect server unless told."""
    port = database.folder.addresses.postgres_port
    return subprocess.run(
        ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", user, "-d", "prefect", "-Atc", statement],
        capture_output=True, text=True, check=False,
        env={"PGPASSWORD": password or database.folder.database_password, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


@contextmanager
def place():
    """Give an empty folder that the user of PostgreSQL can reach, unlike those of pytest."""
    path = Path(tempfile.mkdtemp(prefix="nightstride-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def new_services(path):
    """Give a folder of services on free ports."""
    port, postgres_port = free_ports(2)
    return made(path / "services", {"port": port, "postgres_port": postgres_port})


@contextmanager
def association_database():
    """Give a server that runs, of the system's packages, and the URL of an empty database in it."""
    require_postgres()
    with place() as path:
        folder = new_services(path)
        server = Postgres(folder)
        server.start()
        try:
            port = folder.addresses.postgres_port
            yield server, f"postgresql+psycopg://{DATABASE}@127.0.0.1:{port}/{DATABASE}"
        finally:
            server.stop()


def free_ports(count):
    """Give ports on which nothing listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
