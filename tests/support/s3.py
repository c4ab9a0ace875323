"""A real Ceph RADOS Gateway of our own."""

import os
import signal
import subprocess
from pathlib import Path

from benchmarks.support.moto_server import KEY, SECRET, Server, answers, free_port

WORKER_KEY, WORKER_SECRET = "WORKERWORKERWORK", "workerWORKERworkerWORKERworker12"
"""Of a user who owns nothing."""

CEPH_PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")


def start_ceph(folder):
    """Start a gateway on one monitor, one manager and one store in memory; needs root, and Debian's packages."""
    ports = [free_port() for _ in range(3)]
    script = Path(__file__).with_name("start_ceph.sh")
    subprocess.run(["bash", script, folder, *map(str, ports)], check=True, timeout=120, capture_output=True)
    server = Server(f"http://127.0.0.1:{ports[0]}")
    for user, key, secret in (("night", KEY, SECRET), ("worker", WORKER_KEY, WORKER_SECRET)):
        command = ["radosgw-admin", "-c", folder / "ceph.conf", "-n", "client.rgw.a", "user", "create"]
        command += [f"--uid={user}", f"--display-name={user}", f"--access-key={key}", f"--secret={secret}"]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
    answers(server, 120)
    return server


def stop_ceph(folder):
    for file in (folder / "run").glob("*.pid"):
        try:
            os.kill(int(file.read_text()), signal.SIGKILL)
        except (ValueError, ProcessLookupError):
            continue
