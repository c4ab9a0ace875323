"""Conditions on workers: same software, and access to the output folder; and the calls that check them."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from socket import gethostname
from typing import Any
from uuid import uuid4

from distributed import Client
from distributed.worker import get_worker
from packaging.version import Version

from flows.runtime.log import observed, origin
from flows.storage.atomic import write_file
from flows.storage.digest import our_code
from flows.storage.fence import Fence, fenced_task
from flows.storage.layout import staging_folder
from flows.storage.object_store import configure
from schemas.errors import Misconfigured, NightstrideError
from schemas.settings import StoreSettings

CODE = "nightstride code"
"""Name of the digest of our own files."""

LIBRARIES = (
    "numpy", "scipy", "numba", "llvmlite", "torch", "astropy", "astropy-healpix", "photutils", "sep", "zarr", "zarrs",
    "numcodecs", "pyarrow", "safetensors", "pydantic", "dask", "distributed",
)  # fmt: skip
"""Libraries that compute, read or write, and those that carry tasks between processes."""


@cache
def software() -> dict[str, str]:
    """Return the versions of Python and of `LIBRARIES` in this process, and the digest of our own code and weights.

    Only the first two numbers of Python's version count, and no local part after a plus sign: torch counts as the same
    version with and without CUDA.
    """
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in LIBRARIES:
        try:
            found[name] = Version(version(name)).public
        except PackageNotFoundError:
            found[name] = "not installed"
    return {**found, CODE: our_code()}


TOKEN = "token"
"""Prefix of the name of the file by which workers show that they see the output folder."""


@dataclass(frozen=True)
class WorkerTerms:
    """Conditions of a run on its workers.

    Attributes
    ----------
    software
        Versions by name, as from `software`.
    token, content
        File that the client has written to the output folder, and its content.
    store
        How to reach the output folder if it is in a bucket.
    """

    software: tuple[tuple[str, str], ...]
    token: Path
    content: bytes
    store: StoreSettings


@contextmanager
def worker_terms(out: Path, store: StoreSettings) -> Iterator[WorkerTerms]:
    """Write the token of a run; it exists as long as the block lasts.

    Parameters
    ----------
    out
        Output folder, which may be in a bucket.
    store
        How workers reach buckets.

    Raises
    ------
    Misconfigured, Retryable
        The output folder cannot be written.
    """
    content = uuid4().hex.encode()
    token = staging_folder(out) / f"{TOKEN}-{content.decode()}"
    write_file(token, content, staging_folder(out))
    try:
        yield WorkerTerms(tuple(software().items()), token, content, store)
    finally:
        with suppress(OSError, NightstrideError):
            token.unlink(missing_ok=True)


def require_admitted(client: Client, terms: WorkerTerms) -> None:
    """Check that every connected worker meets the terms of a run.

    Raises
    ------
    Misconfigured
        A worker does not; the message names it, what it lacks, and what to do.
    """
    names = {at: worker["name"] for at, worker in client.scheduler_info(n_workers=-1)["workers"].items()}
    answers: Mapping[str, Any] = client.run(look_at_worker, terms, on_error="return")
    for address, answer in answers.items():
        who = f"worker {names.get(address, '')} at {address}"
        if isinstance(answer, NightstrideError):
            raise answer
        if isinstance(answer, Exception):  # Dask returns the text of what a worker cannot even load
            problem = f"cannot run our code: {answer}."
            raise Misconfigured("worker_software", who, problem, _SAME_SOFTWARE) from answer
        versions, sees = answer
        _judge(who, terms, versions, sees)


def admitted(terms: WorkerTerms, task: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task if this worker meets the terms of the run; so workers that join late are checked too.

    Raises
    ------
    Misconfigured
        This worker does not meet them; see `require_admitted`.
    """
    configure(terms.store)  # each time, since a worker may serve several runs
    _looked_at(terms)
    return task(*arguments)


def look_at_worker(terms: WorkerTerms) -> tuple[dict[str, str], bool]:
    """Return the versions of this process, and whether it sees the token."""
    configure(terms.store)
    return software(), _sees(terms)


def _sees(terms: WorkerTerms) -> bool:
    try:
        return terms.token.read_bytes() == terms.content
    except OSError:
        return False


@lru_cache(4)
def _looked_at(terms: WorkerTerms) -> None:
    _judge(f"worker {get_worker().name} on {gethostname()}", terms, *look_at_worker(terms))


def _judge(who: str, terms: WorkerTerms, versions: Mapping[str, str], sees: bool) -> None:
    for name, ours in terms.software:
        theirs = versions.get(name, "not known")
        if theirs != ours:
            what = f"package {name}" if name != CODE else f"the digest of the {name}"
            raise Misconfigured("worker_software", who, f"{what} is {theirs} there, {ours} here.", _SAME_SOFTWARE)
    if not sees:
        raise Misconfigured(
            "output_not_shared",
            who,
            f"does not see the output folder: no file {terms.token} with what was written to it from here.",
            "put --out on a file system that is mounted at the same path everywhere, or in an object store.",
        )


_SAME_SOFTWARE = (
    "install the same version of nightstride with deploy/constraints.txt, or the same image, "
    "on the workers and here, and start the workers again."
)


def task_call(
    name: str, task: Callable[..., Any], fence: Fence | None, terms: WorkerTerms | None
) -> tuple[Callable[..., Any], ...]:
    """Return the callable that a worker runs in place of a task, followed by its first arguments.

    Parameters
    ----------
    name, task
        Name in logs and traces, and the task.
    fence, terms
        Fence that must hold whenever the task publishes, and terms that the worker must meet; None: no such check.
    """
    came = origin()
    call: tuple[Any, ...] = (task,) if came is None else (observed, came, name, task)
    if fence is not None:
        call = (fenced_task, fence, *call)
    if terms is not None:
        call = (admitted, terms, *call)
    return call
