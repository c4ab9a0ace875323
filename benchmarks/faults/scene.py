"""Scene of one fault: commands, a moment in the middle of their work, and observations of them."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import psutil
import sqlalchemy as sa

from benchmarks.faults.lab import BOTH_WAYS, ROOT, Lab, count, environment
from benchmarks.faults.published import associated, differences, left_behind, problems, published, using
from flows.storage.association_tables import FILE

POLL_S = 0.02
ATTEMPTS = 3
"""Number of times that a supervisor restarts a command."""


class NotHappened(Exception):
    """Raised when a fault did not take place, or not in the middle of the work: its row would be meaningless."""


class NotAvailable(NotHappened):
    """Raised when what a fault needs is not installed, or not allowed here."""


class Scene:
    """Output folder, the commands that work on it, and the fault that is done to them.

    Parameters
    ----------
    lab
        Night and its expected result.
    folder
        Folder of this fault alone.
    rng
        Decides on the moment and the victim.

    Attributes
    ----------
    out, environment, poll_s, tmp
        Folder of the results, environment of the commands, time between checks of them, s, and their temporary folder;
        a fault may change the first three before it starts any.
    store
        Where the association is kept; None: in ``out``.
    part
        Of `benchmarks.faults.lab.PARTS`, in the middle of which the fault is done.
    evidence, exits
        Evidence that the fault took place; exit codes.
    recovery_s, elapsed_s, measured
        As in `benchmarks.faults.fault.Outcome`; None: not yet.
    """

    def __init__(self, lab: Lab, folder: Path, rng: Random) -> None:
        self.lab, self.folder, self.rng = lab, folder, rng
        self.out, self.tmp = folder / "out", folder / "tmp"
        self.environment = environment(lab.folder, self.tmp, lab.api)
        self.poll_s = POLL_S
        self.store: sa.URL | None = None
        self.part = "exposures"
        self.evidence: list[str] = []
        self.exits: list[int] = []
        self._began: float | None = None
        self._struck: tuple[float, int] | None = None
        self.recovery_s: float | None = None
        self.measured: dict[str, Any] | None = None
        self.elapsed_s = 0.0
        self._living: list[psutil.Popen] = []

    def start(self, *inputs: object, verb: str = "run", options: Sequence[str] = ()) -> psutil.Popen:
        """Start a command on the night, or on other inputs."""
        given = [*(map(str, inputs or (self.lab.raw,))), "--out", str(self.out), *options, "--json"]
        return self.again([*BOTH_WAYS, verb, *given])

    def again(self, command: Sequence[str]) -> psutil.Popen:
        """Start a command line as it is."""
        self._began = self._began or time.monotonic()
        number = len(self.exits)
        with (self.folder / f"stdout-{number}").open("w") as stdout, self.stderr.open("w") as stderr:
            process = psutil.Popen(command, stdout=stdout, stderr=stderr, env=self.environment, cwd=ROOT)
        self._living.append(process)
        return process

    @property
    def stderr(self) -> Path:
        """Return the path of what the present command writes to standard error."""
        return self.folder / f"stderr-{len(self.exits)}"

    def summary(self, number: int) -> dict[str, Any]:
        """Return the summary of a command that has ended, the first being 0."""
        lines = (self.folder / f"stdout-{number}").read_text().splitlines()
        return dict(json.loads(lines[-1])) if lines else {}

    def done(self) -> int:
        """Return how much of the part of the work in which the fault is done is finished."""
        return count(self.out, self.part)

    def associated(self, table: sa.Table) -> int:
        """Return the number of rows of a table of the association's store."""
        store = self.store or sa.URL.create("sqlite", database=str(self.out / FILE))
        return sum(times for (name, *_), times in associated(store).items() if name == table.name)

    def until(self, condition: Callable[[], object], *commands: psutil.Popen) -> None:
        """Wait for a condition while commands run. Looking takes a quarter of a core at most.

        Raises
        ------
        NotHappened
            One has ended before, or it takes too long.
        """
        patience = self.lab.size.patience_s
        end, busy = time.monotonic() + patience, time.thread_time()
        while not condition():
            self._look()
            for command in commands:
                if command.poll() is not None:
                    raise NotHappened(f"the command ended with {command.poll()} before: {self._said()}")
            if time.monotonic() > end:
                raise NotHappened(f"waited {patience:.0f} s in vain: {self._said()}")
            time.sleep(max(self.poll_s, 3 * (time.thread_time() - busy)))
            busy = time.thread_time()

    def middle(self, command: psutil.Popen, finished: bool = False) -> None:
        """Wait for a moment in the middle of the work: a number of exposures stored, or finished; or of patches.

        With ``finished``, stored ones do not count.
        """
        if self.part != "exposures":
            whole = self.lab.parts[self.part]
            wanted = self.rng.randint(1, whole // 2)
            self.until(lambda: self.done() >= wanted, command)
            self.evidence.append(f"with {wanted} of {whole} {self.part} done")
            return
        wanted = self.rng.randint(1, self.lab.size.exposures // 2)
        stored = not finished and self.rng.random() < 0.5
        pattern = "tiles/*/*.zarr/zarr.json"
        self.until(lambda: (len(list(self.out.glob(pattern))) if stored else self.done()) >= wanted, command)
        self.evidence.append(f"with {wanted} of {self.lab.size.exposures} exposures {'stored' if stored else 'done'}")

    def strike(self, action: Callable[[], object]) -> None:
        """Do the fault now.

        Raises
        ------
        NotHappened
            All the work was done already.
        """
        before = self.done()
        if before >= self.lab.parts.get(self.part, self.lab.size.exposures):
            raise NotHappened(f"all {self.part} were done before")
        self._struck = time.monotonic(), before
        action()

    def require(self, fact: object, evidence: str) -> None:
        """Record the evidence that the fault took place.

        Raises
        ------
        NotHappened
            It is not so.
        """
        if not fact:
            raise NotHappened(f"not so: {evidence}")
        self.evidence.append(evidence)

    def ended(self, command: psutil.Popen) -> int:
        """Wait for the end of a command; return its exit code."""
        self.until(lambda: command.poll() is not None)
        self._look()
        self._living.remove(command)
        self.exits.append(int(command.poll() or 0))
        self.elapsed_s = time.monotonic() - (self._began or 0.0)
        return self.exits[-1]

    def finish(self, command: psutil.Popen, code: int = 0) -> None:
        """Wait for a command's end, and start it again until it ends as it should, as a supervisor would."""
        again = list(command.args)
        for _ in range(ATTEMPTS):
            if self.ended(command) == code:
                return
            command = self.again(again)
        self.ended(command)

    def measure(self) -> None:
        """Measure what is published and left behind, before the fault's surroundings end if it would end with them."""
        if self.measured is None:
            self.measured = {
                **differences(self.lab.expected, published(self.out, self.store)),
                "problems": problems(self.out),
                "leftovers": left_behind(self.out, self.tmp),
            }

    def said(self, number: int) -> str:
        """Return all that a command said."""
        return "".join((self.folder / f"{name}-{number}").read_text() for name in ("stdout", "stderr"))

    def close(self) -> None:
        """Stop what a failed fault has left running."""
        for command in self._living:
            family = [command, *command.children(recursive=True)] if command.poll() is None else []
            for one in family:
                try:
                    one.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(family, 60)
        # Children of commands that are dead already: they would disturb the next fault.
        for one in using(self.tmp):
            with suppress(psutil.NoSuchProcess):
                one.kill()

    def _look(self) -> None:
        if self._struck is not None and self.recovery_s is None:
            moment, before = self._struck
            if self.done() > before:
                self.recovery_s = time.monotonic() - moment

    def _said(self) -> str:
        return self.stderr.read_text()[-2000:] if self.stderr.exists() else ""


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process of ours."""
    process.kill()
    process.wait()
