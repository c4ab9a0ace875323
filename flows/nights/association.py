"""Association of new or changed published detections with objects, night by night, in order of time."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from flows.runtime.words import counted
from flows.storage.digest import digest
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BACKOFF_S, BadInput, Retryable
from schemas.exposure import ExposureKey
from schemas.known_object import SS_SOURCE
from schemas.ledger import ExposureRecord
from schemas.settings import AssociationSettings
from schemas.summary import Record, Trouble

if TYPE_CHECKING:
    from flows.storage.association_store import AssociationStore

CATCH_UP = 30
"""Earlier nights that a run associates besides its own; more are for the command, which takes its time."""


STORE = "association"
"""Subject of a failure that does not concern a single exposure."""


class AssociationSummary(Record):
    """Result of ``nightstride associate``, printed as the last line with ``--json``."""

    nights: Annotated[tuple[str, ...], Field(description="Nights with something new or changed.")] = ()
    exposures: Annotated[int, Field(ge=0, description="Exposures associated, for the first time or again.")] = 0
    known: Annotated[int, Field(ge=0, description="Their detections of objects that were there.")] = 0
    new: Annotated[int, Field(ge=0, description="Their detections that began an object.")] = 0
    left_out: Annotated[
        int, Field(ge=0, description="Their trails, detections of known objects, and those without a place.")
    ] = 0
    withdrawn: Annotated[int, Field(ge=0, description="Exposures that are not published any more.")] = 0
    static_known: Annotated[
        int, Field(ge=0, description="Objects of science images, night by night, that were there.")
    ] = 0
    static_new: Annotated[int, Field(ge=0, description="Objects of science images that began.")] = 0
    objects: Annotated[int, Field(ge=0, description="Objects at rest in the store.")] = 0
    sources: Annotated[int, Field(ge=0, description="Their detections.")] = 0
    published: Annotated[tuple[str, ...], Field(description="Nights whose catalogues were made by the command.")] = ()
    failed: Annotated[tuple[Trouble, ...], Field(description="What could not be associated or published.")] = ()
    warnings: Annotated[
        tuple[str, ...], Field(description="Settings that objects are matched with, that were others for earlier ones.")
    ] = ()

    @property
    def exit_code(self) -> int:
        """Return 1 if an association or a publication failed, else 0."""
        return int(bool(self.failed))


@dataclass(frozen=True)
class Association:
    """Result of the association, with the digests from which each night's catalogues of objects are made.

    Attributes
    ----------
    summary
        Counts.
    digests
        Night -> digest of its association and of earlier ones; None: the store could not be read.
    static
        The same for the objects of the science images; None for a night whose objects could not be associated.
    off
        Reason why the association is off; None: it is on.
    left
        Nights left to the command.
    changed
        Settings that were used for the first time, after others, to match objects; to be reported at once. The
        warnings of the summary include them whenever their nights are processed.
    """

    summary: AssociationSummary
    digests: Mapping[str, str] | None = None
    static: Mapping[str, str | None] | None = None
    off: str | None = None
    left: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def associate(
    out: Path, settings: AssociationSettings, nights: Collection[str] | None, *, others: int = CATCH_UP,
    rebuild: bool = False, tell: Callable[[str], object] = lambda _: None, retries: int = 0, visit: int | None = None,
) -> Association:  # fmt: skip
    """Bring the store up to date with the ledger; the caller must hold the lease of ``out``.

    Failures are not raised: the rest continues, and the next call catches up. An exposure that cannot be associated is
    tried by each call. Calls for its night report it; a call for other nights reports it only the first time.

    Parameters
    ----------
    out, settings
        Output folder, and settings of the association.
    nights
        Nights to associate; None: all.
    others
        Largest number of earlier nights to bring up to date too; if there are more, none is. Later nights never are,
        since an interrupted run in one of them must finish before its exposures are associated.
    rebuild
        Whether to delete everything first.
    tell
        Receives a line for each night.
    retries
        Attempts after the first if the database fails; after its restart the work continues where it stopped.
    visit
        Only this visit of the only night; the rest of the store is not reported, and the cost does not grow with the
        night. None: all visits.
    """
    from flows.storage.association_store import off_because  # SQLAlchemy is slow to import

    if (reason := off_because(out, settings)) is not None:
        return Association(AssociationSummary(), {}, {}, reason)
    work = _Work(out, settings, tell, nights)
    try:
        for attempt in range(retries):
            try:
                return work.done(others, rebuild, visit)
            except Retryable:
                sleep(BACKOFF_S * 2**attempt)
        return work.done(others, rebuild, visit)
    except Exception as error:  # the database is down or damaged, or there is a bug: everything else continues
        work.failed.append(Trouble.of(STORE, error))
        return Association(work.summary(), changed=tuple(work.changed))


def note_published(
    out: Path, settings: AssociationSettings, found: Association, nights: Collection[str]
) -> Association | None:
    """Associate the objects of nights whose patches were recorded since, and record that nothing else is new.

    Return the new association; None if there was none. ``found`` is the association before.
    """
    return associate(out, settings, nights, others=0) if nights and found.digests else None


def _due(
    ledger: Ledger, store: "AssociationStore", nights: Collection[str] | None, others: int
) -> tuple[list[str], tuple[str, ...]]:
    """Return the nights to process, in order, and those that are left to the command."""
    known, there = store.nights(), sorted({*ledger.nights(), *(nights or ())})
    stamps = {night: ledger.stamp(night) for night in there}
    due = [night for night in there if not stamps[night] or known.get(night, ("",))[0] != stamps[night]]
    if nights is None:
        return due, ()
    # Of a later night a part may be published, by a run that was cut off: the objects would be those of this part.
    earlier = [night for night in due if night not in nights and night < max(nights, default="")]
    # In a bucket a night may have no stamp for long: its changes are seen when it is in a run.
    rest = tuple(night for night in earlier if stamps[night] or night not in known)
    own = [night for night in due if night in nights]
    return (own, rest) if len(rest) > others else (sorted([*own, *rest]), ())


def _records(ledger: Ledger, night: str, visit: int | None) -> Iterator[ExposureRecord]:
    """Yield the records of a night, or only those of a visit."""
    if visit is None:
        yield from ledger.records(night)
        return
    for key in ledger.of_visit(night, visit):
        if (record := ledger.get(key)) is not None:
            yield record


def _cumulated(digests: Mapping[str, str]) -> dict[str, str]:
    """Return night -> digest of its own digest and those of all earlier nights."""
    found, before = dict[str, str](), ""
    for night, own in digests.items():
        found[night] = before = digest(before, night, own)
    return found


class _Work:
    """Nights that are brought up to date one after another, with the results."""

    def __init__(
        self,
        out: Path,
        settings: AssociationSettings,
        tell: Callable[[str], object],
        nights: Collection[str] | None,
    ) -> None:
        self._out, self._settings, self._tell, self._asked = out, settings, tell, nights
        self._refused, self._unusable = 0, set[str]()
        names = ("exposures", "known", "new", "left_out", "withdrawn", "static_known", "static_new")
        self._counts = dict.fromkeys(names, 0)
        self._nights: list[str] = []
        self._warnings: tuple[str, ...] = ()
        self.failed: list[Trouble] = []
        self.changed: list[str] = []

    def done(self, others: int, rebuild: bool, visit: int | None) -> Association:
        """Return the result for all nights that are due; parameters as in `associate`, errors as in `_bring_up`."""
        from flows.storage.association_store import opened_association

        with opened_association(self._out, self._settings, rebuild=rebuild) as store:
            try:
                found = self._all(store, others) if visit is None else self._of_visit(store, visit)
            finally:
                self.changed += map(str, store.changed)
        return replace(found, changed=tuple(self.changed))

    def _of_visit(self, store: "AssociationStore", visit: int) -> Association:
        """Return the result for a visit."""
        for night in self._asked or ():
            self._associate_due(store, night, visit)
        return Association(self.summary())

    def _all(self, store: "AssociationStore", others: int) -> Association:
        """Return the result for all nights that are due."""
        from flows.storage.static_objects import StaticObjects

        due, left = _due(Ledger(self._out), store, self._asked, others)
        for night in due:
            self._bring_up(store, night)
        objects, sources = store.counts()
        looked_at = None if self._asked is None else {*self._asked, *self._nights}
        changes = store.setting_changes()
        self._warnings = tuple(str(one) for one in changes if looked_at is None or one.night in looked_at)
        summary = self.summary().model_copy(update={"objects": objects, "sources": sources})
        nights, static = store.nights(), StaticObjects(store).nights()
        digests = _cumulated({night: own for night, (_, own) in nights.items()})
        of_static = _cumulated({night: static.get(night, ("", ""))[1] for night in nights})
        told = {night: None if night in self._unusable else own for night, own in of_static.items()}
        return Association(summary, digests, told, left=left)

    def _bring_up(self, store: "AssociationStore", night: str) -> None:
        """Associate the exposures of a night that are due, and record the night as known; raise if the store fails."""
        stamp, refused = Ledger(self._out).stamp(night), self._refused
        due = self._associate_due(store, night, None)
        objects = self._bring_up_static(store, night)
        # A night with missing parts gets no stamp, so that it is processed again.
        store.settle(night, stamp if self._refused == refused else "")
        self._nights.append(night)
        said = ([counted(due, "exposure")] if due else []) + ([counted(objects, "object")] if objects else [])
        if said:
            self._tell(f"Associated night {night}: {', '.join(said)}.")

    def _bring_up_static(self, store: "AssociationStore", night: str) -> int:
        """Associate the objects of the science images of a night, if they are due; return their number."""
        from flows.storage.static_objects import bring_up_static

        try:
            known, new = bring_up_static(self._out, store, night, self._settings)
        except BadInput as error:
            self._refused += 1
            self._unusable.add(night)
            if self._asked is None or night in self._asked:
                self.failed.append(Trouble.of(f"night {night}", error))
            return 0
        self._counts["static_known"] += known
        self._counts["static_new"] += new
        return known + new

    def _associate_due(self, store: "AssociationStore", night: str, visit: int | None) -> int:
        """Associate the exposures of a night, or of a visit, that are new or have changed; return how many could be.

        They are processed by time; exposures that are no longer published are removed.

        Raises
        ------
        NightstrideError
            The store fails.
        """
        from flows.storage.association_store import digest_of

        ledger, before = Ledger(self._out), store.visits(night, visit)
        gone, due = set(before), list[tuple[str, int, int, ExposureKey]]()  # not the records, of a night of thousands
        for one in _records(ledger, night, visit):
            if one.status != "done" or DIA_SOURCE.name not in one.datasets:
                continue
            gone.discard(one.key)
            if before.get(one.key) != digest_of(one):
                due.append((one.shutter_closed_at or "", one.visit, one.detector, one.key))
        for key in gone:
            store.withdraw(key)
            self._counts["withdrawn"] += 1
        done = self._counts["exposures"]
        for *_, key in sorted(due, key=lambda one: one[:3]):
            if (record := ledger.get(key)) is not None:
                self._associate(store, record)
        return self._counts["exposures"] - done

    def _associate(self, store: "AssociationStore", record: ExposureRecord) -> None:
        import pyarrow.compute as pc

        from flows.storage.association_store import digest_of
        from flows.storage.catalog_store import CatalogStore  # and Arrow

        try:
            self._require_own_ids(store, record)
            catalogues, of_known = CatalogStore(self._out), 0
            table = catalogues.read(DIA_SOURCE, record.key)
            if SS_SOURCE.name in record.datasets:
                known = catalogues.read(SS_SOURCE, record.key)["diaSourceId"]
                of_known = len(known)
                table = table.filter(pc.invert(pc.is_in(table["diaSourceId"], value_set=known)))
            made = store.associate(record.key, digest_of(record), table, self._settings)
        except BadInput as error:
            self._refused += 1
            known = store.refusal(record.key, digest_of(record))
            if known is None or self._asked is None or record.night in self._asked:
                self.failed.append(Trouble.of(f"exposure {record.name} of night {record.night}", error))
            if str(known) != str(error):
                store.refuse(record.key, digest_of(record), error)
            return
        for name, count in {"exposures": 1, **made._asdict()}.items():
            self._counts[name] += count
        self._counts["left_out"] += of_known

    def _require_own_ids(self, store: "AssociationStore", record: ExposureRecord) -> None:
        """Raise if the visit of an exposure is published in another night, too: their detections have the same ids."""
        for key in store.same_ids(record.key):
            other = Ledger(self._out).get(key)
            if other is not None and other.status == "done":
                raise BadInput(
                    "two_nights", f"exposure {record.name}",
                    f"is in nights {key.night} and {record.night}: their detections have the same ids.",
                    "number visits by a keyword that never repeats, or by the time ([fits.visit] left out), and search "
                    "the night again; or search it to an output folder of its own.",
                )  # fmt: skip

    def summary(self) -> AssociationSummary:
        """Return the counts so far."""
        nights, failed = (tuple(dict.fromkeys(one)) for one in (self._nights, self.failed))  # tried again: twice there
        return AssociationSummary(nights=nights, failed=failed, warnings=self._warnings, **self._counts)
