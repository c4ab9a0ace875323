"""Why an exposure has to be done, or done again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.adapters.sources import Source
from flows.lineage import trace, verdict_digest
from flows.up_to_date import is_whole
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from schemas.stage import Stage


@dataclass(frozen=True)
class Redo:
    """Why an exposure is to be done: a code for machines, a text for people."""

    code: Literal["new", "failed", "input", "outdated", "damaged"]
    text: str


NEW = Redo("new", "not in the ledger yet")
"""Of an exposure that was never done."""


def outdated(
    source: Source,
    sha256: str | None,
    record: ExposureRecord | None,
    pipeline: Sequence[Stage],
    models: Mapping[str, str],
    settings: Settings,
) -> Redo | None:
    """Compare an exposure with its record by digests alone: no published file is looked at.

    Parameters
    ----------
    source, sha256
        The exposure; None if the bytes of its files are not known to be those of the last run.
    record
        What the ledger holds of it.
    pipeline, models, settings
        What it would be done with: stages, digests of the models, settings.

    Returns
    -------
    Redo or None
        None if what the record says is what would be made now.
    """
    if record is None:
        return NEW
    if record.status == "failed":
        return Redo("failed", f"given up on before: {record.reason}")
    if sha256 is None or record.source_sha256 != sha256:
        return Redo("input", "its files have other bytes than those that were searched")
    lineage = trace(source, sha256, pipeline, models, settings)
    if record.status != "done":
        if record.digest == verdict_digest(lineage.final, settings):
            return None
        return Redo("outdated", "put in quarantine with other settings, models or stages")
    if record.digest == lineage.final:
        return None
    stale = [name for name, entry in record.datasets.items() if entry.digest != lineage.datasets.get(name)]
    return Redo("outdated", f"settings, models or stages changed: {', '.join(stale) or 'all'} to be made again")


def damaged(record: ExposureRecord, out: Path) -> Redo | None:
    """Compare the published files of an exposure with its record; None if all are there and whole."""
    if record.status != "done":
        return None
    broken = [entry.path for entry in record.datasets.values() if not is_whole(out / entry.path, entry.sha256)]
    return Redo("damaged", f"missing or changed since it was published: {', '.join(broken)}") if broken else None
