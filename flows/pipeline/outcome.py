"""What became of one exposure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from flows.inputs.source import name_of
from flows.pipeline.plan import Item
from schemas.errors import NightstrideError
from schemas.summary import CauseCount, Trouble


@dataclass(frozen=True)
class Outcome:
    """Result of one exposure of a run.

    Attributes
    ----------
    item, status
        Which exposure, and what became of it.
    windows, unscored, detections
        Windows searched, those of them that could not be scored, rows of `dia_source` published.
    seconds
        Stage -> worker time, s.
    not_run
        Stage -> why it had nothing to work on.
    trouble
        Why it is not done.
    causes
        Known cause of false streaks -> candidates that had it.
    searched
        Whether this run searched its windows, or kept what was found in them before.
    shutter_closed
        End of the exposure, UTC; None if it was not read.
    """

    item: Item
    status: Literal["done", "quarantined", "failed"]
    windows: int = 0
    unscored: int = 0
    detections: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)
    trouble: Trouble | None = None
    causes: Mapping[str, CauseCount] = field(default_factory=dict)
    searched: bool = True
    shutter_closed: datetime | None = None


def trouble_of(item: Item, error: BaseException) -> Trouble:
    """Say what went wrong with an exposure, in a line."""
    if isinstance(error, NightstrideError):
        return Trouble(uri=name_of(item.source), code=error.code, message=str(error))
    text = " ".join(str(error).split()) or "no message"
    return Trouble(uri=name_of(item.source), code=type(error).__name__, message=f"{type(error).__name__}: {text[:500]}")


def total_seconds(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sum times by stage; what belongs to none comes last."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    if "other" in total:
        total["other"] = total.pop("other")
    return dict(total)


def total_causes(parts: Iterable[Mapping[str, CauseCount]]) -> dict[str, CauseCount]:
    """Sum counts by cause."""
    total: dict[str, CauseCount] = {}
    for part in parts:
        for name, counted in part.items():
            total[name] = total.get(name, CauseCount()) + counted
    return total
