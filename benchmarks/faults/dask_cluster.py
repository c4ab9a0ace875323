"""Dask cluster as operators start it, whose scheduler is killed."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import psutil
from distributed import Client, Scheduler

from benchmarks.faults.fault import Fault
from benchmarks.faults.scene import Scene
from benchmarks.support.moto_server import free_port
from flows.nights.cluster.local import environment

ENDING_S = 120.0
"""How long workers may take to end after their scheduler, s."""


class DaskCluster:
    """Scheduler and two workers, each a process of its own.

    Parameters
    ----------
    scene
        Where they run.
    """

    def __init__(self, scene: Scene) -> None:
        self._folder, self._environment = scene.folder, {**scene.environment, **environment()}
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.start()

    def start(self) -> None:
        """Start all three; commands that need them wait for them."""
        port = self.address.rpartition(":")[2]
        quiet = ("--dashboard-address", "127.0.0.1:0")
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", port, *quiet)
        options = ("--nworkers", "2", "--nthreads", "1", "--memory-limit", "2GiB", *quiet)
        # Its locks outlive workers that are killed, until the next start; they are the cluster's, not the command's.
        scratch = ("--local-directory", str(self._folder / "scratch"))
        self.workers = self._start("worker", self.address, *options, *scratch)

    def _start(self, *command: str) -> psutil.Popen:
        with (self._folder / f"dask-{command[0]}.log").open("a") as log:
            return psutil.Popen(
                [sys.executable, "-m", "dask", *command], stdout=log, stderr=log, env=self._environment,
                cwd=self._folder,
            )  # fmt: skip

    def stop(self) -> None:
        """End workers and scheduler, and all that they have started."""
        running = [one for one in (self.workers, self.scheduler) if one.poll() is None]
        family = [*running, *(child for one in running for child in one.children(recursive=True))]
        for one in running:
            one.terminate()
        _, left = psutil.wait_procs(family, ENDING_S)
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left, ENDING_S)


@contextmanager
def dask_cluster(scene: Scene) -> Iterator[DaskCluster]:
    """Return a cluster that is ended with the block."""
    cluster = DaskCluster(scene)
    try:
        yield cluster
    finally:
        cluster.stop()


def scheduler_killed(scene: Scene, part: str = "exposures") -> None:
    """Kill the scheduler under a command, and start it and its workers again where it was."""
    scene.part = part
    with dask_cluster(scene) as cluster:
        command = scene.start(options=("--scheduler", cluster.address))
        scene.middle(command)
        victim = cluster.scheduler
        scene.strike(victim.kill)
        scene.until(lambda: victim.poll() is not None)
        scene.require(victim.poll() == -signal.SIGKILL, f"scheduler {victim.pid} was ended by SIGKILL")
        cluster.stop()
        cluster.start()
        scene.finish(command)


def worker_killed_with_a_patch(scene: Scene) -> None:
    """Kill a worker that has a patch of the sky to make; its nanny starts another."""
    scene.part = "patches"
    with dask_cluster(scene) as cluster:
        command = scene.start(options=("--scheduler", cluster.address))
        scene.middle(command)
        with Client(cluster.address, set_as_default=False) as client:

            def patches() -> set[str]:
                """Return the patches that workers had when they were lost."""
                events = (event for _, event in client.get_events("all") if event["action"] == "remove-worker")
                return {key for event in events for key in event["processing-tasks"] if key.startswith("patch-")}

            victim = _stopped(scene, client, command)
            scene.strike(victim.kill)
            scene.until(patches, command)
            scene.require(command.poll() is None, f"worker {victim.pid} died with {len(patches())} of them")
        scene.finish(command)


def _stopped(scene: Scene, client: Client, command: psutil.Popen) -> psutil.Process:
    """Return a worker that does not go on with what it has to do."""
    found: list[psutil.Process] = []

    def stop() -> list[psutil.Process]:
        for pid in client.run_on_scheduler(_busy):
            worker = psutil.Process(pid)
            worker.suspend()
            time.sleep(0.1)  # what it has said is heard
            if pid in client.run_on_scheduler(_busy):
                return [worker]
            worker.resume()
        return []

    scene.until(lambda: found.extend(stop()) or found, command)
    return found[0]


def _busy(dask_scheduler: Scheduler) -> list[int]:
    """Return the processes of the workers that have something to do."""
    return [worker.pid for worker in dask_scheduler.workers.values() if worker.processing]


FAULTS = (
    Fault(
        "worker killed, patches",
        "SIGKILL to a worker of `--scheduler` that makes a patch; its nanny starts another",
        worker_killed_with_a_patch,
    ),
    Fault(
        "Dask scheduler killed",
        "SIGKILL to the scheduler of `--scheduler`; it and its workers are started again, the same command again",
        scheduler_killed,
        (1, 0),
    ),
    Fault(
        "Dask scheduler killed, patches",
        "the same among the patches",
        partial(scheduler_killed, part="patches"),
        (1, 0),
    ),
)
