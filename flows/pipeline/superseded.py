"""Records whose source is now another exposure, or none."""

from collections.abc import Collection

from flows.storage.ledger import Ledger
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord

Name = tuple[str, int, int]
"""Night, visit and detector: what tells an exposure from the others."""


def name_tuple(key: ExposureKey) -> Name:
    """Return what identifies an exposure."""
    return key.night, key.visit, key.detector


class SourceIndex:
    """Index of the ledger's exposures by source.

    All records are read once, and little is kept of them: a stream asks every few seconds.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._of: dict[str, set[Name]] = {}
        for record in ledger.records():
            self.add(record.source_uri, record.key)

    def add(self, source_uri: str, key: ExposureKey) -> None:
        """Add an exposure that was recorded since."""
        self._of.setdefault(source_uri, set()).add(name_tuple(key))

    def records(self, source_uri: str) -> list[ExposureRecord]:
        """Return the records that are from a source now, by night, visit and detector."""
        keys = [
            ExposureKey(night=night, visit=visit, detector=detector)
            for night, visit, detector in sorted(self._of.get(source_uri, ()))
        ]
        found = [self._ledger.get(key) for key in keys]
        return [record for record in found if record is not None and record.source_uri == source_uri]


class Superseded:
    """Search for records whose source is now another exposure, or none.

    Parameters
    ----------
    index
        Of the ledger.
    claimed
        Exposures that another source stands for, whatever the outcome of the source in their record.
    """

    def __init__(self, index: SourceIndex, claimed: Collection[Name]) -> None:
        self._index, self._claimed = index, claimed

    def by(self, source_uri: str, key: ExposureKey | None) -> tuple[ExposureRecord, ...]:
        """Return the records that came from a source, other than that of the exposure which it holds now."""
        left_out = {*self._claimed, *(() if key is None else (name_tuple(key),))}
        return tuple(one for one in self._index.records(source_uri) if name_tuple(one) not in left_out)
