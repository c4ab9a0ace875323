"""Processes that are killed, asked to stop, or take all memory."""

import os
import signal
from functools import partial

import psutil

from benchmarks.faults.fault import Fault
from benchmarks.faults.memory import swallow_on_signal
from benchmarks.faults.scene import NotHappened, Scene
from schemas.settings import ExecutionSettings

_TERMINATED = 128 + signal.SIGTERM


def workers(command: psutil.Popen) -> list[psutil.Process]:
    """Return the workers of a command on this machine.

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


def _gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def worker_killed(scene: Scene) -> None:
    """Kill one worker."""
    command = scene.start()
    scene.middle(command)
    victim = scene.rng.choice(workers(command))
    scene.strike(victim.kill)
    scene.until(lambda: _gone(victim))
    scene.require(command.poll() is None, f"worker {victim.pid} is gone, the command is not")
    scene.finish(command)


def worker_out_of_memory(scene: Scene) -> None:
    """Make one worker allocate more than it may have, until Dask's nanny kills it."""
    limit = int(ExecutionSettings().worker_memory_gib * 2**30)
    # Nobody but the command itself can send its workers a task: each process is told when it starts.
    told = f"from {swallow_on_signal.__module__} import swallow_on_signal\nswallow_on_signal({2 * limit})\n"
    (scene.folder / "sitecustomize.py").write_text(told)
    scene.environment["PYTHONPATH"] = os.pathsep.join((str(scene.folder), scene.environment["PYTHONPATH"]))
    command = scene.start()
    scene.middle(command)
    victim = scene.rng.choice(workers(command))
    scene.strike(lambda: victim.send_signal(signal.SIGUSR1))
    scene.until(lambda: _gone(victim), command)
    scene.finish(command)
    killed = f"(pid={victim.pid}) exceeded 95% memory budget" in " ".join(scene.said(0).split())
    scene.require(killed, f"worker {victim.pid} is gone: it exceeded 95 % of {limit / 2**30:.1f} GiB")


def flow_killed(scene: Scene, part: str = "exposures") -> None:
    """Kill the command itself."""
    scene.part = part
    _end(scene, signal.SIGKILL, -signal.SIGKILL)


def _end(scene: Scene, by: signal.Signals, code: int) -> None:
    command = scene.start()
    scene.middle(command)
    scene.strike(lambda: command.send_signal(by))
    scene.until(lambda: command.poll() is not None)
    scene.require(command.poll() == code, f"it was ended by {by.name}")
    scene.finish(command)


def terminated(scene: Scene) -> None:
    """Ask the command to stop."""
    command = scene.start()
    scene.middle(command)
    scene.strike(command.terminate)
    scene.finish(command)
    scene.require(scene.summary(0).get("stopped"), "its summary says that it was stopped")


def terminated_among_patches(scene: Scene) -> None:
    """Ask the command to stop when its search is over: it ends at once."""
    scene.part = "patches"
    _end(scene, signal.SIGTERM, _TERMINATED)


FAULTS = (
    Fault("worker killed", "SIGKILL to a worker", worker_killed),
    Fault("worker out of memory", "a worker allocates twice its memory, its nanny kills it", worker_out_of_memory),
    Fault("flow process killed", "SIGKILL to the command; the same again", flow_killed, (-9, 0)),
    Fault("flow process killed, patches", "the same among the patches", partial(flow_killed, part="patches"), (-9, 0)),
    Fault("SIGTERM", "to the command; the same again", terminated, (1, 0)),
    Fault("SIGTERM, patches", "the same among the patches", terminated_among_patches, (_TERMINATED, 0)),
)
