"""Records whose source is now another exposure, or none."""

from collections.abc import Collection
from functools import cache

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
    extension
        Extension of files that is searched, if the settings name one. What another one of the same file gave stays:
        it is another detector of a mosaic.
    """

    def __init__(self, ledger: Ledger, claimed: Collection[Name], extension: str | int | None = None) -> None:
        self._ledger, self._claimed, self._extension = ledger, claimed, extension
        self._searched = cache(self._extension_of)

    def by(self, source_uri: str, key: ExposureKey | None) -> tuple[ExposureRecord, ...]:
        """Return the records that came from a source, other than that of the exposure which it holds now."""
        own = None if key is None else name_tuple(key)
        names = ((one, name_tuple(one)) for one in self._ledger.from_source(source_uri))
        other = [one for one, name in names if name != own and name not in self._claimed]
        return tuple(one for one in other if self._searched(one.provenance) in (None, self._extension))

    def _extension_of(self, provenance: str | None) -> str | int | None:
        """Return the extension that an exposure was searched in; None: its settings, if they are known, named none."""
        if self._extension is None or (made := self._ledger.provenance(provenance)) is None:
            return None
        found = (made.settings.get("fits") or {}).get("extension")
        return found if isinstance(found, str | int) else None
