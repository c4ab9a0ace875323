"""Totals over the exposures of a run."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain

from flows.pipeline.outcome import Outcome, Plan, total_causes, total_seconds
from schemas.exposure import ASSUMPTIONS, ExposureKey
from schemas.summary import AlertCounts, CauseCount, ExposureCounts, RunSummary, Trouble


class NightTotals:
    """Running sum of outcomes; since nights are long, only the keys and troubles of exposures are kept.

    Parameters
    ----------
    outcomes
        First outcomes to add.

    Attributes
    ----------
    finished
        Exposures with an outcome.
    done, windows, unscored, detections
        Exposures done, windows searched, windows that could not be scored, rows of `dia_source` published.
    quarantined, failed
        Troubles of the other exposures.
    causes
        Known cause of false streaks -> candidates that have it.
    assumed
        Flag of something assumed or unknown -> exposures that have it.
    not_run
        Stage -> reason why it had no input.
    seconds
        Stage -> worker time, s.
    replaced
        Nights of results that were withdrawn because their files now hold other exposures.
    """

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self.finished: set[ExposureKey] = set()
        self.quarantined: list[Trouble] = []
        self.failed: list[Trouble] = []
        self.causes: dict[str, CauseCount] = {}
        self.assumed = Counter[str]()
        self.not_run: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.replaced: set[str] = set()
        self.done = self.windows = self.unscored = self.detections = 0
        for outcome in outcomes:
            self.add(outcome)

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of an exposure."""
        self.finished.add(outcome.item.key)
        if outcome.trouble is not None:
            (self.quarantined if outcome.status == "quarantined" else self.failed).append(outcome.trouble)
        if outcome.status != "failed":
            self.replaced |= {record.night for record in outcome.item.superseded if record.status == "done"}
        self.done += outcome.status == "done"
        self.windows += outcome.windows
        self.unscored += outcome.unscored
        self.detections += outcome.detections
        self.causes = total_causes((self.causes, outcome.causes))
        self.assumed.update(_assumed(outcome.flags))
        self.not_run |= outcome.not_run
        self.seconds = total_seconds((self.seconds, outcome.seconds))


def summarise_run(plan: Plan, totals: NightTotals, warnings: Iterable[str] = ()) -> RunSummary:
    """Return the summary of a plan and the outcomes of its work; raises if the counts disagree."""
    published = [one.flags for one in plan.published]
    return RunSummary(
        exposures=ExposureCounts(
            seen=plan.seen,
            done=totals.done,
            skipped=plan.skipped,
            quarantined=len(plan.quarantined) + len(totals.quarantined),
            failed=len(plan.failed) + len(totals.failed),
        ),
        windows=totals.windows,
        unscored=totals.unscored,
        detections=totals.detections + sum(one.detections for one in plan.published),
        causes=total_causes([totals.causes, *(one.causes for one in plan.published)]),
        assumed=dict(sorted((totals.assumed + Counter(chain(*map(_assumed, published)))).items())),
        not_run=dict(totals.not_run),
        seconds=rounded_seconds(totals.seconds),
        report=None,
        nights=_nights(plan),
        quarantined=(*plan.quarantined, *totals.quarantined),
        failed=(*plan.failed, *totals.failed),
        warnings=(*warnings, *map(_names_again, sorted(totals.replaced))),
    )


def _names_again(night: str) -> str:
    """Return the warning on results of a night that were withdrawn; without numbers, as a stream repeats it."""
    return (
        f"night {night}: results were withdrawn, because their files now hold other exposures. If the camera uses file "
        "names again, give each image a name or a folder of its own."
    )


def combined(summaries: Iterable[RunSummary]) -> RunSummary:
    """Return the sum of the summaries of runs on different exposures."""
    parts = list(summaries)
    catalogues, seconds, assumed = Counter[str](), Counter[str](), Counter[str]()
    for one in parts:
        assumed.update(one.assumed)
        catalogues.update(one.catalogues)
        seconds.update(one.seconds)
    counts = (name for name in ExposureCounts.model_fields)
    alerts = [one.alerts for one in parts if one.alerts is not None]
    return RunSummary(
        exposures=ExposureCounts(**{name: sum(getattr(one.exposures, name) for one in parts) for name in counts}),
        windows=sum(one.windows for one in parts),
        unscored=sum(one.unscored for one in parts),
        detections=sum(one.detections for one in parts),
        causes=total_causes(one.causes for one in parts),
        catalogues=dict(catalogues),
        assumed=dict(sorted(assumed.items())),
        not_run={stage: reason for one in parts for stage, reason in one.not_run.items()},
        seconds=rounded_seconds(seconds),
        report=next((one.report for one in reversed(parts) if one.report), None),
        nights=tuple(sorted({night for one in parts for night in one.nights})),
        injection=tuple(chain.from_iterable(one.injection for one in parts)),
        quarantined=tuple(chain.from_iterable(one.quarantined for one in parts)),
        failed=tuple(chain.from_iterable(one.failed for one in parts)),
        night_failed=tuple(chain.from_iterable(one.night_failed for one in parts)),
        quality={night: verdicts for one in parts for night, verdicts in one.quality.items()},
        quality_failed=tuple(chain.from_iterable(one.quality_failed for one in parts)),
        alerts=sum(alerts, AlertCounts()) if alerts else None,
        alerts_failed=tuple(chain.from_iterable(one.alerts_failed for one in parts)),
        warnings=tuple(dict.fromkeys(chain.from_iterable(one.warnings for one in parts))),
        stopped=any(one.stopped for one in parts),
    )


def _assumed(flags: Iterable[str]) -> list[str]:
    """Return those flags that mark something assumed, doubtful or unknown."""
    return [flag for flag in flags if flag in ASSUMPTIONS]


def rounded_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Round times to milliseconds."""
    return {name: round(value, 3) for name, value in seconds.items()}


def _nights(plan: Plan) -> tuple[str, ...]:
    records = [*plan.withdrawn, *(record for item in plan.todo for record in item.superseded)]
    nights = {item.key.night for item in plan.todo} | {one.key.night for one in plan.published}
    return tuple(sorted(nights | {record.night for record in records}))
