"""What a run came to: the plan and what became of its work, added up."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain

from flows.night_tally import NightTally
from flows.outcome import total_causes
from flows.plan import Plan
from schemas.summary import ExposureCounts, RunSummary


def summarise(plan: Plan, tally: NightTally, warnings: Iterable[str] = ()) -> RunSummary:
    """Add up a plan and what became of its work; the counts must agree, or the summary is refused."""
    return RunSummary(
        exposures=ExposureCounts(
            seen=plan.seen,
            done=tally.done,
            skipped=plan.skipped,
            quarantined=len(plan.quarantined) + len(tally.quarantined),
            failed=len(plan.failed) + len(tally.failed),
        ),
        windows=tally.windows,
        unscored=tally.unscored,
        detections=tally.detections + sum(one.detections for one in plan.published),
        causes=total_causes([tally.causes, *(one.causes for one in plan.published)]),
        not_run=dict(tally.not_run),
        seconds=rounded(tally.seconds),
        report=None,
        nights=_nights(plan),
        quarantined=(*plan.quarantined, *tally.quarantined),
        failed=(*plan.failed, *tally.failed),
        warnings=tuple(warnings),
    )


def combined(summaries: Iterable[RunSummary]) -> RunSummary:
    """Add up what several runs came to, each of other exposures than the others."""
    parts = list(summaries)
    catalogues, seconds = Counter[str](), Counter[str]()
    for one in parts:
        catalogues.update(one.catalogues)
        seconds.update(one.seconds)
    counts = (name for name in ExposureCounts.model_fields)
    return RunSummary(
        exposures=ExposureCounts(**{name: sum(getattr(one.exposures, name) for one in parts) for name in counts}),
        windows=sum(one.windows for one in parts),
        unscored=sum(one.unscored for one in parts),
        detections=sum(one.detections for one in parts),
        causes=total_causes(one.causes for one in parts),
        catalogues=dict(catalogues),
        not_run={stage: reason for one in parts for stage, reason in one.not_run.items()},
        seconds=rounded(seconds),
        report=next((one.report for one in reversed(parts) if one.report), None),
        nights=tuple(sorted({night for one in parts for night in one.nights})),
        injection=tuple(chain.from_iterable(one.injection for one in parts)),
        quarantined=tuple(chain.from_iterable(one.quarantined for one in parts)),
        failed=tuple(chain.from_iterable(one.failed for one in parts)),
        night_failed=tuple(chain.from_iterable(one.night_failed for one in parts)),
        quality={night: verdicts for one in parts for night, verdicts in one.quality.items()},
        quality_failed=tuple(chain.from_iterable(one.quality_failed for one in parts)),
        warnings=tuple(chain.from_iterable(one.warnings for one in parts)),
        stopped=any(one.stopped for one in parts),
    )


def rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """Round times to milliseconds."""
    return {name: round(value, 3) for name, value in seconds.items()}


def _nights(plan: Plan) -> tuple[str, ...]:
    records = [*plan.published, *plan.withdrawn, *(record for item in plan.todo for record in item.superseded)]
    return tuple(sorted({item.key.night for item in plan.todo} | {record.night for record in records}))
