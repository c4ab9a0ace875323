"""What another user of the machine (uid 65534) can get at: sockets of processes, and files.

The attack runs in a process of its own, which first gives up all privileges: ``python -m tests.support.intruder``.
"""

import asyncio
import fcntl
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import asyncpg
import psutil
from distributed import Client
from distributed.comm import connect as open_comm
from distributed.security import Security
from websockets.asyncio.client import connect

NOBODY, WAIT_S = 65534, 6

PAGES = ("/", "/metrics", "/info/main/workers.html", "/health", "/api/admin/settings", "/api/csrf-token?client=me")
LISTS = ("flows", "flow_runs", "deployments", "block_documents", "work_pools", "variables", "events")
SUBSCRIPTIONS = ("events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled")


@dataclass(frozen=True)
class Targets:
    """Ports on 127.0.0.1 or ::1, unix sockets, files and folders; ``password`` of PostgreSQL and Prefect, if known."""

    ports: tuple[tuple[str, int], ...] = ()
    sockets: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    password: str = ""


def family(*pids):
    """Processes and all their descendants."""
    return [one for pid in pids for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]


def listening(processes):
    """Addresses of TCP on which processes listen: (host, port)."""
    return {
        (one.laddr.ip, one.laddr.port) for one in _connections(processes, "inet") if one.status == psutil.CONN_LISTEN
    }


def unix_sockets(processes):
    """Named unix sockets of processes."""
    return {one.laddr for one in _connections(processes, "unix") if one.laddr}


def _connections(processes, kind):
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            yield from process.net_connections(kind)


def targets(processes, folders=(), password="", others=frozenset()):
    """All that is open of processes, but for some addresses, and all that lies in folders."""
    found = [one for folder in folders for one in (Path(folder), *Path(folder).rglob("*"))]
    return Targets(
        tuple(sorted(listening(processes) - others)), tuple(sorted(unix_sockets(processes))),
        tuple(str(one) for one in found if one.is_file()), tuple(str(one) for one in found if one.is_dir()), password,
    )  # fmt: skip


def attacked(aims):
    """What somebody without privileges gets: address or path -> what."""
    command = [sys.executable, "-m", "tests.support.intruder"]
    done = subprocess.run(
        command, input=json.dumps(asdict(aims)), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class Careless(Security):
    """Keys for Dask that take any certificate for good, and show those given, or none."""

    def __init__(self, keys):
        super().__init__(require_encryption=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        if keys:
            self.context.load_cert_chain(*keys)

    def get_connection_args(self, role):
        return {"ssl_context": self.context, "require_encryption": True, "extra_conn_args": {}}


async def identity(address, security):
    """Ask a server of Dask's who it is."""
    comm = await open_comm(address, timeout=WAIT_S, **security.get_connection_args("client"))
    try:
        await comm.write({"op": "identity", "reply": True})
        return str(await comm.read())[:50]
    finally:
        comm.abort()


async def client(address, security):
    """Run code in a scheduler, as who runs that."""
    async with Client(address, security=security, asynchronous=True, timeout=WAIT_S, set_as_default=False) as dask:
        return await dask.run_on_scheduler(os.getuid)


def posted(url, path, body):
    """Status and answer of HTTP."""
    headers = {"Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url + path, data, headers), timeout=WAIT_S) as answer:
        return answer.read()


async def page(url, path, body=None):
    return len(await asyncio.to_thread(posted, url, path, body))


async def flow_run(url):
    """Create a flow and a run of it."""
    made = json.loads(await asyncio.to_thread(posted, url, "/api/flows/", {"name": "intruder"}))
    state = {"type": "SCHEDULED", "name": "Scheduled"}
    return len(await asyncio.to_thread(posted, url, "/api/flow_runs/", {"flow_id": made["id"], "state": state}))


async def subscription(url, path, token, old):
    """Subscribe to what happens; old clients show no token."""
    protocols = None if old else ["prefect"]
    async with connect(f"{url.replace('http', 'ws', 1)}/api/{path}", subprotocols=protocols) as opened:
        if old:
            return await asyncio.wait_for(await opened.ping(), WAIT_S)
        await opened.send(json.dumps({"type": "auth", "token": token}))
        if "auth_success" not in (said := await opened.recv()):
            raise ValueError(said)
        return said


async def database(host, port, user, password):
    found = await asyncpg.connect(
        host=host,
        port=port,
        user=user,
        database="prefect",
        password=password,
        passfile="/no",
        timeout=WAIT_S,
        ssl=False,
    )
    try:
        return await found.fetchval("SELECT current_user")
    finally:
        await found.close()


def attempts(host, port, password, keys):
    """What is tried on a port: name -> coroutine."""
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    url = f"http://{at}"
    for address, security in (
        (f"tcp://{at}", Security()),
        (f"tls://{at}", Careless(())),
        (f"tls://{at}", Careless(keys)),
    ):
        yield address, identity(address, security)
        yield f"{address} client", client(address, security)
    for path in PAGES:
        yield f"{url}{path}", page(url, path)
    for name in LISTS:
        yield f"{url}/api/{name}/filter", page(url, f"/api/{name}/filter", {})
    yield f"{url}/api/flow_runs/", flow_run(url)
    for path in SUBSCRIPTIONS:
        for token in (None, "", "nightstride:"):
            yield f"{url}/api/{path} {token}", subscription(url, path, token, False)
        yield f"{url}/api/{path} old", subscription(url, path, None, True)
    for user in ("prefect", "postgres"):
        for one in {"", password}:
            yield f"postgresql://{user}@{at}", database(host, port, user, one)


async def tried_on(host, port, password, keys):
    """What came of it all."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    got = {}

    async def one(name, attempt):
        # Whatever it is that stops it: refused, no answer, another protocol.
        with suppress(Exception):
            got[name] = str(await asyncio.wait_for(attempt, 2 * WAIT_S))

    await asyncio.gather(*(one(name, attempt) for name, attempt in attempts(host, port, password, keys)))
    return got


def tried_on_file(path):
    """What can be done to a file."""
    got = []
    for name, mode in (("read", os.O_RDONLY), ("write", os.O_WRONLY)):
        with suppress(OSError):
            descriptor = os.open(path, mode | os.O_NONBLOCK)
            got.append(name)
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                got.append("lock")
            os.close(descriptor)
    return got


def tried_in_folder(path):
    """Whether something can be put into a folder."""
    with suppress(OSError):
        intruder = Path(path) / "intruder"
        intruder.touch()
        intruder.unlink()
        return ["create"]
    return []


def tried_on_socket(path):
    with suppress(OSError), socket.socket(socket.AF_UNIX) as found:
        found.connect(f"\0{path[1:]}" if path.startswith("@") else path)
        return ["connect"]
    return []


async def attack(aims, keys):
    found = await asyncio.gather(*(tried_on(host, port, aims["password"], keys) for host, port in aims["ports"]))
    got = {name: what for one in found for name, what in one.items()}
    for kind, look in (("files", tried_on_file), ("folders", tried_in_folder), ("sockets", tried_on_socket)):
        got |= {path: what for path in aims[kind] if (what := look(path))}
    return got


def main():
    logging.disable(logging.CRITICAL)
    aims = json.load(sys.stdin)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    own = Security.temporary().get_tls_config_for_role("client")
    with tempfile.TemporaryDirectory() as place:
        keys = Path(place) / "cert.pem", Path(place) / "key.pem"
        for path, name in zip(keys, ("cert", "key"), strict=True):
            path.write_text(own[name])
        os.chdir(place)
        got = asyncio.run(attack(aims, keys))
    print(json.dumps(got))


if __name__ == "__main__":
    main()
