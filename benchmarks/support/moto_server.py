"""S3 server in a process of its own: moto's, an emulator."""

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


@dataclass(frozen=True)
class Server:
    """Running S3 server."""

    endpoint: str

    @property
    def port(self):
        """Return the port that it listens on."""
        return int(self.endpoint.rpartition(":")[2])

    @property
    def environment(self):
        """Return the environment of its clients."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    @property
    def client(self):
        """Return another client, to compare with."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def new_bucket(self):
        """Make a bucket and return its name; names are used once: processes remember versions of objects."""
        name = f"night-{uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name


def free_port():
    """Return a port on which nothing listens."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def answers(server, seconds):
    """Wait until a server answers, but not longer than a number of seconds."""
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


def start_moto(host="127.0.0.1"):
    """Start moto's server at an address of this machine, in a process of its own; return it and the process."""
    port = free_port()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-H", host, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(f"http://{host}:{port}")
    answers(server, 60)
    return server, process


def put_folder(client, bucket, folder, prefix):
    """Upload all files of a folder below a prefix."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")
