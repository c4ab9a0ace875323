"""Object store that is down, refuses, cuts and is slow."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psutil

from benchmarks.faults.association import in_postgres
from benchmarks.faults.fault import Fault
from benchmarks.faults.fault_proxy import FaultProxy, Faults
from benchmarks.faults.scene import Scene, stop
from benchmarks.support.moto_server import put_folder, start_moto
from flows.storage.bucket_path import located
from flows.storage.object_store import configure
from schemas.settings import StoreSettings

ENOUGH = 5
"""Number of requests that must be disturbed."""

POLL_S = 0.2
"""Time between looks at a bucket, s, which keep the server from other work."""


@contextmanager
def night_in_a_bucket(scene: Scene) -> Iterator[tuple[psutil.Popen, Faults]]:
    """Start a run from a bucket to a bucket, through a proxy that can disturb it; its association is in PostgreSQL."""
    in_postgres(scene)
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


def down(scene: Scene, part: str = "exposures") -> None:
    """Reset every connection for a while."""
    scene.part = part
    with night_in_a_bucket(scene) as (command, faults):
        scene.middle(command)
        scene.strike(lambda: setattr(faults, "down", True))
        end = time.monotonic() + scene.lab.size.down_s
        scene.until(lambda: time.monotonic() > end, command)
        faults.down = False
        scene.require(faults.done["reset"], f"{faults.done['reset']} connections reset in {scene.lab.size.down_s:g} s")
        scene.finish(command)


def errors(scene: Scene) -> None:
    """Refuse, cut and slow down what is asked from some moment on."""
    with night_in_a_bucket(scene) as (command, faults):
        scene.middle(command)
        scene.strike(lambda: vars(faults).update(refuse=7, cut=11, cut_request=13, slow=41))
        most = scene.lab.size.refused
        scene.until(lambda: faults.done["refused"] >= most or command.poll() is not None)
        if faults.done["refused"] >= most:
            vars(faults).update(refuse=0, cut=0, cut_request=0, slow=0)
        scene.finish(command)
        done = {name: faults.done[name] for name in ("refused", "cut", "cut_request", "slow")}
        said = f"{done['refused']} answers were 503, {done['cut'] + done['cut_request']} cut, {done['slow']} slow"
        scene.require(min(done["refused"], done["slow"]) >= ENOUGH and done["cut"] and done["cut_request"], said)


FAULTS = (
    Fault("S3 down", "every connection reset for 30 s (5 s in CI)", down),
    Fault("S3 down, patches", "the same among the patches", partial(down, part="patches")),
    Fault(
        "S3 503, cut, slow",
        "1 in 7 requests 503, to the end (110 in CI); 1 in 11 answers, 1 in 13 uploads cut; 1 in 41 takes 1 s",
        errors,
    ),
)
