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


class Superseded:
    """Search for records whose source is now another exposure, or none.

    Parameters
    ----------
    ledger
        Where they are.
    claimed
        Exposures that another source stands for, whatever the outcome of the source in their record.
    """

    def __init__(self, ledger: Ledger, claimed: Collection[Name]) -> None:
        self._ledger, self._claimed = ledger, claimed

    def by(self, source_uri: str, key: ExposureKey | None) -> tuple[ExposureRecord, ...]:
        """Return the records that came from a source, other than that of the exposure which it holds now."""
        own = None if key is None else name_tuple(key)
        names = ((one, name_tuple(one)) for one in self._ledger.from_source(source_uri))
        return tuple(one for one, name in names if name != own and name not in self._claimed)
