"""Command `nightstride doctor`: whether this machine is fit to run. One function per check, each with a remedy."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import psutil
import typer
from packaging.version import Version

from flows.cli.command import console
from flows.cli.options import AsJson, Config

if TYPE_CHECKING:
    from schemas.settings import Settings

Verdict = Literal["pass", "warn", "fail"]
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """Line of the report; ``remedy`` is empty if the verdict is pass."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def examine(folder: Path, config: Path | None = None) -> tuple[Finding, ...]:
    """Check versions, imports, cores, memory, GPU, threads, write access, space and certificates.

    Parameters
    ----------
    folder
        Folder that would receive output.
    config
        Settings file that names the certificates; None: the default one.
    """
    return (
        check_python(),
        *check_versions(),
        *check_imports(Path(__file__).resolve().parents[2]),
        check_cores(os.cpu_count() or 1),
        check_memory(psutil.virtual_memory().available / GIB, os.cpu_count() or 1),
        check_gpu(),
        *check_threads(dict(os.environ), os.cpu_count() or 1),
        check_writable("output folder", folder),
        check_writable("temporary folder", Path(tempfile.gettempdir())),
        check_disk(folder),
        check_files(folder),
        *_certificates(config),
    )


def _certificates(config: Path | None) -> Iterator[Finding]:
    from flows.runtime.settings import load_settings
    from schemas.errors import Misconfigured

    try:
        yield from check_certificates(load_settings(config), datetime.now(UTC))
    except Misconfigured as error:
        yield Finding("settings", "fail", f"{error.where}: {error.problem}", error.remedy)


def check_python() -> Finding:
    """Check that Python is 3.11 to 3.13."""
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return Finding("python", "pass", found)
    return Finding("python", "fail", found, "use Python 3.11, 3.12 or 3.13.")


def check_versions() -> Iterator[Finding]:
    """Check required packages, and pins without which Prefect fails silently."""
    for name in ("nightstride", "numpy", "numba", "torch", "astropy", "photutils", "zarr", "dask", "prefect"):
        try:
            yield Finding(name, "pass", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(
                name, "fail", "not installed", "run `make setup`, or pip install with deploy/constraints.txt."
            )
    yield _below("fastapi", "0.151", "Prefect's server fails to start with later ones")
    yield _below("sqlalchemy", "2.1", "Prefect's scheduler schedules nothing with later ones")


def _below(name: str, limit: str, why: str) -> Finding:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "fail", "not installed", "run `make setup`.")
    if Version(found) < Version(limit):
        return Finding(name, "pass", found)
    return Finding(name, "fail", found, f"pip install '{name}<{limit}': {why}.")


def check_imports(root: Path) -> Iterator[Finding]:
    """Check that our top-level packages are ours: PyPI has another one named ``kernels``."""
    for name in ("schemas", "kernels", "stages", "flows"):
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin) if spec and spec.origin else None
        if origin and origin.resolve() == root / name / "__init__.py":
            yield Finding(f"import {name}", "pass", str(origin))
        else:
            remedy = f"pip uninstall {name}: another package of that name hides ours."
            yield Finding(f"import {name}", "fail", str(origin), remedy)


def check_cores(cores: int) -> Finding:
    """Check that there are two cores: each runs one worker process."""
    if cores >= 2:
        return Finding("cores", "pass", str(cores))
    return Finding("cores", "warn", str(cores), "expect about 15 s for a quadrant; use a machine with more cores.")


def check_memory(available_gib: float, cores: int) -> Finding:
    """Check that there are 1.5 GiB of memory per worker, and 1.5 GiB for the rest."""
    needed = 1.5 * (cores + 1)
    found = f"{available_gib:.1f} GiB available, {needed:.1f} GiB needed for {cores} workers"
    if available_gib >= needed:
        return Finding("memory", "pass", found)
    fit = max(int(available_gib / 1.5) - 1, 0)
    if fit:
        return Finding("memory", "warn", found, f"run with --workers {fit}.")
    return Finding("memory", "fail", found, "free memory, or use a machine with at least 3 GiB.")


def check_gpu() -> Finding:
    """Report the GPU; none is required."""
    try:
        import torch
    except ImportError:
        return Finding("gpu", "warn", "torch cannot be imported", "run `make setup`.")
    if torch.cuda.is_available():
        return Finding("gpu", "pass", torch.cuda.get_device_name(0))
    return Finding("gpu", "pass", "none: the search runs on the processor")


def check_threads(environment: dict[str, str], cores: int) -> Iterator[Finding]:
    """Check thread variables set by the user; workers have one thread each regardless of them."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        value = environment.get(name)
        if value is None:
            yield Finding(name, "pass", "not set")
        elif value.isdigit() and 1 <= int(value) <= cores:
            yield Finding(name, "pass", value)
        else:
            yield Finding(name, "warn", value, f"unset it, or set it between 1 and {cores}.")


def _nearest(folder: Path) -> Path:
    """Return a folder, or the nearest parent that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def check_writable(name: str, folder: Path) -> Finding:
    """Create a file in the folder, or in its nearest parent that exists."""
    place = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return Finding(name, "pass", f"{place} is writable")
    except OSError as error:
        return Finding(name, "fail", f"{place}: {error.strerror}", "choose a folder that you may write to.")


def check_disk(folder: Path) -> Finding:
    """Check for the disk space that the tiles of a small night take: 50 MB per exposure."""
    place = _nearest(folder)
    free = shutil.disk_usage(place).free / GIB
    if free >= 5:
        return Finding("disk", "pass", f"{free:.0f} GiB free")
    return Finding("disk", "warn", f"{free:.1f} GiB free", "an exposure needs about 0.05 GiB: free some space.")


def check_files(folder: Path) -> Finding:
    """Check that the file system can hold the files of a small night: a dozen per exposure."""
    place = _nearest(folder)
    found = os.statvfs(place)
    if not found.f_files:
        return Finding("files", "pass", "the file system counts none")
    if found.f_favail >= 100_000:
        return Finding("files", "pass", f"{found.f_favail:,} more fit")
    return Finding("files", "warn", f"{found.f_favail:,} more fit", "an exposure has a dozen: remove some, or prune.")


def check_certificates(settings: "Settings", now: datetime) -> Iterator[Finding]:
    """Check how long the certificates named in the settings remain valid."""
    from flows.runtime.certificates import SOON, days_left

    cluster, observe = settings.cluster, settings.observe
    named = {
        "cluster.tls_ca": cluster.tls_ca, "cluster.tls_cert": cluster.tls_cert,
        "observe.metrics_cert": observe.metrics_cert, "observe.metrics_ca": observe.metrics_ca,
    }  # fmt: skip
    for name, path in named.items():
        if path is None:
            continue
        try:
            days = days_left(path, now)
        except (OSError, ValueError) as error:
            yield Finding(name, "fail", f"{path}: {error}", "name a certificate in PEM form that this user may read.")
            continue
        verdict: Verdict = "fail" if days < 0 else "warn" if days < SOON.days else "pass"
        said = f"{path} ended {-days:.0f} days ago" if days < 0 else f"{path} ends in {days:.0f} days"
        yield Finding(name, verdict, said, "" if verdict == "pass" else "have its authority renew it.")


def doctor(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where output would go.")] = Path(),
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Check versions, imports, cores, memory, GPU, threads, write access, space and the certificates of the settings.

    Exit code 1: something fails.
    """
    from rich.markup import escape

    findings = examine(out, config)
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        shown = console()
        colour = {"pass": "green", "warn": "yellow", "fail": "red"}
        for finding in findings:
            stop = "" if finding.found.endswith((".", "?", "!")) else "."
            remedy = f"{stop} To fix, {finding.remedy}" if finding.remedy else ""
            verdict = f"[{colour[finding.verdict]}]{finding.verdict}[/]"
            words = f"{verdict}  {finding.name:<22}{escape(finding.found + remedy)}"
            shown.print(words, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if any(finding.verdict == "fail" for finding in findings) else 0)
