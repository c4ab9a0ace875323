"""An archive of nights, one after the other, behind whatever else wants the output folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING

from flows.adapters.ledger import Ledger
from flows.adapters.sources import Source
from flows.lease_wait import patient_lease
from flows.night_tally import NightTally
from flows.night_work import planner, work
from flows.observe.log import tell
from flows.plan import Plan
from flows.source_name import name_of
from flows.tally import combined, summarise
from flows.withdrawal import Name, name_tuple
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from schemas.summary import Trouble

if TYPE_CHECKING:
    from rich.console import Console

    from flows.observe.meter import Meter
    from flows.plan import Item, Planner
    from schemas.summary import RunSummary

READERS = 8
"""Headers that are read at the same time: most of the time is spent waiting for a disk or a network."""


@dataclass(frozen=True)
class Archive:
    """What an archive holds of a range of nights.

    Attributes
    ----------
    nights
        Night -> its exposures, the earliest night first.
    nameless
        Sources that do not say which night they are of: they cannot be used, whatever the range.
    open
        Night -> how many of its exposures are to be searched, judged by the ledger alone.
    missing
        Exposures that are asked for, and that no source could be read for: they fail.
    """

    nights: Mapping[str, tuple[Source, ...]]
    nameless: tuple[Source, ...]
    open: Mapping[str, int]
    missing: tuple[Trouble, ...] = ()

    @property
    def portions(self) -> Iterator[tuple[str, tuple[Source, ...]]]:
        """What is worked on at a time: sources without a night, which cost nothing, then night by night."""
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
    """Sort the exposures of an archive by night; headers are read of those that the ledger does not know.

    Parameters
    ----------
    sources
        All exposures of the archive.
    out, settings
        Of the run. Nothing is written.
    first, last
        Range of nights, YYYYMMDD, both included; None: no limit.
    wanted
        Test of the ledger record of an exposure: others, and those without a record, are left out; those that pass and
        have no source are told as missing. None: all are in.

    Raises
    ------
    Misconfigured
        The archive has no exposure in the range.
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
    asked = Ledger(out).records() if wanted is not None else []
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
    """Give the exposure of a source; the error if it does not say which it is."""
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
    """Works through an archive.

    Parameters
    ----------
    out, settings, console
        Of the run.
    pause_s
        Rest after each night that was worked on, s, without the lease: a run that waits for it gets in.
    pause
        How to rest.
    meter
        Told of each step; None: nobody asks for figures.
    """

    out: Path
    settings: Settings
    console: "Console"
    pause_s: float
    pause: Callable[[float], None] = sleep
    meter: "Meter | None" = None
    _spent: float = field(default=0.0, init=False)
    _searched: int = field(default=0, init=False)

    def run(self, archive: Archive) -> "RunSummary":
        """Do what is left to be done, night by night; what is published is skipped, so that it can be stopped anywhere.

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
                if left:
                    self.pause(self.pause_s)
        return combined([*summaries, summarise(Plan((), (), 0, failed=archive.missing), NightTally())])

    def _one(self, sources: Sequence[Source]) -> "RunSummary":
        with patient_lease(self.out, None, self._say):
            start = perf_counter()
            try:
                return work(sources, self.out, self.settings, self.console, self.meter)
            finally:
                self._spent += perf_counter() - start

    def _time_left(self, exposures: int) -> str:
        seconds = exposures * self._spent / self._searched
        return f"about {int(seconds // 3600)} h {int(seconds % 3600 // 60)} min {int(seconds % 60)} s"

    def _say(self, text: str) -> None:
        tell(self.console, text)
