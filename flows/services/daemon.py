"""A process that outlives the command that starts it, and is found again by later ones."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import ValidationError

from flows.adapters.atomic import write_file
from flows.adapters.holder import Holder, myself, runs


@dataclass(frozen=True)
class Daemon:
    """A process in the background.

    Attributes
    ----------
    record
        File that says which process it is.
    log
        File that gets what it says.
    """

    record: Path
    log: Path

    @property
    def process(self) -> psutil.Process | None:
        """The process; None if it does not run."""
        try:
            known = Holder.model_validate_json(self.record.read_bytes())
        except (OSError, ValidationError):
            return None
        # Numbers mean nothing after a reboot, or in another container.
        return psutil.Process(known.pid) if known.boot == myself().boot and runs(known) else None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it, in a session of its own; the caller has seen that it does not run."""
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
                cwd=self.record.parent, preexec_fn=_hear_interrupts,
            )  # fmt: skip
        try:
            started = psutil.Process(process.pid).create_time()
            known = myself().model_copy(update={"pid": process.pid, "started": started})
            write_file(self.record, known.model_dump_json(indent=1).encode(), self.record.parent)
        except BaseException:
            process.kill()  # nobody would find it again
            process.wait()
            raise
        # It is not ours to wait for: it lives on.
        process.returncode = 0

    def stop(self, patience_s: float) -> None:
        """End it: SIGTERM, and SIGKILL when that takes too long; then SIGKILL to all that it has started."""
        process = self.process
        if process is not None:
            family = {process, *process.children(recursive=True)}
            process.terminate()
            with suppress(psutil.TimeoutExpired):
                process.wait(patience_s)
            for one in tuple(family):
                with suppress(psutil.NoSuchProcess):
                    family.update(one.children(recursive=True))  # started meanwhile
            for one in family:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        self.record.unlink(missing_ok=True)


def _hear_interrupts() -> None:
    """Undo what a shell does to its background jobs: a worker of Prefect's ends by SIGINT, and would ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
