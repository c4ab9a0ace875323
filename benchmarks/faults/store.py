"""An object store that is down."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from benchmarks.faults.fault import Fault
from benchmarks.faults.fault_proxy import FaultProxy, Faults
from benchmarks.faults.scene import Scene, stop
from benchmarks.moto_server import put_folder, start_moto
from flows.adapters.bucket_path import located
from flows.adapters.object_store import configure
from schemas.settings import StoreSettings

POLL_S = 0.2
"""Looking at a bucket keeps the server from other work."""


@contextmanager
def night_in_a_bucket(scene: Scene) -> Iterator[tuple[psutil.Popen, Faults]]:
    """Start a run from a bucket to a bucket, through a proxy that can disturb it."""
    server, process = start_moto()
    before = dict(os.environ)
    try:
        bucket = server.new_bucket()
        put_folder(server.client, bucket, scene.lab.raw, "raw")
        # We look past the proxy.
        os.environ.update(server.environment)
        configure(StoreSettings(endpoint=server.endpoint))
        scene.out, scene.poll_s = located(f"s3://{bucket}/out"), POLL_S
        with FaultProxy("127.0.0.1", server.port, Faults()) as proxy:
            scene.environment |= server.environment | {"AWS_ENDPOINT_URL": proxy.endpoint}
            yield scene.start(f"s3://{bucket}/raw"), proxy.faults
            scene.measure()
    finally:
        configure(StoreSettings())
        os.environ.clear()
        os.environ.update(before)
        stop(process)


def down(scene: Scene) -> None:
    """Reset every connection for a while."""
    with night_in_a_bucket(scene) as (command, faults):
        scene.middle(command)
        scene.strike(lambda: setattr(faults, "down", True))
        end = time.monotonic() + scene.lab.size.down_s
        scene.until(lambda: time.monotonic() > end, command)
        faults.down = False
        scene.require(faults.done["reset"], f"{faults.done['reset']} connections reset in {scene.lab.size.down_s:g} s")
        scene.finish(command)


FAULTS = (Fault("S3 down", "every connection reset for 30 s (5 s in CI)", down),)
