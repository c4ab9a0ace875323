"""Embedded Prefect server: a child process that ends with its parent, however the parent ends.

Prefect can start a temporary server itself, but that one survives a parent that is killed, and starts only with the
first flow, seconds later than it could.
"""

import atexit
import gc
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from http.client import HTTPException
from multiprocessing import get_context, parent_process
from pathlib import Path
from secrets import token_urlsafe
from typing import IO, Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from schemas.errors import Misconfigured

START_S = 600.0
"""How long our own server may take to answer, s. On its first start it sets up its database: 13 s when idle."""

ANSWER_S = 30.0
"""How long a user's server may take to answer, s."""

WORDS = 2000
"""Number of last bytes of a failed server's output that an error repeats."""

PRIVATE = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
"""Nothing leaves the machine."""

QUIET = {
    **PRIVATE,
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_API_REQUEST_TIMEOUT": "300",
}
"""Silence for Prefect: our own summary is the only output; and patience, since a busy machine is not an error."""


LIGHT = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PY_KEY_VALUE_DISABLE_BEARTYPE": "true",  # it wraps all functions of a library
}
"""Variables of our own server, which only records runs: it has no pages, no blocks and no triggers."""


_PASSWORD = "PREFECT_SERVER_API_AUTH_STRING"


ASKED_FIRST = ("/admin", "/csrf-token", "/flows", "/flow_runs")
"""Prefixes of the paths that a flow requests first."""


class PrefectServer:
    """Our own Prefect server, or none if the user has one (``PREFECT_API_URL``).

    Sets ``os.environ`` for libraries imported later; variables set by the user are kept. Other users of the machine can
    connect to the port of our own server, so it has a random password, which is on no command line.
    """

    def __init__(self) -> None:
        for name, value in {**QUIET, "PREFECT_HOME": str(default_home())}.items():
            os.environ.setdefault(name, value)
        self._process: _Process | None = None
        self._own: _Own | None = None
        self._patience = ANSWER_S
        self.url = os.environ.get("PREFECT_API_URL") or None  # Prefect, too, treats empty as not set
        if self.url is None:
            self._patience = START_S
            listener = _bound()
            password = f"nightstride:{token_urlsafe(32)}"
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
            _private_home(Path(os.environ["PREFECT_HOME"]))
            # Registered before Prefect is imported, so it runs after Prefect has sent its last events at exit.
            atexit.register(self.stop)
            os.environ |= {"PREFECT_API_URL": self.url, "PREFECT_API_AUTH_STRING": password}
            words = tempfile.TemporaryFile()  # noqa: SIM115, open as long as the server runs
            self._own = _Own(listener, words, {**LIGHT, _PASSWORD: password})
            self._process = _forked(self._own) if _alone() else _started(self._own)
        os.environ |= past_proxies(os.environ)

    def begin(self) -> None:
        """Let a forked server start its work: it waits until slower steps no longer need the processor."""
        if self._process is not None:
            self._process.begin()

    def wait(self) -> None:
        """Wait until the server answers; our own server is started once more if it ends before that.

        Raises
        ------
        Misconfigured
            The server ended, or did not answer in time.
        """
        self.begin()
        answers = self._answers()
        if not answers and self._own is not None and self._ended():
            self._process = _started(self._own)  # not forked: this process may have threads by now
            answers = self._answers()
        if not answers:
            raise self._silent()
        if self._own is not None:
            self._own.listener.close()  # the server has its own copy

    def _answers(self) -> bool:
        """Return whether the server answers in time without ending first."""
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            if self._ended():
                return False
            try:
                with urlopen(f"{self.url}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return True
            except (URLError, HTTPException, OSError, ValueError):  # no server, another program's, no URL
                time.sleep(0.02)
        return False

    def _ended(self) -> bool:
        """Return whether our own server was started and has ended."""
        return self._process is not None and self._process.code() is not None

    def _silent(self) -> Misconfigured:
        """Return the error for a server that does not answer, with its last output."""
        why = f"none did within {self._patience:.0f} s"
        code = None if self._process is None else self._process.code()
        if code is not None:
            why = f"one of our own ended before it did, twice, by {f'signal {-code}' if code < 0 else f'code {code}'}"
        if self._own is not None:
            self._own.words.seek(0)
            said = self._own.words.read()[-WORDS:].decode(errors="replace").strip()
            why += f" ({said})" if said else ""
        return Misconfigured(
            "prefect",
            str(self.url),
            f"no Prefect server answers: {why}.",
            "check PREFECT_API_URL; without it, remove the folder PREFECT_HOME "
            f"({os.environ.get('PREFECT_HOME')}), which holds nothing that is needed.",
        )

    def stop(self) -> None:
        """End our own server."""
        if self._process is not None:
            self._process.end()
        if self._own is not None:
            self._own.listener.close()


class _Own(NamedTuple):
    """Arguments of our own server: the socket to listen on, the file for its errors, and its variables."""

    listener: socket.socket
    words: IO[bytes]
    variables: Mapping[str, str]


class _Process(NamedTuple):
    """Process of a server; its exit code is negative if a signal ended it, and None while it runs."""

    begin: Callable[[], None]
    code: Callable[[], int | None]
    end: Callable[[], None]


def _alone() -> bool:
    """Return whether only the command itself runs: no other thread, such as a lease's heartbeat, and no Prefect."""
    return sys.platform == "linux" and threading.active_count() == 1 and "prefect" not in sys.modules


def _started(own: _Own) -> _Process:
    """Start a server in a new interpreter."""
    descriptor = own.listener.fileno()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.nights.cluster.prefect_server", str(descriptor)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=own.words,
        env={**os.environ, **own.variables},
        pass_fds=[descriptor],
        start_new_session=True,
    )

    def end() -> None:
        if process.stdin is not None:
            process.stdin.close()
        process.wait()

    return _Process(lambda: None, process.poll, end)


def _forked(own: _Own) -> _Process:
    """Fork a server from this process, which needs Prefect too: importing it takes most of a second."""
    os.environ |= own.variables  # Prefect reads it when imported
    import prefect.main  # noqa: F401

    fork = get_context("fork")
    begun = fork.Semaphore(0)  # setting an event would wait for ever for a process that was killed while it waits
    process = fork.Process(target=_serve_forked, args=(own.listener, own.words.fileno(), begun.acquire), daemon=True)
    process.start()

    def end() -> None:
        process.kill()
        process.join()

    return _Process(begun.release, lambda: process.exitcode, end)


@cache
def prefect_server() -> PrefectServer:
    """Return the server of this process, started by the first call; see `PrefectServer.wait` for when it answers."""
    return PrefectServer()


def past_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables that keep libraries from using a proxy for the server of ``PREFECT_API_URL``, if it is local."""
    host = None
    with suppress(ValueError):  # not a URL: reported when it does not answer
        host = urlsplit(environment.get("PREFECT_API_URL", "")).hostname
    said = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    known = {one.strip() for one in said.split(",")}
    if host not in ("127.0.0.1", "localhost", "::1") or known & {host, "*"}:
        return {}
    return dict.fromkeys(("no_proxy", "NO_PROXY"), f"{said},{host}".lstrip(","))


def default_home() -> Path:
    """Return the folder of the embedded server's database, which is only a cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "nightstride" / "prefect"


def _private_home(path: Path) -> None:
    """Make the server's folder, which tells what was searched, when and where; the default one is private."""
    from flows.storage.folder import writable_folder  # the server itself does not need it

    writable_folder(path, "PREFECT_HOME", 0o700)
    if path == default_home():
        path.chmod(0o700)  # made by an earlier version


def _bound() -> socket.socket:
    """Return a socket with a port of its own, so that no other program takes the port while the server starts."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


def _serve_forked(listener: socket.socket, words: int, wait: Callable[[], object]) -> None:
    """Serve from the time ``wait`` returns until the parent ends; errors go to the file descriptor ``words``.

    Signals to the process group of the command, such as Ctrl-C, do not end it: what the command then finishes is
    recorded.
    """
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(words, 2)
    parent = parent_process()
    assert parent is not None
    _serve(listener, parent.join, wait)


def _serve(
    listener: socket.socket, parents_end: Callable[[], object], wait: Callable[[], object] = lambda: None
) -> None:
    """Serve until ``parents_end`` returns."""

    def watch() -> None:
        parents_end()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    wait()
    gc.disable()  # objects made by imports are never garbage
    import uvicorn
    from prefect.server.api import server

    # FastAPI builds routers one by one until one matches the request: those asked first come first.
    routers: Any = sorted(server.API_ROUTERS, key=lambda one: one.prefix not in ASKED_FIRST)
    server.API_ROUTERS = tuple(routers)
    app = server.create_app()
    gc.freeze()
    gc.enable()
    uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run(sockets=[listener])


if __name__ == "__main__":
    # The parent closes standard input, explicitly or by dying.
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.stdin.buffer.read)
