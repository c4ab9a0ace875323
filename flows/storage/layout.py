"""Paths in an output folder, and checks that a folder is one."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.patch import PatchKey

P = TypeVar("P", bound=Path)
"""Local path, or path in a bucket."""

PARTS = ("ledger", "catalogs", "quarantine")
"""Folders of which at least one exists once any exposure has been processed."""

RELEASE = "release.json"
"""File of a data release, whose folder is no longer changed: see `flows.results.release`."""


def is_release(out: Path) -> bool:
    """Return whether a folder is a data release."""
    return (out / RELEASE).is_file()


def refuse_release(out: Path) -> None:
    """Raise `Misconfigured` (``frozen``) if a folder is a data release."""
    if is_release(out):
        raise Misconfigured("frozen", str(out), "is a data release: nothing in it changes any more.", "name an --out.")


def is_output(out: Path) -> bool:
    """Return whether a folder contains results of a run."""
    return any((out / part).is_dir() for part in PARTS)


def require_output(out: Path) -> None:
    """Raise unless a folder is the output folder of a run.

    Raises
    ------
    Misconfigured
        It does not exist, or contains nothing of a run (``no_output``).
    """
    if is_output(out):
        return
    problem = "is not an output folder: it has neither ledger/ nor catalogs/ nor quarantine/."
    if not out.is_dir():
        what = "it is a file" if out.is_file() else "there is no folder of this name"
        problem = f"is not an output folder: {what}."
    raise Misconfigured("no_output", str(out), problem, "name the --out of a run.")


def other_version(where: Path | str, found: int, known: int) -> Misconfigured:
    """Return the error for a file written by another version that cannot be made again from the sources."""
    return Misconfigured(
        "other_version",
        str(where),
        f"has schema version {found}, this nightstride reads version {known}.",
        "use the version of nightstride that wrote it, or another --out.",
    )


def catalogs_folder(out: P) -> P:
    """Return the folder of all published datasets."""
    return out / "catalogs"


def tiles_folder(out: P) -> P:
    """Return the folder of the stored pixels of all nights."""
    return out / "tiles"


def ledger_folder(out: P) -> P:
    """Return the folder of the ledger."""
    return out / "ledger"


def reports_folder(out: P) -> P:
    """Return the folder of the pages of nights and of reports to others."""
    return out / "reports"


def page_path(out: P, night: str) -> P:
    """Return the path of the page of a night."""
    return reports_folder(out) / night / "index.html"


def staging_folder(out: P) -> P:
    """Return the folder for files being written."""
    return out / "staging"


def dataset_folder(out: Path, name: str, night: str) -> Path:
    """Return the folder of a dataset's files of a night."""
    return catalogs_folder(out) / name / f"night={night}"


def patch_path(out: Path, name: str, key: PatchKey, suffix: str) -> Path:
    """Return the path of a patch's file or group of a dataset, as in HATS catalogues."""
    pixel = f"Dir={key.pixel // 10_000 * 10_000}/Npix={key.pixel}{suffix}"
    return dataset_folder(out, name, key.night) / "dataset" / f"Norder={key.order}" / pixel


def patch_paths(out: Path, night: str) -> Iterator[Path]:
    """Yield the paths of everything published for the patches of a night: files, and folders of arrays."""
    for folder in patch_folders(out, night):
        yield from folder.glob("Norder=*/Dir=*/Npix=*")


def patch_folders(out: Path, night: str) -> list[Path]:
    """Return the folders with files of a night's patches, one per dataset, sorted."""
    found = (folder / "dataset" for folder in out.glob(f"catalogs/*/night={night}"))
    return sorted(folder for folder in found if folder.is_dir())


def tile_path(out: Path, key: ExposureKey) -> Path:
    """Return the path of the stored pixels of an exposure."""
    return tiles_folder(out) / key.night / f"{key.name}.zarr"


def outbox_path(out: Path) -> Path:
    """Return the path of the outbox: alerts sent and to be sent, and dead letters."""
    return out / "alerts" / "outbox.sqlite"


def submissions_folder(out: Path, night: str) -> Path:
    """Return the folder of a night's submissions: records, with the reports."""
    return reports_folder(out) / "ades" / night


def verdict_log(out: Path) -> Path:
    """Return the path of the log of people's verdicts on detections."""
    return out / "vetting" / "verdicts.jsonl"
