"""Prefect server on PostgreSQL, either of which is restarted during a run."""

import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.fault import Fault
from benchmarks.faults.lab import Lab
from benchmarks.faults.scene import NotAvailable, NotHappened, Scene
from benchmarks.support.moto_server import free_port
from flows.nights.services.folder import ServiceFolder, made
from flows.nights.services.processes import Postgres
from flows.nights.services.stack import Server
from schemas.errors import Misconfigured

WORDS: dict[Callable[[ServiceFolder], Postgres | Server], str] = {Server: "the Prefect server", Postgres: "PostgreSQL"}

HEALTHY_S = 300.0
"""How long a service may take to answer, s."""


def services(lab: Lab) -> ServiceFolder:
    """Return the folder of a server and its database, which run; they end with the lab.

    Raises
    ------
    NotAvailable
        They cannot be started here.
    """
    path = lab.folder / "services"
    new = not path.exists()
    folder = made(path, {"port": free_port(), "postgres_port": free_port()} if new else {})
    database, server = Postgres(folder), Server(folder)
    if new:
        lab.closing.callback(database.stop)
        lab.closing.callback(server.stop)
    try:
        started(database, path)
        started(server, path)
    except Misconfigured as error:
        raise NotAvailable(str(error)) from error
    return folder


def started(service: Postgres | Server, path: Path) -> None:
    if not service.running:
        service.start()
    end = time.monotonic() + HEALTHY_S
    while not service.healthy:
        if time.monotonic() > end:
            raise NotHappened(f"{type(service).__name__} of {path} does not answer")
        time.sleep(0.1)


def restarted(scene: Scene, which: Callable[[ServiceFolder], Postgres | Server]) -> None:
    """Stop a service during a run, and start it again."""
    folder = services(scene.lab)
    service = which(folder)
    scene.environment |= folder.client
    command = scene.start()
    scene.middle(command)
    scene.strike(service.stop)
    scene.require(not service.running and command.poll() is None, f"{WORDS[which]} was down, the run was not")
    service.start()
    scene.finish(command)
    started(service, folder.path)


def server_restarted(scene: Scene) -> None:
    """Stop and start the Prefect server."""
    restarted(scene, Server)


def database_restarted(scene: Scene) -> None:
    """Stop and start PostgreSQL while the Prefect server runs."""
    restarted(scene, Postgres)


FAULTS = (
    Fault("Prefect server restarted", "stopped under the run and started again",
          server_restarted),
    Fault("PostgreSQL restarted", "stopped under the Prefect server and started again",
          database_restarted),
)  # fmt: skip
