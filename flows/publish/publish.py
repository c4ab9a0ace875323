"""Publishing of alerts from an output folder, exposure by exposure, and of a run, visit by visit."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Protocol

import pyarrow as pa

from flows.publish.delivery import opened_sink
from flows.publish.history import NOT_ASSOCIATED, opened_history, visit_digests
from flows.publish.packet import Packet
from flows.publish.published import NO_NIGHT, PublishedExposures, name_failure, with_place_and_time
from flows.publish.rubin_alert import RubinAlerts
from flows.publish.rubin_schema import parsed
from flows.publish.sinks import OwedVisits, Sent, Sink
from flows.publish.ztf_packet import HISTORY_VERSION, ZtfAlerts
from flows.publish.ztf_schema import FORM
from flows.runtime.words import counted
from flows.storage.lease import holder_of
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable
from schemas.ledger import ExposureRecord
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.settings import Settings
from schemas.summary import AlertCounts, AlertLag, RunSummary, Trouble

Visit = tuple[str, int]
"""Night and visit."""


class AlertMaker(Protocol):
    """Maker of alerts in one form."""

    def packets(self, record: ExposureRecord, rows: pa.Table) -> Iterator[Packet]:
        """Yield the alerts of detections of an exposure; all have a position and a time."""


@dataclass
class PublishTotals:
    """Counts of detections and exposures by outcome, while their alerts are made.

    Attributes
    ----------
    visits
        Number of visits with alerts.
    skipped
        Reason -> number of detections for which no alert can be made.
    refused
        Number of detections whose alert violates its schema.
    failed
        Errors of these, of exposures without alerts, and of histories, as added by `name_failure`.
    exposures_failed
        Number of exposures for which no alerts can be made.
    lost
        Night and visit of these exposures -> first error.
    sink
        Sink that knows which alerts are needed, and stores invalid ones; None: all are needed.
    """

    visits: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    failed: list[BadInput] = field(default_factory=list)
    exposures_failed: int = 0
    lost: dict[Visit, BadInput] = field(default_factory=dict)
    sink: Sink | None = None

    def refuse(self, packet: Packet, error: BadInput) -> None:
        """Count an alert that violates its schema, and store it as a dead letter."""
        self.refused += 1
        if self.sink is not None:
            self.sink.bury(packet, error)
        name_failure(self.failed, error)

    def fail(self, night: str, visit: int, error: BadInput) -> None:
        """Count an exposure for which no alerts can be made."""
        self.exposures_failed += 1
        self.lost.setdefault((night, visit), error)
        name_failure(self.failed, error)

    def lack(self, error: BadInput) -> None:
        """Add the reason why detections are missing in histories."""
        name_failure(self.failed, error)


def alert_packets(
    out: Path,
    settings: Settings,
    form: str,
    totals: PublishTotals,
    *,
    nights: NightRange = EVERY_NIGHT,
    visit: int | None = None,
    complete: bool = False,
) -> Iterator[Packet]:
    """Yield the alerts of published detections by night, visit and detector.

    The same detections with the same history give the same bytes. Alerts of one exposure are made at a time. If two
    nights have the same visit, and so the same ids of detections, the first has alerts, and the other counts as failed.

    Parameters
    ----------
    out, settings
        Output folder; settings with the location of its association and the length of histories.
    form
        Version of Rubin's schema, or "ztf".
    totals
        Receives counts and errors.
    nights, visit
        Range of nights, and visit; None: all visits.
    complete
        As in `flows.publish.history.opened_history`.

    Raises
    ------
    Misconfigured
        There are no such nights, the extra ``rubin`` is missing, or there is no such form.
    Retryable
        The association does not answer, or (if ``complete``) lacks an exposure.
    """
    published, owners = PublishedExposures(out), dict[int, str]()
    with ExitStack() as stack:
        maker = _maker(stack, published, settings, form, totals, complete)
        for label in published.nights(nights):
            last = None
            for record in published.exposures(label, visit):
                if (owner := owners.setdefault(record.visit, label)) != label:
                    totals.fail(label, record.visit, _two_nights(record, owner))
                    continue
                for packet in _of_exposure(maker, published, record, form, totals):
                    totals.visits += record.visit != last
                    last = record.visit
                    yield packet


def _two_nights(record: ExposureRecord, first: str) -> BadInput:
    return BadInput(
        "two_nights", f"visit {record.visit}",
        f"is in nights {first} and {record.night}: their alerts have the same ids, and one file.",
        f"send each night somewhere of its own, with --night {record.night}.",
    )  # fmt: skip


def _maker(
    stack: ExitStack,
    published: PublishedExposures,
    settings: Settings,
    form: str,
    totals: PublishTotals,
    complete: bool,
) -> AlertMaker:
    own = HISTORY_VERSION if form == FORM else form
    if form != FORM:  # ZTF's schema is ours, the others are those of a package
        parsed(form)  # refuses an unknown version before anything is read
    history = stack.enter_context(
        opened_history(
            published, settings.association, settings.alerts.history_days, own, totals.lack, complete=complete
        )
    )
    if form == FORM:
        return ZtfAlerts(published, history, totals.refuse)
    return RubinAlerts(published, history, settings.alerts, form, totals.refuse)


def _of_exposure(
    maker: AlertMaker, published: PublishedExposures, record: ExposureRecord, form: str, totals: PublishTotals
) -> Iterator[Packet]:
    try:
        known, lacking = with_place_and_time(published.detections(record.key))
        totals.skipped += lacking
        if totals.sink is not None:
            made_from = record.datasets[DIA_SOURCE.name].digest
            known = known.filter(
                pa.array(totals.sink.wanted(record.key, form, made_from, known["diaSourceId"].to_pylist()), pa.bool_())
            )
        yield from maker.packets(record, known)
    except BadInput as error:
        totals.fail(record.night, record.visit, error)
        if totals.sink is not None:
            totals.sink.lack(record.key)


REST_S = 60.0
"""Pause after a failure, s: each attempt to reach a broker that is down lasts until its time-out."""


def send_published(
    sink: Sink, out: Path, settings: Settings, form: str, totals: PublishTotals, nights: NightRange, visit: int | None
) -> Sent:
    """Send the alerts of published detections, and settle the visits that runs have left owed or given up.

    A visit that was sent is no longer owed; if no alerts can be made for one of its exposures, it is given up, with the
    reason. While a run holds the folder, owed visits stay owed: it may still be searching them, and settles them
    itself. If some alerts have not arrived, nothing is settled.

    Parameters
    ----------
    sink
        Destination.
    out, settings, form, totals, nights, visit
        As in `alert_packets`.

    Raises
    ------
    Misconfigured, Retryable
        As in `alert_packets`; the sink or the outbox fails.
    """
    totals.sink, owed = sink, sink.owed(form)
    left = owed.all() | {(one.night, one.visit) for one in owed.given_up()}
    turns = {one: owed.turn(*one) for one in left if one[0] in nights and visit in (None, one[1])}
    if holder_of(out) is not None:  # asked after the turns: a run that begins later changes them
        turns = dict.fromkeys(turns, 0)
    sent = sink.send(alert_packets(out, settings, form, totals, nights=nights, visit=visit))
    if sent.trouble is not None:
        return sent
    lost = {one: error for one, error in totals.lost.items() if one in turns}
    made_from = visit_digests(PublishedExposures(out), settings.association, lost) if lost else {}
    for one, turn in turns.items():
        owed.settle(*one, turn, lost.get(one), made_from.get(one, ""))
    return sent


class VisitAlerts:
    """Sender of the alerts of a run, visit by visit; failures are reported, and do not stop the run.

    A visit is owed in the outbox from before its search until all its alerts are sent, so the next run sends what this
    one leaves, however it ends. If no alerts can be made for one of its exposures, even later, the visit is given
    up: this is reported once, with the reason, and lasts until its exposures or their association change.

    Parameters
    ----------
    out, settings
        Output folder and settings of the run; ``alerts.to`` is the destination.
    say
        Receives a line for each visit, and its level of `logging`.

    Raises
    ------
    Misconfigured
        Alerts cannot be sent to ``alerts.to``, or an extra is missing.
    """

    def __init__(self, out: Path, settings: Settings, say: Callable[[str, int], object]) -> None:
        self._out, self._settings, self._say = out, settings, say
        self._lock = Lock()
        self._sent, self._lags, self._failed = dict[Visit, Sent](), list[float](), dict[str, Trouble]()
        self._late = dict[Visit, float | None]()
        self._begun, self._rest_until = False, 0.0
        if settings.alerts.form != "ztf":
            parsed(settings.alerts.form)
        with self._sink():
            pass

    def _sink(self, *, alone: bool = True) -> AbstractContextManager[Sink]:
        assert self._settings.alerts.to is not None
        return opened_sink(self._settings.alerts.to, self._out, self._settings.alerts, alone=alone)

    def begin(self, night: str, visit: int) -> None:
        """Record, before a visit is searched, that its alerts are owed."""
        try:
            with self._sink(alone=False) as sink:
                owed = sink.owed(self._settings.alerts.form)
                if not self._begun:
                    self._begun = True
                    for one in self._due(owed):
                        self._late.setdefault(one, None)
                owed.add(night, visit)
        except Exception as error:  # even a defect: the search goes on
            self._fail(f"alerts of night {night}", error)

    def visit(self, night: str, visit: int, since: float | None) -> None:
        """Send the unsent alerts of a visit and, while that succeeds, those left of earlier visits.

        Parameters
        ----------
        night, visit
            Night and number of the visit.
        since
            Time when the visit arrived, or ended, s since 1970; None: it is not known.
        """
        with self._lock:
            if self._late.get((night, visit)) is None:
                self._late[night, visit] = since
            self._send_all([(night, visit), *(one for one in list(self._late) if one != (night, visit))])

    def added_to(self, summary: RunSummary) -> RunSummary:
        """Try again to send what this and earlier runs left, and return the summary with the counts of alerts."""
        with self._lock:
            self._rest_until = 0.0
            if not summary.stopped:
                self._send_all(sorted(self._late.keys() | self._owed()))
            sent, lags, failed = sum(self._sent.values(), Sent()), sorted(self._lags), tuple(self._failed.values())
            self._sent, self._lags, self._failed, self._late = {}, [], {}, {}
        ranks = {f"p{share}": round(lags[ceil(share / 100 * len(lags)) - 1], 3) for share in (50, 95, 99) if lags}
        counts = AlertCounts(
            sent=sent.alerts,
            dead=sent.dead,
            held=sent.held,
            left=sent.left,
            lag_s=AlertLag(n=len(lags), **ranks) if lags else None,
        )
        return summary.model_copy(update={"alerts": counts, "alerts_failed": (*summary.alerts_failed, *failed)})

    def _owed(self) -> set[Visit]:
        """Return the visits that this and earlier runs left unsent."""
        try:
            with self._sink() as sink:
                return self._due(sink.owed(self._settings.alerts.form))
        except NightstrideError as error:
            self._fail("alerts", error)
            return set()

    def _due(self, owed: OwedVisits) -> set[Visit]:
        """Return the owed visits, of those given up only the ones whose inputs have changed since."""
        given_up = {(one.night, one.visit): one.made_from for one in owed.given_up()}
        now = self._made_from(given_up) if given_up else {}
        return (owed.all() - given_up.keys()) | {one for one, before in given_up.items() if now[one] != before}

    def _made_from(self, visits: Iterable[Visit]) -> dict[Visit, str]:
        return visit_digests(PublishedExposures(self._out), self._settings.association, visits)

    def _send_all(self, visits: Iterable[Visit]) -> None:
        """Send visits, until one fails for a reason that concerns all."""
        for one in visits:
            if monotonic() < self._rest_until or isinstance(self._send(*one), Misconfigured):
                return

    def _send(self, night: str, visit: int) -> Exception | None:
        """Send what is left of a visit; return the error, or None."""
        totals, form = PublishTotals(), self._settings.alerts.form
        since, sent = self._late.pop((night, visit), None), Sent()
        error: Exception | None = None
        try:
            with self._sink() as sink:
                totals.sink, owed = sink, sink.owed(form)
                turn = owed.turn(night, visit)
                try:
                    sent = sink.send(self._packets(totals, night, visit))
                except BadInput as failure:
                    totals.fail(night, visit, failure)
                lost = totals.lost.get((night, visit))
                error = sent.trouble or lost or next(iter(totals.failed), None)
                if error is None or isinstance(error, BadInput):  # which would be the same the next time
                    made_from = "" if lost is None else self._made_from([(night, visit)])[night, visit]
                    owed.settle(night, visit, turn, lost, made_from)
        except Exception as failure:  # even a defect: the results are published
            error = failure
        sent = replace(sent, dead=sent.dead + totals.refused)
        # This attempt has counted dead, held and waiting alerts again.
        before = replace(self._sent.get((night, visit), Sent()), dead=0, held=0, left=0)
        self._sent[night, visit] = before + replace(sent, trouble=None, times=())
        self._lags += [] if since is None else [when - since for when in sent.times]
        if sent.alerts:
            self._say(f"Sent {counted(sent.alerts, 'alert')} of visit {visit}.", logging.INFO)
        all_of, own = f"alerts of night {night}", f"alerts of visit {visit} of night {night}"
        if isinstance(error, BadInput):
            self._fail(own, error, self._way_out(night, visit) if (night, visit) in totals.lost else "")
        elif error is not None:
            self._late[night, visit] = since
            self._fail(all_of, error)
        else:
            self._failed.pop(own, None)
            if not any(one == night for one, _ in list(self._late)):
                self._failed.pop(all_of, None)
        return error

    def _packets(self, totals: PublishTotals, night: str, visit: int) -> Iterator[Packet]:
        try:
            yield from alert_packets(
                self._out, self._settings, self._settings.alerts.form, totals,
                nights=NightRange.of(night), visit=visit, complete=True,
            )  # fmt: skip
        except Misconfigured as error:
            if error.code != NO_NIGHT:  # no results of the night are published, or they were removed
                raise

    def _way_out(self, night: str, visit: int) -> str:
        command = f"nightstride alerts publish {self._out} --night {night} --visit {visit}"
        return f" Given up until its exposures or their association change; `{command}` tries again."

    def _fail(self, where: str, error: Exception, more: str = "") -> None:
        code = error.code if isinstance(error, NightstrideError) else type(error).__name__
        if isinstance(error, Retryable) and code != NOT_ASSOCIATED:
            self._rest_until = monotonic() + REST_S
        trouble = Trouble(uri=where, code=code, message=f"{where}: {error}{more}")
        if self._failed.get(where) != trouble:  # reported once, not for each visit
            self._say(f"not sent: {trouble.message}", logging.WARNING)
        self._failed[where] = trouble
