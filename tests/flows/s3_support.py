"""S3 servers of our own: moto's, and a real Ceph RADOS Gateway."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

KEY, SECRET = "NIGHTKEYNIGHTKEY", "secretSECRETsecretSECRETsecret12"
WORKER_KEY, WORKER_SECRET = "WORKERWORKERWORK", "workerWORKERworkerWORKERworker12"
"""Of a user who owns nothing."""

CEPH_PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")


@dataclass(frozen=True)
class Server:
    """An S3 server that answers."""

    endpoint: str

    @property
    def port(self):
        return int(self.endpoint.rpartition(":")[2])

    @property
    def environment(self):
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    @property
    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def new_bucket(self):
        """Names are used once: processes remember versions of objects."""
        name = f"night-{uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def answers(server, seconds):
    end = time.monotonic() + seconds
    while True:
        try:
            server.client.list_buckets()
        except (BotoCoreError, ClientError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def start_moto():
    """Start moto's server in a process of its own; give it and the process."""
    port = free_port()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(f"http://127.0.0.1:{port}")
    answers(server, 60)
    return server, process


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
