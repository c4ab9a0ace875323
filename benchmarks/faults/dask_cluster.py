"""Dask cluster as operators start it, whose scheduler is killed."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from benchmarks.faults.fault import Fault
from benchmarks.faults.scene import Scene
from benchmarks.moto_server import free_port
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


def scheduler_killed(scene: Scene) -> None:
    """Kill the scheduler under a command, and start it and its workers again where it was."""
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


FAULTS = (
    Fault(
        "Dask scheduler killed",
        "SIGKILL to the scheduler of `--scheduler`; it and its workers are started again, the same command again",
        scheduler_killed,
        (1, 0),
    ),
)
