"""Search for records whose source now holds another exposure, or none."""

from collections.abc import Collection
from functools import cache

from flows.storage.ledger import Ledger
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord

Name = tuple[str, int, int]
"""Night, visit and detector, which identify an exposure."""


def name_tuple(key: ExposureKey) -> Name:
    """Return the tuple that identifies an exposure."""
    return key.night, key.visit, key.detector


class Superseded:
    """Search for records whose source now holds another exposure, or none.

    Parameters
    ----------
    ledger
        Ledger with the records.
    claimed
        Exposures with another chosen source, whatever the outcome of the source in their record.
    extension
        FITS extension in the settings, if any. Results of other extensions of the same file are kept, since they are
        other detectors of a mosaic.
    """

    def __init__(self, ledger: Ledger, claimed: Collection[Name], extension: str | int | None = None) -> None:
        self._ledger, self._claimed, self._extension = ledger, claimed, extension
        self._searched = cache(self._extension_of)

    def by(self, source_uri: str, key: ExposureKey | None) -> tuple[ExposureRecord, ...]:
        """Return the records that came from a source, except that of the exposure it holds now."""
        own = None if key is None else name_tuple(key)
        names = ((one, name_tuple(one)) for one in self._ledger.from_source(source_uri))
        other = [one for one, name in names if name != own and name not in self._claimed]
        return tuple(one for one in other if self._searched(one.provenance) in (None, self._extension))

    def _extension_of(self, provenance: str | None) -> str | int | None:
        """Return the extension in which an exposure was searched; None if its settings named none or are not known."""
        if self._extension is None or (made := self._ledger.provenance(provenance)) is None:
            return None
        found = (made.settings.get("fits") or {}).get("extension")
        return found if isinstance(found, str | int) else None
