"""Where the time of a night went."""

from collections.abc import Mapping
from dataclasses import dataclass

from flows.report.chart import stacked_bar
from flows.report.words import duration
from schemas.summary import ELAPSED

_OWN_STYLES = {"other": "part-other", "waiting": "part-waiting"}


@dataclass(frozen=True)
class StageTime:
    """Worker time of one part of the work, in words; ``style`` names its colour in the style sheet."""

    stage: str
    style: str
    time: str
    share: str


@dataclass(frozen=True)
class Timing:
    """Bar and legend of the worker time by what it went to."""

    bar: str
    stages: tuple[StageTime, ...]
    total: str


def timing(seconds: Mapping[str, float]) -> Timing | None:
    """Share out the worker time among the parts of the work; None if nothing was timed."""
    spent = {stage: time for stage, time in seconds.items() if stage not in ELAPSED and time > 0}
    total = sum(spent.values())
    if not total:
        return None
    styles = {stage: _OWN_STYLES.get(stage, f"part-{place % 8}") for place, stage in enumerate(spent)}
    stages = tuple(
        StageTime(stage, styles[stage], duration(time), f"{100 * time / total:.0f} %") for stage, time in spent.items()
    )
    title = "Worker time: " + ", ".join(f"{stage.stage} {stage.share}" for stage in stages)
    bar = stacked_bar([(stage, styles[stage], time) for stage, time in spent.items()], title)
    return Timing(bar, stages, duration(total))
