"""Verification of the store of the association: by itself, and against the ledger."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flows.results.verify import Problem, Verification
from flows.storage.association_store import association_as_it_is, digest_of
from flows.storage.ledger import Ledger
from flows.storage.static_objects import StaticObjects, objects_digest
from schemas.dia_source import DIA_SOURCE
from schemas.errors import NightstrideError
from schemas.ledger import PatchRecord
from schemas.night_range import NightRange
from schemas.objects import OBJECT
from schemas.settings import AssociationSettings

if TYPE_CHECKING:
    from flows.storage.association_store import AssociationStore

_AGAIN = "make it again: `nightstride associate OUT --rebuild`."


def with_store_checked(
    out: Path, settings: AssociationSettings, found: Verification, nights: NightRange
) -> Verification:
    """Add to a verification what is wrong with the store of the association, where there is one; nothing is changed.

    Nights whose records have changed since they were associated are left to the next run, and so is a store of an
    earlier version.

    Parameters
    ----------
    out, settings
        Output folder, and where its association is.
    found
        Of all else.
    nights
        Which of them; of every night also the store by itself.
    """
    try:
        with association_as_it_is(out, settings) as store:
            problems = () if store is None else tuple(_problems(out, store, nights))
    except NightstrideError as error:
        problems = (Problem(error.code, error.where, error.problem, error.remedy),)
    return replace(found, problems=(*found.problems, *problems))


def _problems(out: Path, store: "AssociationStore", nights: NightRange) -> Iterator[Problem]:
    if not nights and (said := [*store.contradictions(), *StaticObjects(store).contradictions()]):
        yield Problem("damaged_association", store.where, f"contradicts itself: {'; '.join(said)}.", _AGAIN)
    ledger, known, static = Ledger(out), store.nights(), StaticObjects(store).nights()
    for label in (one for one in sorted(known) if one in nights):
        stamp = ledger.stamp(label)
        if not stamp or known[label][0] != stamp:
            continue
        if _static_differs(ledger, static.get(label), label):
            named = f"objects of night {label} on the science images are not associated as they are published"
            yield Problem("not_as_recorded", store.where, f"{named}, though it says to know the night.", _AGAIN)
        missing, gone = _differences(ledger, store, label)
        for which, what in ((missing, "are published and not associated"), (gone, "are associated and not published")):
            if which:
                named = f"{len(which)} exposures of night {label} {what}: {which[0]} ..."
                yield Problem("not_as_recorded", store.where, f"{named}, though it says to know the night.", _AGAIN)


def _static_differs(ledger: Ledger, known: tuple[str, str] | None, night: str) -> bool:
    """Return whether the objects of the science images of a night are published and not associated so, or not at all.

    That cannot be told where a record of the night cannot be read.
    """
    records = [*ledger.patches(night)]
    if any(isinstance(one, NightstrideError) for one in records):
        return False
    own = [one for one in records if isinstance(one, PatchRecord) and OBJECT.name in one.datasets]
    return (objects_digest(own) if own else None) != (known[0] if known else None)


def _differences(ledger: Ledger, store: "AssociationStore", night: str) -> tuple[list[str], list[str]]:
    """Return the exposures of a night that are published and not associated so, and the other way round."""
    associated, missing = store.visits(night), list[str]()
    for record in ledger.entries(night):
        if isinstance(record, NightstrideError) or record.status != "done" or DIA_SOURCE.name not in record.datasets:
            continue
        made_from = digest_of(record)
        if associated.pop(record.key, None) != made_from and store.refusal(record.key, made_from) is None:
            missing.append(record.name)
    return missing, sorted(key.name for key in associated)
