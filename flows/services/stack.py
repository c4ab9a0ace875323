"""All services of a folder: brought up, taken down and looked at in their order."""

from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Literal, Protocol

from flows.services.folder import ServiceFolder, alone
from flows.services.orchestrator import Server, Worker
from flows.services.postgres import Postgres
from schemas.errors import Misconfigured

HEALTHY_S = 600.0
"""How long a service may take to be healthy, s; the first start of the server makes some hundred tables."""

POLL_S = 0.2
"""Between two looks, s."""

State = Literal["healthy", "unhealthy", "down"]


class Service(Protocol):
    """What can be started, stopped and looked at."""

    def start(self) -> None:
        """Start it; it does not run."""

    def stop(self) -> None:
        """End it, if it runs."""

    @property
    def running(self) -> bool:
        """Whether its process lives."""

    @property
    def healthy(self) -> bool:
        """Whether it does what it is for."""


def services(folder: ServiceFolder) -> dict[str, Service]:
    """Give the services by name, each after those that it needs."""
    return {"postgres": Postgres(folder), "server": Server(folder), "worker": Worker(folder)}


def up(folder: ServiceFolder, say: Callable[[str], None], healthy_s: float = HEALTHY_S) -> None:
    """Start what does not run, and return when all are healthy; what runs is left alone.

    Raises
    ------
    Misconfigured
        A service cannot be started, ends at once, or is not healthy in time.
    """
    with alone(folder.path):
        for name, service in services(folder).items():
            if service.running:
                say(f"{name} runs")
            else:
                say(f"{name} is started")
                service.start()
            _wait(folder, name, service, healthy_s)


def down(folder: ServiceFolder, parts: Sequence[str], say: Callable[[str], None]) -> None:
    """End services, those first that need others.

    Parameters
    ----------
    folder
        Of the services.
    parts
        Names of `services`; none: all.
    say
        Told of each.

    Raises
    ------
    Misconfigured
        There is no such service, or PostgreSQL does not end.
    """
    known = services(folder)
    if unknown := set(parts) - set(known):
        raise Misconfigured("services", " ".join(sorted(unknown)), "is no service.", f"use {', '.join(known)}.")
    with alone(folder.path):
        for name, service in reversed(known.items()):
            if not parts or name in parts:
                say(f"{name} is stopped" if service.running else f"{name} does not run")
                service.stop()


def states(folder: ServiceFolder) -> dict[str, State]:
    """Give the state of each service."""
    return {
        name: "healthy" if service.healthy else "unhealthy" if service.running else "down"
        for name, service in services(folder).items()
    }


def _wait(folder: ServiceFolder, name: str, service: Service, healthy_s: float) -> None:
    end = monotonic() + healthy_s
    while not service.healthy:
        if not service.running or monotonic() > end:
            problem = f"is not healthy after {healthy_s:g} s." if service.running else "ended at once."
            raise Misconfigured(
                "services",
                name,
                problem,
                f"see the log of {name} in {folder.path}; are the ports of services.json free?",
            )
        sleep(POLL_S)
