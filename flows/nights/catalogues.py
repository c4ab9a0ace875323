"""Steps before and after the patches of nights are made: association, files of tiles, and reports."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from flows.inputs.source import Source
from flows.inputs.source_state import has_bytes, named_sources
from flows.nights.association import STORE, Association, AssociationSummary, associate, note_published
from flows.nights.progress import Progress
from flows.pipeline.night_plan import plan_nights
from flows.pipeline.night_work import NightWork
from flows.results.model_use import is_read_alike
from flows.runtime.parallel import Caller, teller
from flows.storage.ledger import Ledger
from schemas.dia_object import ASSOCIATION
from schemas.errors import BadInput, NightstrideError, Retryable
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, NightRecord
from schemas.settings import Settings
from schemas.static_object import STATIC_ASSOCIATION
from schemas.summary import RunSummary, Trouble
from stages import PIPELINE

_OF_STORE = frozenset(stage.name for stage in PIPELINE if {ASSOCIATION, STATIC_ASSOCIATION}.intersection(stage.needs))
"""Stages that read what only the store of the association has."""

if TYPE_CHECKING:
    from flows.nights.night_stages import NightResult


class Again:
    """Association of datasets made during a run, and the resulting plans.

    Parameters
    ----------
    found
        Association before the run; as an attribute, the current one.
    out, settings, call
        Output folder, settings, and caller of functions of the run.

    Attributes
    ----------
    told
        As `Association.changed`, for everything associated through this object.
    """

    def __init__(self, found: Association, out: Path, settings: Settings, call: Caller) -> None:
        self.found, self._out, self._settings, self._call = found, out, settings, call
        self.told: list[str] = []

    def note(self, nights: Collection[str]) -> None:
        """Associate nights whose patches were recorded since; if that fails, the next run tries again."""
        with suppress(BrokenProcessPool):
            found = self._call(note_published, self._out, self._settings.association, self.found, nights)
            if found is not None:
                self.found = found
                self.told += found.changed

    def plan(self, nights: Collection[str]) -> tuple[NightWork, ...]:
        """Return the plans of nights with the current association."""
        return plan_nights(nights, self._out, self._settings, PIPELINE, self.found.digests, self.found.static)

    def planned(self, night: str) -> NightWork | None:
        """Associate the published detections of a night, and return its plan; None if the association is off."""
        if not self.found.digests:
            return None
        self.note([night])
        return self.plan([night])[0]

    def changed(self, before: Association) -> bool:
        """Return whether the association of objects of the science images has changed."""
        return self.found.static is not None and self.found.static != before.static


def with_rows(
    summary: RunSummary,
    works: Sequence[NightWork],
    results: Mapping[str, "NightResult"],
    off: str | None,
    progress: Progress,
) -> RunSummary:
    """Return the summary of a run with the row counts of its nights; ``off``: reason why nothing is associated.

    Rows of other nights that were also brought up to date are not counted.
    """
    rows, not_run, failed = Counter[str](), dict(summary.not_run), list(summary.night_failed)
    for work in works:
        if work.night in results:
            continue
        if work.night in summary.nights:
            rows.update({name: entry.rows for name, entry in work.kept.items()} | work.patch_rows)
        not_run |= work.not_run
    for night, result in results.items():
        if night in summary.nights:
            rows.update(result.rows)
        not_run |= result.not_run
        failed += result.failed
    if results:
        made = list(results.values())
        progress.catalogued(rows, sum(one.patches for one in made), sum(one.patches_failed for one in made))
    if off is not None:
        not_run |= dict.fromkeys(not_run.keys() & _OF_STORE, off)
    return summary.model_copy(update={"catalogues": dict(rows), "not_run": not_run, "night_failed": tuple(failed)})


def note_exposures(out: Path, works: Sequence[NightWork], made: Collection[str]) -> None:
    """Note that nights of which nothing had to be made, unlike others, are of their exposures as these are now."""
    for work in works:
        record, now = work.record, {"exposures": work.published, "made_from": work.made_from}
        if work.night not in made and isinstance(record, NightRecord) and record.made_from != work.made_from:
            Ledger(out).put_night(record.model_copy(update=now))


def with_association(
    summary: RunSummary, out: Path, settings: Settings, progress: Progress, call: Caller
) -> tuple[RunSummary, Association]:
    """Associate the published detections of the nights of a run; if that fails, the nights count as failed."""
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
    if found.summary.exposures or found.summary.static_known or found.summary.static_new:
        update["seconds"] = {**summary.seconds, "associate": round(perf_counter() - start, 3)}
    return with_changes(summary.model_copy(update=update), found.changed, found.summary.warnings, progress), found


def with_changes(summary: RunSummary, changed: Sequence[str], known: Sequence[str], progress: Progress) -> RunSummary:
    """Report and warn if objects were matched with other settings for the first time."""
    for text in changed:
        progress.say(f"warning: {text}", logging.WARNING)
    return summary.model_copy(update={"warnings": tuple(dict.fromkeys((*summary.warnings, *known, *changed)))})


def former_source(
    given: Mapping[ExposureKey, Source], ledger: Ledger, settings: Settings, record: ExposureRecord
) -> Source | None:
    """Return the source of an exposure as it was searched, with the same bytes and reading, if it still exists."""
    made, listed = ledger.provenance(record.provenance), [given[record.key]] if record.key in given else []
    with suppress(NightstrideError):  # the file is gone
        listed += named_sources(record.source_uri, settings, record.source_files)
    for source in (one for one in listed if is_read_alike(one, record, made, ledger)):
        with suppress(BadInput, Retryable):
            if has_bytes(source, record.source_sha256, settings, record.source_stat):
                return source
    return None
