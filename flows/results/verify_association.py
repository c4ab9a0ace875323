"""Verification of the store of the association, by itself and against the ledger."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flows.results.verify import FormerObject, Problem, Verification
from flows.runtime.words import counted
from flows.storage.association_store import association_as_it_is, digest_of
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import dataset_folder
from flows.storage.ledger import Ledger
from flows.storage.static_objects import StaticObjects, objects_digest
from schemas.dia_source import DIA_SOURCE, exposure_of
from schemas.errors import NightstrideError
from schemas.exposure import ExposureKey
from schemas.forced import FORCED_SOURCE
from schemas.ledger import PatchRecord
from schemas.night_range import NightRange
from schemas.objects import OBJECT
from schemas.settings import AssociationSettings

if TYPE_CHECKING:
    from flows.storage.association_store import AssociationStore

_AGAIN = "make it again: `nightstride associate OUT --rebuild`."

_ID = re.compile("[1-9][0-9]{0,18}")  # the form of ids: other names come from a list

_LISTED = "is a detection, by which no object is named: in a list of targets, or before objects were associated anew"


def with_store_checked(
    out: Path, settings: AssociationSettings, found: Verification, nights: NightRange
) -> Verification:
    """Add the problems of the store of the association, if there is one, to a verification; nothing is changed.

    Nights whose records have changed since their association are left to the next run, as is a store of an earlier
    version. For forced photometry with ids that no object has now, the fate of these ids is reported.

    Parameters
    ----------
    out, settings
        Output folder, and settings with the location of its association.
    found
        Verification of everything else.
    nights
        Range of nights; for every night the store itself is also checked.
    """
    try:
        with association_as_it_is(out, settings) as store:
            if store is None:
                return found
            former, unknown = _of_no_object(out, store, nights)
            problems = (*_problems(out, store, nights), *unknown)
            notes = tuple(str(one) for one in store.setting_changes() if one.night in nights)
    except NightstrideError as error:
        problem = Problem(error.code, error.where, error.problem, error.remedy)
        return replace(found, problems=(*found.problems, problem))
    return replace(found, problems=(*found.problems, *problems), former=former, notes=notes)


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
    """Return whether the association of a night's objects on science images is missing or differs from the published.

    The result is False if a record of the night cannot be read.
    """
    records = [*ledger.patches(night)]
    if any(isinstance(one, NightstrideError) for one in records):
        return False
    own = [one for one in records if isinstance(one, PatchRecord) and OBJECT.name in one.datasets]
    return (objects_digest(own) if own else None) != (known[0] if known else None)


def _differences(ledger: Ledger, store: "AssociationStore", night: str) -> tuple[list[str], list[str]]:
    """Return the exposures of a night published but not associated as published, and those only associated."""
    associated, missing = store.visits(night), list[str]()
    for record in ledger.entries(night):
        if isinstance(record, NightstrideError) or record.status != "done" or DIA_SOURCE.name not in record.datasets:
            continue
        made_from = digest_of(record)
        if associated.pop(record.key, None) != made_from and store.refusal(record.key, made_from) is None:
            missing.append(record.name)
    return missing, sorted(key.name for key in associated)


def _of_no_object(
    out: Path, store: "AssociationStore", nights: NightRange
) -> tuple[tuple[FormerObject, ...], tuple[Problem, ...]]:
    """Return the ids in forced photometry that no object has now, and the nights with ids that never existed."""
    ledger, rows = Ledger(out), dict[int, dict[str, int]]()
    for label in (one for one in ledger.nights() if one in nights):
        names = _forced_names(out, ledger, label)
        known = store.detections_of(names)
        for identity in (one for one in names if not known.get(one)):
            rows.setdefault(identity, {})[label] = names[identity]
    why = store.endings(rows)
    listed, unknown = _named_by_exposures(out, ledger, store, rows.keys() - why.keys())
    why |= dict.fromkeys(listed, _LISTED)
    former = (FormerObject(one, sum(rows[one].values()), tuple(rows[one]), why[one]) for one in sorted(why))
    by_night = dict[str, dict[int, int]]()
    for one in unknown:
        for label, count in rows[one].items():
            by_night.setdefault(label, {})[one] = count
    return tuple(former), tuple(_unknown(out, label, by_night[label]) for label in sorted(by_night))


def _forced_names(out: Path, ledger: Ledger, night: str) -> Counter[int]:
    """Return the names in the forced photometry of a night that may be ids, with their numbers of rows."""
    found = Counter[int]()
    for record in ledger.entries(night):
        if isinstance(record, NightstrideError) or FORCED_SOURCE.name not in record.datasets:
            continue
        with suppress(NightstrideError):  # reported as a problem of the file
            names = CatalogStore(out).read(FORCED_SOURCE, record.key)["targetName"].to_pylist()
            numbers = (int(one) for one in names if _ID.fullmatch(one))
            found.update(one for one in numbers if one < 1 << 63)
    return found


def _named_by_exposures(
    out: Path, ledger: Ledger, store: "AssociationStore", ids: Collection[int]
) -> tuple[set[int], list[int]]:
    """Return which ids without an object belong to detections, and which to exposures without such detections.

    All other ids are names from a list, or belong to exposures that the next run will associate.
    """
    of_exposure = dict[tuple[int, int], list[int]]()
    for one in sorted(ids):
        of_exposure.setdefault(exposure_of(one), []).append(one)
    listed, unknown = set[int](), list[int]()
    for label in ledger.nights() if ids else ():
        for brief in ledger.briefs(label):
            named = of_exposure.get((brief.visit, brief.detector), [])
            if not named or brief.status != "done":
                continue
            record = ledger.get(ExposureKey(night=label, visit=brief.visit, detector=brief.detector))
            if record is None or DIA_SOURCE.name not in record.datasets:
                continue
            with suppress(NightstrideError):
                there = {*CatalogStore(out).read(DIA_SOURCE, record.key)["diaSourceId"].to_pylist()}
                listed |= there.intersection(named)
                if store.made_from(record.key) == digest_of(record):
                    unknown += [one for one in named if one not in there]
    return listed, sorted(unknown)


def _unknown(out: Path, night: str, rows: Mapping[int, int]) -> Problem:
    return Problem(
        "unknown_object",
        str(dataset_folder(out, FORCED_SOURCE.name, night)),
        f"holds {counted(sum(rows.values()), 'row')} of diaObjectIds that no object has, nor had: {min(rows)} ...",
        "measure the objects again: `nightstride forced OUT --dia-objects`; if a list gave these names, other ones.",
    )
