"""Catalogues of patches and whole nights, brought up to date: association, what follows of it, lasting objects."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flows.inputs.source import Source
from flows.inputs.source_state import has_bytes, named_sources
from flows.nights.association import STORE, Association, AssociationSummary, associate, note_published
from flows.nights.night_process import teller
from flows.nights.progress import Progress
from flows.pipeline.night_plan import plan_nights
from flows.pipeline.night_work import NightWork
from flows.results.model_use import is_read_alike
from flows.runtime.parallel import Caller, here
from flows.runtime.traces import span
from flows.storage.ledger import Ledger
from schemas.dia_object import ASSOCIATION
from schemas.errors import BadInput, NightstrideError, Retryable
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from schemas.static_object import STATIC_ASSOCIATION
from schemas.summary import RunSummary, Trouble
from stages import PIPELINE

_OF_STORE = frozenset(stage.name for stage in PIPELINE if {ASSOCIATION, STATIC_ASSOCIATION}.intersection(stage.needs))
"""Stages that read what only the store of the association has."""

if TYPE_CHECKING:
    from flows.nights.cluster.cluster import Cluster
    from flows.nights.patches import NightResult


def with_catalogues(
    summary: RunSummary, out: Path, settings: Settings, progress: Progress, workers: "Cluster | None" = None,
    call: Caller = here, sources: Mapping[ExposureKey, Source] | None = None,
) -> RunSummary:  # fmt: skip
    """Bring the datasets of patches and whole nights up to date, and add them to the summary of a run.

    Objects of the science images are associated with those of other nights when they are published; what is known of
    them by then is made afterwards.

    Parameters
    ----------
    summary, out, settings, progress
        Of the run.
    workers
        Cluster that is up, if one is.
    call
        Calls what needs the store of the association.
    sources
        Where exposures are now, as far as it is known: tiles that are gone are made from them, or from where the ledger
        has the files.

    Raises
    ------
    Misconfigured
        A model or the ledger cannot be used, or nothing may be written.
    """
    summary, found = with_association(summary, out, settings, progress, call)
    nights = sorted({*summary.nights, *found.summary.nights})
    works = plan_nights(nights, out, settings, PIPELINE, found.digests, found.static)
    results: dict[str, NightResult] = {}
    if outdated := [work for work in works if work.outdated]:
        start = perf_counter()
        progress.say(f"Combining night {', '.join(work.night for work in outdated)}.")
        find = partial(_former_source, sources or {}, Ledger(out), settings)
        run = partial(_run, out=out, settings=settings, workers=workers, say=progress.say, call=call, find=find)
        with span("objects", {"nights": " ".join(work.night for work in outdated)}):
            results = run(outdated)
            after = _associated_again(found, list(results), out, settings, call)
            if after.static != found.static:
                works = plan_nights(nights, out, settings, PIPELINE, after.digests, after.static)
                again = run([work for work in works if work.outdated])
                results |= {night: _joined(results.get(night), one) for night, one in again.items()}
                _associated_again(after, list(again), out, settings, call)
        failed = dict.fromkeys((*summary.night_failed, *after.summary.failed))
        seconds = {**summary.seconds, "objects": round(perf_counter() - start, 3)}
        summary = summary.model_copy(update={"night_failed": tuple(failed), "seconds": seconds})
    return _told(summary, works, results, found.off, progress)


def _run(works: Sequence[NightWork], *, say: Callable[[str], object], **more: Any) -> dict[str, "NightResult"]:
    from flows.nights.patches import run_nights  # a rerun with nothing to do should not pay for it

    return run_nights(works, say=say, **more)


def _associated_again(
    found: Association, nights: Collection[str], out: Path, settings: Settings, call: Caller
) -> Association:
    """Associate nights whose patches were recorded since, also the objects of these; as before where that fails."""
    with suppress(BrokenProcessPool):  # then the next run looks at them again
        return call(note_published, out, settings.association, found, nights) or found
    return found


def _joined(first: "NightResult | None", second: "NightResult") -> "NightResult":
    """Return what became of a night that was made in two steps, the second of which tells what there is now."""
    if first is None:
        return second
    seconds = {
        name: first.seconds.get(name, 0) + second.seconds.get(name, 0) for name in {**first.seconds, **second.seconds}
    }
    return replace(second, failed=list(dict.fromkeys([*first.failed, *second.failed])), seconds=seconds)


def _told(
    summary: RunSummary,
    works: Sequence[NightWork],
    results: Mapping[str, "NightResult"],
    off: str | None,
    progress: Progress,
) -> RunSummary:
    """Return the summary of a run with what there is of its nights; ``off``: why nothing is associated."""
    rows, not_run, failed = Counter[str](), dict(summary.not_run), list(summary.night_failed)
    for work in works:
        if work.night in results:
            continue
        rows.update({name: entry.rows for name, entry in work.kept.items()} | work.patch_rows)
        not_run |= work.not_run
    for result in results.values():
        rows.update(result.rows)
        not_run |= result.not_run
        failed += result.failed
    if results:
        made = list(results.values())
        progress.catalogued(rows, sum(one.patches for one in made), sum(one.patches_failed for one in made))
    if off is not None:
        not_run |= dict.fromkeys(not_run.keys() & _OF_STORE, off)
    return summary.model_copy(update={"catalogues": dict(rows), "not_run": not_run, "night_failed": tuple(failed)})


def with_association(
    summary: RunSummary, out: Path, settings: Settings, progress: Progress, call: Caller = here
) -> tuple[RunSummary, Association]:
    """Associate what is published of the nights of a run; where that fails, the nights are told to have failed."""
    start = perf_counter()
    work = partial(associate, tell=teller(call, progress.say), retries=settings.execution.retries)
    try:
        found = call(work, out, settings.association, summary.nights)
    except BrokenProcessPool as error:  # it was killed: the next run catches up
        found = Association(AssociationSummary(failed=(Trouble.of(STORE, error),)))
    progress.associated(found.summary.known, found.summary.new, found.summary.left_out)
    update: dict[str, object] = {"night_failed": (*summary.night_failed, *found.summary.failed)}
    if found.left:
        warning = (
            f"{len(found.left)} other nights are not associated, {found.left[0]} the first: "
            "run `nightstride associate OUT`"
        )
        update["warnings"] = (*summary.warnings, warning)
    if found.summary.exposures:
        update["seconds"] = {**summary.seconds, "associate": round(perf_counter() - start, 3)}
    return summary.model_copy(update=update), found


def _former_source(
    given: Mapping[ExposureKey, Source], ledger: Ledger, settings: Settings, record: ExposureRecord
) -> Source | None:
    """Return the files that an exposure was searched from, with the bytes and in the way of then, if they are there."""
    made, listed = ledger.provenance(record.provenance), [given[record.key]] if record.key in given else []
    with suppress(NightstrideError):  # the file is gone
        listed += named_sources(record.source_uri, settings, record.source_files)
    for source in (one for one in listed if is_read_alike(one, record, made, ledger)):
        with suppress(BadInput, Retryable):
            if has_bytes(source, record.source_sha256, settings, record.source_stat):
                return source
    return None
