"""Services of a folder: start, stop and checks, in the right order."""

import json
import os
import socket
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal, Protocol
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from dotenv import dotenv_values

from flows.nights.cluster.prefect_server import PRIVATE, past_proxies
from flows.nights.services.folder import POOL, ServiceFolder, alone
from flows.nights.services.processes import Daemon, Postgres
from schemas.errors import Misconfigured

STOP_S = 20.0
"""How long the server may take to end, s."""

SHUTDOWN_S = 120.0
"""How long a worker may take to end the runs that it started, s."""

ANSWER_S = 5.0
"""How long an answer may take, s."""

PATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "8"}
"""Environment of a worker and its runs: they bear an absent server for 2 + 4 + ... + 256 s, over eight minutes."""

PLAIN = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
"""Environment passed on to the server; a worker gets nearly all, as its runs may need keys of object stores."""


@dataclass(frozen=True)
class Server:
    """Prefect server of a services folder: API, pages and scheduler in one process.

    Attributes
    ----------
    folder
        Folder of the services.
    """

    folder: ServiceFolder

    @property
    def daemon(self) -> Daemon:
        """Return its process."""
        return Daemon(self.folder.path / "server.json", self.folder.log("server"))

    def start(self) -> None:
        """Start the server; on the first start it makes its tables."""
        at = self.folder.addresses
        command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        own = {
            **PRIVATE,
            "PREFECT_HOME": str(self.folder.home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.folder.database_url,
            "PREFECT_SERVER_API_AUTH_STRING": self.folder.auth,
            "PREFECT_SERVER_API_HOST": at.host,
            "PREFECT_SERVER_API_PORT": str(at.port),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.folder.home / "pages"),
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            # The newer pages make browsers contact a server of Amplitude's, even without analytics.
            "PREFECT_SERVER_UI_V2_ENABLED": "false",
            # Leases kept in memory would be lost with the server, and runs with an unknown lease end.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT__SERVER_FINAL": "1",
        }
        plain = {name: os.environ[name] for name in PLAIN if name in os.environ}
        options = ["--host", at.host, "--port", str(at.port), "--log-level", "warning"]
        self.daemon.start([*command, *options, "--timeout-graceful-shutdown", "5"], {**plain, **own})

    def stop(self) -> None:
        """Stop the server."""
        self.daemon.stop(STOP_S)

    @property
    def running(self) -> bool:
        """Return whether its process runs."""
        return self.daemon.process is not None

    @property
    def healthy(self) -> bool:
        """Return whether the server and its database respond."""
        return self.running and _answer(self.folder, "ready") is not None


@dataclass(frozen=True)
class Worker:
    """Prefect worker of type `process`: runs what is scheduled, each run in its own process.

    Attributes
    ----------
    folder
        Folder of the services.
    """

    folder: ServiceFolder

    @property
    def daemon(self) -> Daemon:
        """Return its process."""
        return Daemon(self.folder.path / "worker.json", self.folder.log("worker"))

    def start(self) -> None:
        """Start the worker; it makes the work pool if there is none.

        Its environment is ours without ``PREFECT_*`` variables, which may be for another server, then ``worker.env`` of
        the folder (lines ``NAME=VALUE``), then what it needs.
        """
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        given = {name: value for name, value in dotenv_values(self.folder.path / "worker.env").items() if value}
        # Its runs are separate processes; none should import from the folder in which it is started.
        safe = {"PREFECT_HOME": str(self.folder.home), "PREFECT_CLI_PROMPT": "false", "PYTHONSAFEPATH": "1"}
        environment = {**ours, **given, **self.folder.client, **PATIENT, **safe}
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
        self.daemon.start([*command, "--name", socket.gethostname()], {**environment, **past_proxies(environment)})

    def stop(self) -> None:
        """Stop the worker and the runs that it started."""
        self.daemon.stop(SHUTDOWN_S)

    @property
    def running(self) -> bool:
        """Return whether its process runs."""
        return self.daemon.process is not None

    @property
    def healthy(self) -> bool:
        """Return whether the server has recently heard from this worker process, not an earlier one."""
        process = self.daemon.process
        known = None if process is None else _answer(self.folder, f"work_pools/{POOL}/workers/filter", {})
        if process is None or known is None:
            return False
        ours = [one for one in known if one["name"] == socket.gethostname() and one["status"] == "ONLINE"]
        heard = [datetime.fromisoformat(one["last_heartbeat_time"]).timestamp() for one in ours]
        return max(heard, default=0.0) > process.create_time()


def _answer(folder: ServiceFolder, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Return the API's answer; None if there is none or it is not valid."""
    headers = {
        "Authorization": f"Basic {b64encode(folder.auth.encode()).decode()}",
        "Content-Type": "application/json",
    }
    data = None if body is None else json.dumps(body).encode()
    try:
        # It is on this machine: bypass any proxy in the environment.
        asked = Request(f"{folder.api}/{path}", data, headers)
        with build_opener(ProxyHandler({})).open(asked, timeout=ANSWER_S) as answer:
            return json.load(answer)
    except (URLError, HTTPException, OSError, ValueError):  # another program may use the port
        return None


HEALTHY_S = 600.0
"""How long a service may take to become healthy, s; on its first start the server makes its tables."""

POLL_S = 0.2
"""Time between two checks, s."""

State = Literal["healthy", "unhealthy", "down"]


class Service(Protocol):
    """Service that can be started, stopped and checked."""

    def start(self) -> None:
        """Start the service, which must not be running."""

    def stop(self) -> None:
        """Stop it if it is running."""

    @property
    def running(self) -> bool:
        """Return whether its process runs."""

    @property
    def healthy(self) -> bool:
        """Return whether it works."""


def services(folder: ServiceFolder) -> dict[str, Service]:
    """Return the services by name, each after those it depends on."""
    return {"postgres": Postgres(folder), "server": Server(folder), "worker": Worker(folder)}


def up(folder: ServiceFolder, say: Callable[[str], None]) -> None:
    """Start the services that are not running, and wait until all are healthy.

    Raises
    ------
    Misconfigured
        A service cannot be started, ends at once, or does not become healthy in time.
    """
    with alone(folder.path):
        for name, service in services(folder).items():
            if service.running:
                say(f"{name} runs")
            else:
                say(f"{name} is started")
                service.start()
            _wait(folder, name, service, HEALTHY_S)


def down(folder: ServiceFolder, parts: Sequence[str], say: Callable[[str], None]) -> None:
    """Stop services, each before those it depends on.

    Parameters
    ----------
    folder
        Folder of the services.
    parts
        Names from `services`; empty: all.
    say
        Receives one message per service.

    Raises
    ------
    Misconfigured
        There is no such service, or PostgreSQL cannot be stopped.
    """
    known = services(folder)
    if unknown := set(parts) - set(known):
        raise Misconfigured("services", " ".join(sorted(unknown)), "is not a service.", f"use {', '.join(known)}.")
    with alone(folder.path):
        for name, service in reversed(known.items()):
            if not parts or name in parts:
                say(f"{name} is stopped" if service.running else f"{name} does not run")
                service.stop()


def states(folder: ServiceFolder) -> dict[str, State]:
    """Return the state of each service."""
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


def load_database(folder: ServiceFolder, path: Path) -> None:
    """Replace the database of the services by a dump from `Postgres.dump`; only PostgreSQL may be running.

    Raises
    ------
    Misconfigured
        The server or worker is running (``services_run``), PostgreSQL is not, or the file does not exist.
    """
    running = [name for name, service in services(folder).items() if name != "postgres" and service.running]
    if running:
        raise Misconfigured(
            "services_run",
            str(folder.path),
            f"{' and '.join(running)} use the database.",
            f"`nightstride services down {folder.path} {' '.join(running)}` first.",
        )
    Postgres(folder).load(path)
