"""Processes that are killed or asked to stop."""

import psutil

from benchmarks.faults.fault import Fault
from benchmarks.faults.scene import NotHappened, Scene


def workers(command: psutil.Popen) -> list[psutil.Process]:
    """Give the workers of a command on this machine.

    Raises
    ------
    NotHappened
        It has none.
    """
    children = [child for child in command.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    # Forked from the server of workers, which looks the same.
    forked = [child for child in children if "forkserver" in " ".join(child.cmdline())]
    found = [child for child in forked if "forkserver" in " ".join(child.parent().cmdline())]
    if not found:
        raise NotHappened("the command has no workers")
    return sorted(found, key=lambda worker: worker.pid)


def worker_killed(scene: Scene) -> None:
    """Kill one worker."""
    command = scene.start()
    scene.middle(command)
    victim = scene.rng.choice(workers(command))
    scene.strike(victim.kill)
    scene.until(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE)
    scene.require(command.poll() is None, f"worker {victim.pid} is gone, the command is not")
    scene.finish(command)


def terminated(scene: Scene) -> None:
    """Ask the command to stop."""
    command = scene.start()
    scene.middle(command)
    scene.strike(command.terminate)
    scene.finish(command)
    scene.require(scene.summary(0).get("stopped"), "its summary says that it was stopped")


FAULTS = (
    Fault("worker killed", "SIGKILL to a worker", worker_killed),
    Fault("SIGTERM", "to the command; the same again", terminated),
)
