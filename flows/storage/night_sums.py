"""Sums over the exposures of a night, kept in the ledger so that the status of years is read in a moment."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from flows.runtime.lag import percentiles
from flows.storage.digest import digest
from flows.storage.ledger import Brief, Ledger
from schemas.errors import NightstrideError
from schemas.ledger import ExposureRecord, NightSums


def night_sums(ledger: Ledger, night: str) -> NightSums:
    """Return the sums of a night: those that were kept, if they still hold; nothing is written."""
    stamp = ledger.stamp(night)
    kept = ledger.sums(night) if stamp else None
    return kept if kept is not None and kept.stamp == stamp else _added(ledger.briefs(night), stamp)


def keep_sums(ledger: Ledger, night: str) -> None:
    """Keep the sums of a night, if the ledger can tell later whether they still hold; errors as in `Ledger`."""
    found = night_sums(ledger, night)
    if found.stamp and found.referred is None:
        found = found.model_copy(update={"referred": _referred(ledger, night)})
    if found.stamp and found != ledger.sums(night):
        ledger.put_sums(night, found)


def drop_provenance(ledger: Ledger) -> None:
    """Remove the provenance that no record refers to, of exposures or of whole nights; errors as in `Ledger`."""
    referred = set[str | None]()
    for night in ledger.nights():
        kept = ledger.sums(night)
        known = kept.referred if kept is not None and kept.stamp == ledger.stamp(night) != "" else None
        referred |= set(_referred(ledger, night) if known is None else known)
    for record in ledger.whole_nights():
        if isinstance(record, NightstrideError):  # nobody knows what it refers to
            return
        referred.add(record.provenance)
    for one in ledger.provenances():
        if one not in referred:
            ledger.remove_provenance(one)


def _referred(ledger: Ledger, night: str) -> tuple[str, ...]:
    """Return the provenance that the records of a night refer to, that of replaced results as well."""
    made = ((one.provenance, *(before.provenance for before in one.previous)) for one in ledger.records(night))
    return tuple(sorted({digest for digests in made for digest in digests if digest is not None}))


def settle(ledger: Ledger, nights: Iterable[str] = ()) -> None:
    """Bring the ledger together, and keep the sums of the nights that this concerns and of others.

    Raises
    ------
    Misconfigured, Retryable
        As in `Ledger`.
    """
    for night in sorted({*nights, *ledger.settle()}):
        keep_sums(ledger, night)
    ledger.settle()


def state_of(record: Brief) -> str:
    """Return the state of an exposure."""
    return "outdated" if record.status == "done" and record.reason else record.status


def lag_of(record: Brief) -> float | None:
    """Return the lag from the end of the exposure to its catalogue, s; None if the ledger has none."""
    if record.shutter_closed_at is None:
        return None
    return (_time(record.finished_at) - _time(record.shutter_closed_at)).total_seconds()


def published_digest(records: Iterable[Brief | ExposureRecord]) -> str:
    """Return a digest of which exposures of a night are published, and of when they were finished."""
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
