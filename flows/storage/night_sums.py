"""Sums over the exposures of a night, stored in the ledger so that the status of years is read in a moment."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from flows.runtime.lag import percentiles
from flows.storage.digest import digest
from flows.storage.ledger import Brief, Ledger
from schemas.errors import NightstrideError
from schemas.ledger import ExposureRecord, NightSums


def night_sums(ledger: Ledger, night: str) -> NightSums:
    """Return the sums of a night: the stored ones if still valid, else new ones; nothing is written."""
    stamp = ledger.stamp(night)
    kept = ledger.sums(night) if stamp else None
    return kept if kept is not None and kept.stamp == stamp else _added(ledger.briefs(night), stamp)


def keep_sums(ledger: Ledger, night: str) -> None:
    """Store the sums of a night, if the ledger can tell later whether they are still valid; errors as in `Ledger`."""
    found = night_sums(ledger, night)
    if found.stamp and found.referred is None:
        found = found.model_copy(update={"referred": _referred(ledger, night)})
    if found.stamp and found != ledger.sums(night):
        ledger.put_sums(night, found)


def drop_provenance(ledger: Ledger) -> None:
    """Remove provenance to which no record of an exposure or whole night refers; errors as in `Ledger`."""
    referred = set[str | None]()
    for night in ledger.nights():
        kept = ledger.sums(night)
        known = kept.referred if kept is not None and kept.stamp == ledger.stamp(night) != "" else None
        referred |= set(_referred(ledger, night) if known is None else known)
    for record in ledger.whole_nights():
        if isinstance(record, NightstrideError):  # its provenance is unknown
            return
        referred.add(record.provenance)
    for one in ledger.provenances():
        if one not in referred:
            ledger.remove_provenance(one)


def _referred(ledger: Ledger, night: str) -> tuple[str, ...]:
    """Return the digests of provenance to which a night's records refer, including those of replaced results."""
    made = ((one.provenance, *(before.provenance for before in one.previous)) for one in ledger.records(night))
    return tuple(sorted({digest for digests in made for digest in digests if digest is not None}))


def settle(ledger: Ledger, nights: Iterable[str] = ()) -> None:
    """Settle the ledger, and store the sums of the nights that this changes and of the given ones.

    Raises
    ------
    Misconfigured, Retryable
        As in `Ledger`.
    """
    for night in sorted({*nights, *ledger.settle()}):
        keep_sums(ledger, night)
    ledger.settle()


def state_of(record: Brief) -> str:
    """Return the state of an exposure: its status, or "outdated" if it is done and has a reason."""
    return "outdated" if record.status == "done" and record.reason else record.status


def lag_of(record: Brief) -> float | None:
    """Return the time from the end of the exposure to its catalogue, s; None if unknown."""
    if record.shutter_closed_at is None:
        return None
    return (_time(record.finished_at) - _time(record.shutter_closed_at)).total_seconds()


def published_digest(records: Iterable[Brief | ExposureRecord]) -> str:
    """Return a digest of the published exposures of a night and when they were finished."""
    done = sorted((one.visit, one.detector, one.finished_at) for one in records if one.status == "done")
    return digest({"exposures": done})


def _added(given: Iterable[Brief], stamp: str) -> NightSums:
    records = list(given)
    states, searched, lags, detections = Counter[str](), Counter[str](), list[float](), 0
    for record in records:
        states[state_of(record)] += 1
        if record.status != "done":
            continue
        searched[record.provenance or ""] += 1
        detections += record.detections
        if (lag := lag_of(record)) is not None:
            lags.append(lag)
    return NightSums(
        stamp=stamp, states=dict(states), detections=detections, lag_s=percentiles(lags), searched=dict(searched),
        published=published_digest(records),
    )  # fmt: skip


def _time(text: str) -> datetime:
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)
