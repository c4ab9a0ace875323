"""Waiting for the output folder while another run holds it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep

from flows.adapters.holder import Holder
from flows.adapters.lease import lease
from schemas.errors import Misconfigured

POLL_S = 1.0
"""How often a run that waits looks whether the folder is free, s."""


@contextmanager
def patient_lease(
    out: Path, wait_s: float | None, say: Callable[[str], None], poll_s: float = POLL_S
) -> Iterator[Holder]:
    """Hold the output folder as `flows.adapters.lease.lease` does, once whoever holds it has let it go.

    Parameters
    ----------
    out
        Output folder.
    wait_s
        How long to wait at most, s; None: as long as it takes.
    say
        Told once who is waited for.
    poll_s
        How often to look, s.

    Raises
    ------
    Misconfigured
        The folder is still held after ``wait_s`` (``locked``), or it may not be written.
    """
    deadline = None if wait_s is None else monotonic() + wait_s
    told = False
    with ExitStack() as stack:
        while True:
            try:
                holder = stack.enter_context(lease(out))
                break
            except Misconfigured as error:
                if error.code != "locked" or (deadline is not None and monotonic() >= deadline):
                    raise
                if not told:
                    say(f"Waiting: {error.where}: {error.problem}")
                    told = True
            sleep(poll_s)
        yield holder
