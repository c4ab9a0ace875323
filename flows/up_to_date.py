"""Which published files of an exposure are as they should be, and need not be made again."""

from collections.abc import Collection
from pathlib import Path

from flows.digest import file_digest, folder_digest
from flows.graph import OF_EXPOSURE, Graph, resolve
from flows.lineage import Lineage
from schemas.ledger import DatasetRecord, ExposureRecord
from stages import PIPELINE


def is_whole(path: Path, sha256: str) -> bool:
    """Tell whether a file, or a folder of files, is there with the bytes that were published."""
    try:
        return (folder_digest(path) if path.suffix == ".zarr" else file_digest(path)) == sha256
    except OSError:
        return False


def up_to_date(record: ExposureRecord | None, lineage: Lineage, out: Path) -> dict[str, DatasetRecord]:
    """Give the published files that were made from the same, and are whole.

    Parameters
    ----------
    record
        What the ledger holds of the exposure.
    lineage
        Digests of what is to come of it.
    out
        Output folder.
    """
    published = record.datasets.items() if record is not None else ()
    return {
        name: entry
        for name, entry in published
        if entry.digest == lineage.datasets.get(name) and is_whole(out / entry.path, entry.sha256)
    }


def remaining(planes: Collection[str], kept: Collection[str]) -> Graph:
    """Give the stages that have to run for what is published of an exposure.

    Parameters
    ----------
    planes
        Names of those that it brings.
    kept
        Published datasets that are up to date.
    """
    graph = resolve(PIPELINE, planes, OF_EXPOSURE)
    wanted = [stage.gives.name for stage in graph.results("exposure") if stage.gives.name not in kept]
    return Graph(graph.towards(wanted, kept), graph.not_run)
