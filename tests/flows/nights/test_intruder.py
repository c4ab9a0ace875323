"""Another user of the machine tries every port that a run listens on."""

import json
import os
import subprocess
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import pytest
from distributed import LocalCluster

from tests.support.night import Command
from tests.support.wait import until

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists() or os.geteuid() != 0, reason="only for root"),
]

ATTACK = """
import asyncio, json, os, sys
from http.client import HTTPException
from urllib.request import Request, urlopen
from distributed.comm import connect
from distributed.security import Security

async def scheduler(address, security):
    comm = await connect(address, timeout=2, **security.get_connection_args("client"))
    await comm.write({"op": "identity", "reply": True})
    return str(await comm.read())

own = Security.temporary()
os.setgroups([]), os.setgid(65534), os.setuid(65534)
got = {}
for port in json.loads(sys.argv[1]):
    for address, security in ((f"tcp://127.0.0.1:{port}", Security()), (f"tls://127.0.0.1:{port}", own)):
        try:
            got[address] = asyncio.run(asyncio.wait_for(scheduler(address, security), 5))
        except (OSError, TimeoutError, ValueError, RuntimeError):
            pass
    for path in ("/", "/api/flows/filter", "/api/admin/settings", "/metrics", "/info/main/workers.html", "/health"):
        for body in (None, b"{}"):
            url = f"http://127.0.0.1:{port}{path}"
            try:
                got[url] = urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=3).status
            except (OSError, HTTPException):  # refused, not found, no HTTP
                pass
print(json.dumps(got))
"""


def attacked(ports):
    """What somebody without privileges or passwords gets on some ports: address -> answer."""
    command = [sys.executable, "-c", ATTACK, json.dumps(sorted(ports))]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)


def family(parent):
    """A process and all its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = {parent}
    while more := {pid for pid, above in parents.items() if above in found} - found:
        found |= more
    return found


def listening(processes):
    """Ports of TCP on which processes listen: (port, all addresses of the machine?)."""
    inodes = set()
    for pid in processes:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(str(descriptor.readlink()))
            except OSError:
                continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    ours = [row[1].split(":") for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
    return {(int(port, 16), int(address, 16) == 0) for address, port in ours}


def is_prefect(listener):
    try:
        return urlopen(f"http://127.0.0.1:{listener[0]}/api/health", timeout=5).status == 200
    except (OSError, HTTPException):
        return False


def test_another_user_gets_nothing_of_a_run_that_waits(night_models, prefect_home, tmp_path, monkeypatch):
    arriving = tmp_path / "arriving"
    arriving.mkdir()
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    watch = Command(night_models, {"PREFECT_HOME": str(prefect_home)}, "watch")
    with watch.start(arriving, "--out", tmp_path / "out") as running:
        try:
            until(lambda: any(map(is_prefect, listening(family(running.pid)))), seconds=300, process=running)
            # And Dask's scheduler, two workers and their nannies.
            until(lambda: len(listening(family(running.pid))) >= 6, seconds=120, process=running)
            ports = listening(family(running.pid))
            assert sum(map(is_prefect, ports)) == 1
            got = attacked(port for port, _ in ports)
        finally:
            running.terminate()
            running.communicate(timeout=120)
    assert not any(everywhere for _, everywhere in ports), "listens to other machines, too"
    assert got == {}


def test_the_attack_gets_in_where_nothing_is_closed():
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        got = attacked(port for port, _ in listening({os.getpid()}))
        assert any(address.startswith("tcp://") for address in got)
        assert cluster.scheduler_address in got
    assert 200 in got.values()
