"""A Prefect server on our PostgreSQL, and a worker of it."""

import json
import os
import socket
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from dotenv import dotenv_values

from flows.prefect_server import PRIVATE
from flows.services.daemon import Daemon
from flows.services.folder import POOL, ServiceFolder

STOP_S = 20.0
"""How long the server may take to end, s."""

DRAIN_S = 120.0
"""How long a worker may take to end the runs that it has started, s."""

ANSWER_S = 5.0
"""How long an answer may take, s."""

PATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "8"}
"""Of a worker and its runs: a server may be away for 2 + 4 + ... + 256 s, eight minutes, and not for one."""

PLAIN = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
"""What the server gets of our environment; a worker gets nearly all, as its runs may need keys of object stores."""


@dataclass(frozen=True)
class Server:
    """The Prefect server of a folder: API, pages and scheduler in one process.

    Attributes
    ----------
    folder
        Of the services.
    """

    folder: ServiceFolder

    @property
    def daemon(self) -> Daemon:
        """Its process."""
        return Daemon(self.folder.path / "server.json", self.folder.log("server"))

    def start(self) -> None:
        """Start it; its first start makes its tables."""
        at = self.folder.addresses
        command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        own = {
            **PRIVATE,
            "PREFECT_HOME": str(self.folder.home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.folder.database_url,
            "PREFECT_SERVER_API_AUTH_STRING": self.folder.auth,
            "PREFECT_SERVER_API_HOST": at.host,
            "PREFECT_SERVER_API_PORT": str(at.port),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.folder.home / "pages"),
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            # The newer pages have browsers ask a server of Amplitude's, analytics or not.
            "PREFECT_SERVER_UI_V2_ENABLED": "false",
            # In memory they would be lost with the server, and runs end whose lease is unknown.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT__SERVER_FINAL": "1",
        }
        plain = {name: os.environ[name] for name in PLAIN if name in os.environ}
        options = ["--host", at.host, "--port", str(at.port), "--log-level", "warning"]
        self.daemon.start([*command, *options, "--timeout-graceful-shutdown", "5"], {**plain, **own})

    def stop(self) -> None:
        """End it."""
        self.daemon.stop(STOP_S)

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.daemon.process is not None

    @property
    def healthy(self) -> bool:
        """Whether it answers, and its database does."""
        return self.running and _answer(self.folder, "ready") is not None


@dataclass(frozen=True)
class Worker:
    """A worker of Prefect's type `process`: it runs what is scheduled, each run in a process of its own.

    Attributes
    ----------
    folder
        Of the services.
    """

    folder: ServiceFolder

    @property
    def daemon(self) -> Daemon:
        """Its process."""
        return Daemon(self.folder.path / "worker.json", self.folder.log("worker"))

    def start(self) -> None:
        """Start it; it makes the work pool if there is none.

        Its environment is ours without what tells Prefect of another server or to be silent (``PREFECT_*``), then
        ``worker.env`` of the folder (lines ``NAME=VALUE``), then what it needs.
        """
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        given = {name: value for name, value in dotenv_values(self.folder.path / "worker.env").items() if value}
        own = {**self.folder.client, **PATIENT, "PREFECT_HOME": str(self.folder.home), "PREFECT_CLI_PROMPT": "false"}
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
        self.daemon.start([*command, "--name", socket.gethostname()], {**ours, **given, **own})

    def stop(self) -> None:
        """End it, and with it the runs that it has started."""
        self.daemon.stop(DRAIN_S)

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.daemon.process is not None

    @property
    def healthy(self) -> bool:
        """Whether the server has heard of it lately, of this one and not of one before."""
        process = self.daemon.process
        known = None if process is None else _answer(self.folder, f"work_pools/{POOL}/workers/filter", {})
        if process is None or known is None:
            return False
        ours = [one for one in known if one["name"] == socket.gethostname() and one["status"] == "ONLINE"]
        heard = [datetime.fromisoformat(one["last_heartbeat_time"]).timestamp() for one in ours]
        return max(heard, default=0.0) > process.create_time()


def _answer(folder: ServiceFolder, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Ask the API; None if it does not answer, or not what it should."""
    headers = {
        "Authorization": f"Basic {b64encode(folder.auth.encode()).decode()}",
        "Content-Type": "application/json",
    }
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(f"{folder.api}/{path}", data, headers), timeout=ANSWER_S) as answer:
            return json.load(answer)
    except (URLError, OSError, ValueError):
        return None
