"""Paths below an output folder, and what is none of ours there."""

from pathlib import Path

from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey

PARTS = ("ledger", "catalogs", "quarantine")
"""One of these is there as soon as anything became of an exposure."""


def require_output(out: Path) -> None:
    """Raise unless a folder is the output folder of a run.

    Raises
    ------
    Misconfigured
        It is not there, or nothing of a run is in it (``no_output``).
    """
    if any((out / part).is_dir() for part in PARTS):
        return
    problem = "is no output folder: it has neither ledger/ nor catalogs/ nor quarantine/."
    if not out.is_dir():
        problem = "is no output folder: there is no folder of this name."
    raise Misconfigured("no_output", str(out), problem, "name the --out of a run.")


def other_version(where: Path | str, found: int, known: int) -> Misconfigured:
    """Return the error of a file that another version has written, and that cannot be made again from the sources."""
    return Misconfigured(
        "other_version",
        str(where),
        f"has schema version {found}, this nightstride reads version {known}.",
        "use the version of nightstride that wrote it, or another --out.",
    )


def tile_path(out: Path, key: ExposureKey) -> Path:
    """Return the path of the pixels of an exposure."""
    return out / "tiles" / key.night / f"{key.name}.zarr"
