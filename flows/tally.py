"""What a run came to: the plan and the outcomes of its work, added up."""

from collections.abc import Iterable, Mapping

from flows.outcome import Outcome, total_causes, total_seconds
from flows.plan import Plan
from schemas.summary import ExposureCounts, RunSummary


def summarise(plan: Plan, outcomes: Iterable[Outcome], warnings: Iterable[str] = ()) -> RunSummary:
    """Add up a plan and what became of its work; the counts must agree, or the summary is refused."""
    outcomes = list(outcomes)
    quarantined = [one.trouble for one in outcomes if one.status == "quarantined" and one.trouble]
    failed = [one.trouble for one in outcomes if one.status == "failed" and one.trouble]
    done = sum(one.status == "done" for one in outcomes)
    return RunSummary(
        exposures=ExposureCounts(
            seen=plan.seen,
            done=done,
            skipped=plan.skipped,
            quarantined=len(plan.quarantined) + len(quarantined),
            failed=len(plan.failed) + len(failed),
        ),
        windows=sum(one.windows for one in outcomes),
        unscored=sum(one.unscored for one in outcomes),
        detections=sum(one.detections for one in outcomes) + sum(one.detections for one in plan.published),
        causes=total_causes([*(one.causes for one in outcomes), *(one.causes for one in plan.published)]),
        not_run=dict(reason for one in outcomes for reason in one.not_run.items()),
        seconds=rounded(total_seconds(one.seconds for one in outcomes)),
        report=None,
        nights=_nights(plan),
        quarantined=(*plan.quarantined, *quarantined),
        failed=(*plan.failed, *failed),
        warnings=tuple(warnings),
    )


def rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """Round times to milliseconds."""
    return {name: round(value, 3) for name, value in seconds.items()}


def _nights(plan: Plan) -> tuple[str, ...]:
    records = [*plan.published, *plan.withdrawn, *(record for item in plan.todo for record in item.superseded)]
    return tuple(sorted({item.key.night for item in plan.todo} | {record.night for record in records}))
