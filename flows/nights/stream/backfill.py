"""Search of an archive, night by night, giving way to other runs that need the output folder."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Literal

from flows.inputs.source import Source, name_of
from flows.nights.run import planner, search_exposures
from flows.nights.totals import NightTotals, combined, summarise_run
from flows.pipeline.outcome import Plan
from flows.pipeline.superseded import Name, name_tuple
from flows.runtime.log import report_line
from flows.storage.lease import patient_lease
from flows.storage.ledger import Ledger
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable, printable
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from schemas.summary import Trouble

if TYPE_CHECKING:
    from rich.console import Console

    from flows.nights.meter import Meter
    from flows.nights.nightly import Outlet
    from flows.pipeline.outcome import Item
    from flows.pipeline.plan import Planner
    from schemas.exposure import ExposureKey
    from schemas.summary import RunSummary


READERS = 8
"""Number of headers read at the same time: mostly this waits for a disk or a network."""


@dataclass(frozen=True)
class Archive:
    """Content of an archive in a range of nights.

    Attributes
    ----------
    nights
        Night -> its exposures, in order of nights.
    nameless
        Sources that do not state their night: they cannot be used, whatever the range.
    open
        Night -> number of its exposures to be searched, judged by the ledger alone; also for nights outside the range.
    missing
        Requested exposures for which no source could be read: they count as failed.
    """

    nights: Mapping[str, tuple[Source, ...]]
    nameless: tuple[Source, ...]
    open: Mapping[str, int]
    missing: tuple[Trouble, ...] = ()

    @property
    def portions(self) -> Iterator[tuple[str, tuple[Source, ...]]]:
        """Yield the sources to process at a time: those without a night, which cost nothing, then night by night."""
        if self.nameless:
            yield "unknown", self.nameless
        yield from self.nights.items()


def survey(
    sources: Sequence[Source],
    out: Path,
    settings: Settings,
    first: str | None = None,
    last: str | None = None,
    wanted: Callable[[ExposureRecord], bool] | None = None,
) -> Archive:
    """Sort the exposures of an archive by night; headers are read only if the ledger does not know the source.

    Parameters
    ----------
    sources
        All exposures of the archive.
    out, settings
        Output folder and settings of the run. Nothing is written.
    first, last
        First and last night, YYYYMMDD; None: no limit.
    wanted
        Test of the ledger record of an exposure: those that fail it or have no record are left out; those that pass and
        have no source are reported as missing. None: all are included.

    Raises
    ------
    Misconfigured
        The archive has exposures, but none in the range.
    """
    plan = planner(out, settings, dry=True)
    nights: dict[str, list[Source]] = {}
    still: dict[str, int] = {}
    nameless: list[Source] = []
    errors: dict[str, NightstrideError] = {}
    matched: set[Name] = set()
    with ThreadPoolExecutor(READERS) as pool:
        for source, known in zip(sources, pool.map(lambda one: _identified(plan, one), sources), strict=True):
            if isinstance(known, NightstrideError):
                nameless += [source] if wanted is None else []
                errors[name_of(source)] = known
                continue
            if wanted is not None and not (known.record is not None and wanted(known.record)):
                continue
            matched.add(name_tuple(known.key))
            night, is_open = known.key.night, plan.outdated(known) is not None
            nights.setdefault(night, []).append(source)
            still[night] = still.get(night, 0) + is_open
    chosen = [night for night in sorted(nights) if (first or night) <= night <= (last or night)]
    if not chosen and nights:
        raise Misconfigured(
            "no_exposures",
            f"--from {first or '-'} --to {last or '-'}",
            f"the archive has no exposure of these nights; it has {min(nights)} to {max(nights)}.",
            "name nights between those.",
        )
    asked = Ledger(out).records() if wanted is not None else iter(())
    missing = tuple(
        _missing(record, errors.get(record.source_uri))
        for record in asked
        if (first or record.night) <= record.night <= (last or record.night)
        and wanted is not None
        and wanted(record)
        and name_tuple(record.key) not in matched
    )
    return Archive({night: tuple(nights[night]) for night in chosen}, tuple(nameless), still, missing)


def _identified(plan: "Planner", source: Source) -> "Item | NightstrideError":
    """Return the exposure of a source, or the error if it cannot be identified."""
    try:
        return plan.identify(source)
    except (BadInput, Retryable) as error:
        return error


def _missing(record: ExposureRecord, error: NightstrideError | None) -> Trouble:
    if error is not None:
        return Trouble(uri=record.source_uri, code=error.code, message=str(error))
    message = (
        f"{record.source_uri}: exposure {record.name} of night {record.night} is asked for, and nothing that was given "
        "holds it. To fix, give what it was searched from."
    )
    return Trouble(uri=record.source_uri, code="no_source", message=message)


@dataclass
class Backfill:
    """Search of an archive, night by night.

    Parameters
    ----------
    out, settings, console
        Output folder, settings and console of the run.
    pause_s
        Pause after each night that was worked on, s, without the lease, so that a waiting run can start.
    pause
        Function that pauses.
    meter
        Receives each step; None: no metrics.
    outlet
        Sends the alerts of visits; None: no alerts are sent.
    """

    out: Path
    settings: Settings
    console: "Console"
    pause_s: float
    pause: Callable[[float], None] = sleep
    meter: "Meter | None" = None
    outlet: "Outlet | None" = None
    _spent: float = field(default=0.0, init=False)
    _searched: int = field(default=0, init=False)

    def run(self, archive: Archive) -> "RunSummary":
        """Complete the work, night by night; it can be stopped at any time, since published exposures are skipped.

        Raises
        ------
        Misconfigured
            No exposure could succeed.
        """
        summaries, left = [], sum(archive.open[night] for night in archive.nights)
        portions = list(archive.portions)
        for number, (night, sources) in enumerate(portions, 1):
            is_open = archive.open.get(night, 0)
            if is_open:
                self._say(f"night {night} ({number} of {len(portions)}): {is_open} of {len(sources)} exposures to do")
            summaries.append(self._one(sources))
            if summaries[-1].stopped:
                break
            left -= is_open
            done = summaries[-1].exposures.done
            self._searched += done
            if done:
                self._say(f"night {night} done; {left} exposures left, {self._time_left(left)}")
            if number < len(portions) and (is_open or "objects" in summaries[-1].seconds):
                self.pause(self.pause_s)
        return combined([*summaries, summarise_run(Plan((), (), 0, failed=archive.missing), NightTotals())])

    def _one(self, sources: Sequence[Source]) -> "RunSummary":
        with patient_lease(self.out, None, self._say):
            start = perf_counter()
            try:
                return search_exposures(sources, self.out, self.settings, self.console, self.meter, self.outlet)
            finally:
                self._spent += perf_counter() - start

    def _time_left(self, exposures: int) -> str:
        seconds = exposures * self._spent / self._searched
        return f"about {int(seconds // 3600)} h {int(seconds % 3600 // 60)} min {int(seconds % 60)} s"

    def _say(self, text: str) -> None:
        report_line(self.console, text)


@dataclass(frozen=True)
class Forecast:
    """Forecast for one source.

    Attributes
    ----------
    uri, night, visit, detector
        Identity; the last three are None if not known.
    action
        search: it would be searched; skip: it is published and up to date; quarantine: it cannot be used; fail: it
        cannot be read now.
    code, why
        The reason, as a code and in words.
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
        """Return the forecast in words."""
        name = f"{self.night} {self.visit}-{self.detector}" if self.night else "unknown exposure"
        place = "" if self.why.startswith(self.uri) else f"  ({self.uri})"
        return f"{self.action:<10} {name}  {self.why}{place}"


def forecast(sources: Sequence[Source], out: Path, settings: Settings) -> list[Forecast]:
    """Return what a run on these sources would do with each, according to the planner of such a run.

    Further copies of an exposure are left out.

    Raises
    ------
    Misconfigured
        A model or the ledger cannot be used.
    """
    plan = planner(out, settings, dry=True).plan(sources)
    found = [_of(name_of(item.source), item.key, "search", item.why.code, _reason_of(item)) for item in plan.todo]
    found += [_of(one.source_uri, one.key, "skip", "current", "published and up to date") for one in plan.published]
    found += [_of(one.uri, None, "quarantine", one.code, one.message) for one in plan.quarantined]
    found += failing(plan.failed)
    return sorted(found, key=lambda one: (one.night or "", one.visit or 0, one.detector or 0, one.uri))


def _reason_of(item: "Item") -> str:
    """Return why an exposure would be searched, and of which others the results would be withdrawn."""
    gone = ", ".join(f"{one.night} {one.name}" for one in item.superseded if one.status == "done")
    return f"{item.why.text}; withdraws {gone}, which the file held before" if gone else item.why.text


def failing(troubles: Sequence["Trouble"]) -> list[Forecast]:
    """Return forecasts for exposures that would fail."""
    return [_of(one.uri, None, "fail", one.code, one.message) for one in troubles]


def show_forecast(forecasts: Sequence[Forecast], console: "Console") -> None:
    """Print one line per exposure, and the counts."""
    for one in forecasts:
        console.print(printable(one.line), highlight=False, markup=False, soft_wrap=True)
    counts = ", ".join(f"{name} {number}" for name, number in _counts(forecasts).items())
    console.print(f"Dry run, nothing was changed: {counts or 'nothing found'}.", highlight=False)


def as_json(forecasts: Sequence[Forecast]) -> dict[str, Any]:
    """Return the forecasts and their counts as JSON-serialisable values."""
    return {"counts": _counts(forecasts), "exposures": [asdict(one) for one in forecasts]}


def _counts(forecasts: Sequence[Forecast]) -> dict[str, int]:
    return dict(Counter(one.action for one in forecasts))


def _of(uri: str, key: "ExposureKey | None", action: Any, code: str, why: str) -> Forecast:
    if key is None:
        return Forecast(uri, None, None, None, action, code, why)
    return Forecast(uri, key.night, key.visit, key.detector, action, code, why)
