"""Taking back what was published of an exposure that its file does not hold any more."""

from collections.abc import Collection, Iterable
from pathlib import Path

from flows.adapters.atomic import remove, writing
from flows.adapters.ledger import Ledger
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord

Name = tuple[str, int, int]
"""Night, visit and detector: what tells an exposure from the others."""


def name_tuple(key: ExposureKey) -> Name:
    """Give what tells an exposure from the others."""
    return key.night, key.visit, key.detector


class Superseded:
    """Finds records whose source is now another exposure, or none.

    Parameters
    ----------
    records
        All that is in the ledger.
    claimed
        Exposures that another source stands for, whatever becomes of the source in their record.
    """

    def __init__(self, records: Iterable[ExposureRecord], claimed: Collection[Name]) -> None:
        self._of: dict[str, list[ExposureRecord]] = {}
        for record in records:
            if name_tuple(record) not in claimed:
                self._of.setdefault(record.source_uri, []).append(record)

    def by(self, source_uri: str, key: ExposureKey | None) -> tuple[ExposureRecord, ...]:
        """Give the records that came from a source, other than that of the exposure which it holds now."""
        now = None if key is None else name_tuple(key)
        return tuple(record for record in self._of.get(source_uri, ()) if name_tuple(record) != now)


def withdraw(record: ExposureRecord, out: Path) -> None:
    """Remove an exposure's catalogues and tiles, and its record last, so that a kill in between leaves it to be found.

    Nothing is removed if the ledger by now has the exposure from another source.

    Raises
    ------
    Retryable, Misconfigured
        As in `flows.adapters.atomic.write_file`.
    """
    # Imported here: a rerun with nothing to withdraw should not pay for it.
    from flows.exposure_tasks import tile_path

    ledger = Ledger(out)
    now = ledger.get(record.key)
    if now is None or now.source_uri != record.source_uri:
        return
    with writing(ledger.path(record.key)):
        for dataset in now.datasets.values():
            remove(out / dataset.path)
        remove(tile_path(out, record.key))
        ledger.remove(record.key)
