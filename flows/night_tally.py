"""What the exposures of a night have come to so far."""

from collections.abc import Iterable

from flows.outcome import Outcome, total_causes, total_seconds
from schemas.cause_count import CauseCount
from schemas.exposure import ExposureKey
from schemas.summary import Trouble


class NightTally:
    """Adds up outcomes as they come; of each exposure only its key is kept, and its trouble: nights are long.

    Parameters
    ----------
    outcomes
        To begin with.

    Attributes
    ----------
    finished
        Exposures with an outcome.
    done, windows, unscored, detections
        Exposures done, windows searched, those of them that could not be scored, rows of `dia_source` published.
    quarantined, failed
        Why the others are not done.
    causes
        Known cause of false streaks -> candidates that had it.
    not_run
        Stage -> why it had nothing to work on.
    seconds
        Stage -> worker time, s.
    """

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self.finished: set[ExposureKey] = set()
        self.quarantined: list[Trouble] = []
        self.failed: list[Trouble] = []
        self.causes: dict[str, CauseCount] = {}
        self.not_run: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.done = self.windows = self.unscored = self.detections = 0
        for outcome in outcomes:
            self.add(outcome)

    def add(self, outcome: Outcome) -> None:
        """Take in what became of an exposure."""
        self.finished.add(outcome.item.key)
        if outcome.trouble is not None:
            (self.quarantined if outcome.status == "quarantined" else self.failed).append(outcome.trouble)
        self.done += outcome.status == "done"
        self.windows += outcome.windows
        self.unscored += outcome.unscored
        self.detections += outcome.detections
        self.causes = total_causes((self.causes, outcome.causes))
        self.not_run |= outcome.not_run
        self.seconds = total_seconds((self.seconds, outcome.seconds))
