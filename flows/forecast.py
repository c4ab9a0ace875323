"""What a backfill would do, exposure by exposure, and why; nothing is written."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.adapters.sources import Source
from flows.night_work import planner
from flows.source_name import name_of
from schemas.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from schemas.exposure import ExposureKey
    from schemas.summary import Trouble


@dataclass(frozen=True)
class Forecast:
    """What would become of one exposure.

    Attributes
    ----------
    uri, night, visit, detector
        Which; the last three are None where the file does not say.
    action
        search: it would be searched; skip: what is published is up to date; quarantine: it cannot be used; fail: it
        cannot be read at the moment.
    code, why
        The reason, for machines and for people.
    """

    uri: str
    night: str | None
    visit: int | None
    detector: int | None
    action: Literal["search", "skip", "quarantine", "fail"]
    code: str
    why: str

    @property
    def line(self) -> str:
        """The forecast in words."""
        name = f"{self.night} {self.visit}-{self.detector}" if self.night else "unknown exposure"
        return f"{self.action:<10} {name}  {self.why}  ({self.uri})"


def forecast(sources: Sequence[Source], out: Path, settings: Settings) -> list[Forecast]:
    """Say what a run on these sources would do with each: by the planner that such a run uses.

    Further copies of an exposure are left out.

    Raises
    ------
    Misconfigured
        A model or the ledger cannot be used.
    """
    plan = planner(out, settings, dry=True).plan(sources)
    found = [_of(name_of(item.source), item.key, "search", item.why.code, item.why.text) for item in plan.todo]
    found += [_of(one.source_uri, one.key, "skip", "current", "published and up to date") for one in plan.published]
    found += [_of(one.uri, None, "quarantine", one.code, one.message) for one in plan.quarantined]
    found += failing(plan.failed)
    return sorted(found, key=lambda one: (one.night or "", one.visit or 0, one.detector or 0, one.uri))


def failing(troubles: Sequence["Trouble"]) -> list[Forecast]:
    """Give what is known of exposures that would fail."""
    return [_of(one.uri, None, "fail", one.code, one.message) for one in troubles]


def show(forecasts: Sequence[Forecast], console: "Console") -> None:
    """Print one line per exposure, and the counts."""
    for one in forecasts:
        console.print(one.line, highlight=False, markup=False, soft_wrap=True)
    counts = ", ".join(f"{name} {number}" for name, number in _counts(forecasts).items())
    console.print(f"Dry run, nothing was changed: {counts or 'nothing found'}.", highlight=False)


def as_json(forecasts: Sequence[Forecast]) -> dict[str, Any]:
    """Give everything as values that JSON knows."""
    return {"counts": _counts(forecasts), "exposures": [asdict(one) for one in forecasts]}


def _counts(forecasts: Sequence[Forecast]) -> dict[str, int]:
    return dict(Counter(one.action for one in forecasts))


def _of(uri: str, key: "ExposureKey | None", action: Any, code: str, why: str) -> Forecast:
    if key is None:
        return Forecast(uri, None, None, None, action, code, why)
    return Forecast(uri, key.night, key.visit, key.detector, action, code, why)
