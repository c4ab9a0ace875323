"""Association of the objects of the science images of a night with lasting ones, from what is published."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.pipeline.night_work import MARGIN
from flows.storage.digest import digest
from flows.storage.ledger import Ledger
from schemas.ledger import PatchRecord
from schemas.objects import OBJECT
from schemas.settings import AssociationSettings

if TYPE_CHECKING:
    from flows.storage.association_store import AssociationStore
    from flows.storage.static_links import PatchObjects

AROUND = OBJECT.name + MARGIN
"""Objects around a patch, of which it has a file, too."""


def bring_up_static(out: Path, store: "AssociationStore", night: str, settings: AssociationSettings) -> None:
    """Associate the objects of a night, if they have changed since they were.

    Parameters
    ----------
    out, store, night, settings
        Output folder, its store, which night, and how near objects of different nights have to be.

    Raises
    ------
    BadInput
        A catalogue of objects is damaged, or of another version.
    NightstrideError
        The store fails.
    """
    patches = (one for one in Ledger(out).patches(night) if isinstance(one, PatchRecord))
    records = [one for one in patches if OBJECT.name in one.datasets]
    known, made_from = store.static.nights().get(night), objects_digest(records)
    if not records:
        if known is not None:
            store.static.withdraw(night)
    elif known is None or known[0] != made_from:
        store.static.associate(night, made_from, _published(out, records), settings)


def objects_digest(records: Sequence[PatchRecord]) -> str:
    """Return the digest of the objects of a night, of its patches that have any."""
    return digest({one.name: one.datasets[OBJECT.name].sha256 for one in records})


def _published(out: Path, records: Sequence[PatchRecord]) -> Iterator["PatchObjects"]:
    from flows.nights.patch_stages import margin_of  # Arrow
    from flows.storage.catalog_store import CatalogStore
    from flows.storage.static_links import PatchObjects  # and SQLAlchemy

    tables = CatalogStore(out)
    for one in sorted(records, key=lambda record: record.name):
        around = one.datasets.get(AROUND)
        yield PatchObjects(
            tables.read_path(out / one.datasets[OBJECT.name].path, OBJECT),
            OBJECT.empty() if around is None else tables.read_path(out / around.path, margin_of(OBJECT)),
        )
