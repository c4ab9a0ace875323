"""Command `nightstride associate`: objects of published detections, and their catalogues, without a search."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from flows.nights.association import AssociationSummary, associate, note_published
from flows.pipeline.graph import Graph
from flows.pipeline.night_plan import plan_nights
from flows.pipeline.night_work import NightWork
from flows.results.forced.objects import forget_objects, published_objects
from flows.storage.association_store import AssociationStore, association_as_it_is, opened_association
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE, exposure_of
from schemas.errors import Misconfigured, NightstrideError
from schemas.ledger import NightRecord
from schemas.night_range import NightRange
from schemas.settings import Settings
from schemas.summary import Trouble
from stages import PIPELINE


def associate_output(
    out: Path, settings: Settings, chosen: NightRange, rebuild: bool, tell: Callable[[str], object]
) -> AssociationSummary:
    """Associate published detections and publish the catalogues of objects; the caller must hold the lease.

    Nights for whose patches a run with these settings would remake other catalogues are left to that run. Datasets of
    whole nights are not changed.

    Parameters
    ----------
    out, settings
        Output folder, and settings, which should be those of the run.
    chosen
        Nights.
    rebuild
        Whether to delete all objects first, and the measurements by ids that no longer exist.
    tell
        Receives a line for each night.

    Raises
    ------
    Misconfigured
        Association is off (``no_association``), or there are no such nights (``no_night``).
    """
    from flows.nights.night_window import OVER_NIGHTS
    from flows.nights.patches import run_nights

    nights = chosen.among(Ledger(out).nights(), str(out))
    before = _objects(out, settings) if rebuild else frozenset[int]()
    found = associate(out, settings.association, nights if chosen else None, others=0, rebuild=rebuild, tell=tell)
    if found.off is not None:
        raise Misconfigured("no_association", str(out), f"has none: {found.off}.", "set association.store.")
    failed = [*found.summary.failed]
    if before and found.digests is None:
        tell("Forced photometry by ids that are no more stays: --rebuild again when all can be associated.")
    elif before:  # and before the catalogues with these ids are made again
        with opened_association(out, settings.association) as store:
            failed += forget_objects(out, _gone(out, before, store), tell)
    works = [one for one in plan_nights(nights, out, settings, PIPELINE, found.digests, found.static) if one.outdated]
    ready = [one for one in works if not any(patch.of_exposures.due for patch in one.patches)]
    failed += [_left(one.night) for one in works if one not in ready]
    results = run_nights(map(_as_it_is, ready), out, settings, before=OVER_NIGHTS)
    after = note_published(out, settings.association, found, results)
    warnings = dict.fromkeys((*found.summary.warnings, *found.changed, *(after.changed if after else ())))
    failed += [trouble for result in results.values() for trouble in result.failed]
    made = {"published": tuple(results), "failed": tuple(failed), "warnings": tuple(warnings)}
    return found.summary.model_copy(update=made)


def _objects(out: Path, settings: Settings) -> frozenset[int]:
    """Return the ids of all stationary objects, published or in the store, including ended ones."""
    found = published_objects(out)
    with suppress(NightstrideError), association_as_it_is(out, settings.association) as store:
        return found if store is None else found | store.identities()
    return found


def _gone(out: Path, before: Collection[int], store: AssociationStore) -> set[int]:
    """Return the ids that no object has, and that refused exposures cannot bring back when they are associated."""
    ledger, gone = Ledger(out), {*before} - store.identities()
    of_exposure = {exposure_of(one) for one in gone}
    waiting = {
        (record.visit, record.detector)
        for night in (ledger.nights() if gone else ())
        for record in ledger.records(night)
        if (record.visit, record.detector) in of_exposure
        and DIA_SOURCE.name in record.datasets
        and store.made_from(record.key) is None
    }
    return {one for one in gone if exposure_of(one) not in waiting}


def _as_it_is(work: NightWork) -> NightWork:
    """Return the work on a night whose night-level catalogues stay unchanged."""
    if not isinstance(work.record, NightRecord):
        return work
    digests = {name: one.digest for name, one in work.record.datasets.items()}
    digests |= {name: made_from for name, (made_from, _) in work.record.idle.items()}
    return replace(
        work, graph=Graph((), work.graph.not_run), digests=digests, kept=work.record.datasets,
        published=work.record.exposures, made_from=work.record.made_from,
    )  # fmt: skip


def _left(night: str) -> Trouble:
    text = f"night {night}: has other catalogues that are not as these settings would make them. To fix, "
    return Trouble(
        uri=f"night {night}", code="other_settings", message=f"{text}give the --config of its run, or rerun it."
    )
