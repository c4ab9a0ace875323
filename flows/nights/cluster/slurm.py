"""Workers in SLURM jobs, as many as the work needs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import dask
from distributed.security import Security
from distributed.utils import get_ip_interface

from flows.nights.cluster.local import NOTHING_BY_HTTP, PATIENCE, exports, warnings_alone
from flows.nights.cluster.security import made_for_a_run, security_of
from flows.storage.folder import writable_folder
from schemas.cluster_settings import ClusterSettings, SlurmSettings
from schemas.errors import Misconfigured, missing_extra

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster


ANSWER_S = 120.0
"""How long SLURM may take to say whether it accepts a job, s."""


@contextmanager
def slurm_cluster(settings: ClusterSettings) -> Iterator[tuple[str, Security]]:
    """Start a scheduler in this process and jobs that work for it; yield its address and the keys to it.

    Connections are encrypted, with keys made for this run if the settings name none. Jobs are added while there is more
    work than the running ones do in a few seconds, and end when there is less.

    Raises
    ------
    Misconfigured
        dask-jobqueue is not installed, SLURM is missing or would not accept the job, the network interface does not
        exist, or a certificate is unusable.
    """
    _require_interface(settings.slurm.interface)
    folder = (settings.slurm.folder or default_folder()).expanduser().resolve()
    writable_folder(folder / "logs", "cluster.slurm.folder")
    given = security_of(settings)
    keys = made_for_a_run(folder) if given is None else nullcontext(given)
    with keys as security, dask.config.set({**PATIENCE, **NOTHING_BY_HTTP}), warnings_alone():
        jobs = _jobs(settings.slurm, folder, security)
        try:
            _require_accepted(str(jobs.job_script()))
            jobs.adapt(minimum_jobs=settings.slurm.minimum_jobs, maximum_jobs=settings.slurm.maximum_jobs)
            yield jobs.scheduler_address, security
        finally:
            jobs.close()


def queue_state() -> str:
    """Return the states of the user's SLURM jobs, with the reasons of waiting ones, in one line."""
    asked = ["squeue", "--me", "--noheader", "--format=%T %r"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no answer ({type(error).__name__})"
    if answer.returncode != 0:
        return f"no answer ({' '.join(answer.stderr.split())})"
    return "; ".join(sorted(set(answer.stdout.split("\n")) - {""})) or "no job in the queue"


def _jobs(slurm: SlurmSettings, folder: Path, security: Security) -> "SLURMCluster":
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise missing_extra("dask-jobqueue", "slurm", "slurm", "cluster.kind") from error
    return SLURMCluster(
        queue=slurm.queue,
        account=slurm.account,
        cores=slurm.cores,
        processes=slurm.cores,
        memory=f"{slurm.memory_gib}GiB",
        walltime=slurm.walltime,
        job_name="nightstride",
        job_extra_directives=list(slurm.directives),
        job_script_prologue=[*exports(), "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'", *slurm.prologue],
        log_directory=str(folder / "logs"),
        python=sys.executable,
        interface=slurm.interface,
        scheduler_options={"dashboard_address": "127.0.0.1:0", "dashboard": False},
        worker_extra_args=["--dashboard-address", "127.0.0.1:0"],
        security=security,
    )


def default_folder() -> Path:
    """Return a folder in the user's home, which most sites share between nodes."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "nightstride" / "slurm"


def _require_interface(name: str | None) -> None:
    try:
        if name is not None:
            get_ip_interface(name)
    except ValueError as error:
        remedy = "name one that this machine and the nodes have, or leave it out for the host's own."
        raise Misconfigured("slurm", "cluster.slurm.interface", f"{error}.", remedy) from error


def _require_accepted(script: str) -> None:
    """Ask SLURM whether it would accept a job: a later refusal would only show in a log."""
    try:
        answer = subprocess.run(
            ["sbatch", "--test-only"], input=script, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Misconfigured(
            "slurm", "cluster.kind", f"'slurm' cannot run sbatch: {error}.", "run where jobs can be submitted."
        ) from error
    if answer.returncode != 0:
        raise Misconfigured(
            "slurm",
            "cluster.slurm",
            f"sbatch refuses the job: {' '.join(answer.stderr.split())}.",
            "correct queue, account, cores, memory_gib, walltime or directives.",
        )
