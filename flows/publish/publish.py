"""Alerts of nights: exposure by exposure from an output folder, and what could not be sent."""

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
    """Makes alerts of one form."""

    def packets(self, record: ExposureRecord, rows: pa.Table) -> Iterator[Packet]:
        """Yield the alerts of some detections, which have a place on the sky, of an exposure."""


@dataclass
class PublishTotals:
    """What became of detections and exposures while their alerts were read.

    Attributes
    ----------
    visits
        With alerts.
    skipped
        Reason -> detections of which no alert can be made.
    refused
        Detections whose alert breaks the rules of its schema.
    failed
        What was wrong with these, and with exposures that could not be read, each once:
        as `name_failure` adds them.
    exposures_failed
        Number of those exposures.
    lost
        Night and visit of them -> what was wrong first.
    sink
        Knows which alerts are wanted, and keeps those that break rules; None: all are.
    """

    visits: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    failed: list[BadInput] = field(default_factory=list)
    exposures_failed: int = 0
    lost: dict[Visit, BadInput] = field(default_factory=dict)
    sink: Sink | None = None

    def refuse(self, packet: Packet, error: BadInput) -> None:
        """Count an alert that breaks the rules of its schema, and keep it as a dead letter."""
        self.refused += 1
        if self.sink is not None:
            self.sink.bury(packet, error)
        name_failure(self.failed, error)

    def fail(self, night: str, visit: int, error: BadInput) -> None:
        """Count an exposure of which no alerts can be made."""
        self.exposures_failed += 1
        self.lost.setdefault((night, visit), error)
        name_failure(self.failed, error)

    def lack(self, error: BadInput) -> None:
        """Note what is missing in histories."""
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

    The same detections, with the same history, give the same bytes. No more than an exposure is in memory. Of a visit
    that is in two nights, which ids of detections do not tell apart, the first has alerts, and the other is told.

    Parameters
    ----------
    out, settings
        Output folder; where its association is, and how far back histories go.
    form
        Version of Rubin's schema.
    totals
        Counts what comes to nothing.
    nights, visit
        Only of these.
    complete
        As in `flows.publish.history.opened_history`.

    Raises
    ------
    Misconfigured
        There are no such nights, the extra ``rubin`` is missing, or there is no such form.
    Retryable
        The association does not answer, or lacks an exposure.
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
    if form != FORM:  # whose schema is our own: only histories need that package
        parsed(form)  # which refuses what it does not know, before anything is read
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


REST_S = 60.0
"""After a failure nothing is sent for so long, s: each attempt at a broker that is down takes its time-out."""


def send_published(
    sink: Sink, out: Path, settings: Settings, form: str, totals: PublishTotals, nights: NightRange, visit: int | None
) -> Sent:
    """Send the alerts of published detections, and settle the visits that a run has left owed or given up.

    One that is sent is so no longer; one of which an exposure has no alerts is given up, with the reason. While a run
    holds the folder it may still search what is owed, and settles that itself. Where not all have arrived, all stays.

    Parameters
    ----------
    sink
        Where to.
    out, settings, form, totals, nights, visit
        As in `alert_packets`.

    Raises
    ------
    Misconfigured, Retryable
        As in `alert_packets`; of the sink and the outbox.
    """
    totals.sink, owed = sink, sink.owed(form)
    left = owed.all() | {(one.night, one.visit) for one in owed.given_up()}
    turns = {one: owed.turn(*one) for one in left if one[0] in nights and visit in (None, one[1])}
    if holder_of(out) is not None:  # asked after the turns: a run that begins later has later ones
        turns = dict.fromkeys(turns, 0)
    sent = sink.send(alert_packets(out, settings, form, totals, nights=nights, visit=visit))
    if sent.left or sent.trouble is not None:
        return sent
    lost = {one: error for one, error in totals.lost.items() if one in turns}
    made_from = visit_digests(PublishedExposures(out), settings.association, lost) if lost else {}
    for one, turn in turns.items():
        owed.settle(*one, turn, lost.get(one), made_from.get(one, ""))
    return sent


class VisitAlerts:
    """Alerts of the visits of a run, sent as each is published; that it fails is told, and stops nothing.

    A visit is noted in the outbox before it is searched, and until all its alerts are sent: what is left when a run
    ends, however it does, the next one sends. One of which an exposure has no alerts, and would have none the next
    time, is told once and given up, with the reason, until its exposures or their association change.

    Parameters
    ----------
    out, settings
        Of the run; ``alerts.to`` says where to.
    say
        Receives a line for each visit, and how grave it is, a level of `logging`.

    Raises
    ------
    Misconfigured
        ``alerts.to`` is not a place that alerts can be sent to, or an extra is missing.
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
        """Note, before a visit is searched, that its alerts are to be sent."""
        try:
            with self._sink(alone=False) as sink:
                owed = sink.owed(self._settings.alerts.form)
                if not self._begun:
                    self._begun = True
                    for one in self._due(owed):
                        self._late.setdefault(one, None)
                owed.add(night, visit)
        except Exception as error:  # a defect, too: the search goes on
            self._fail(f"alerts of night {night}", error)

    def visit(self, night: str, visit: int, since: float | None) -> None:
        """Send the alerts of a visit that are not sent, and, while that succeeds, those that could not be before.

        Parameters
        ----------
        night, visit
            Which.
        since
            When it arrived, or ended, s since 1970; None: that is not known.
        """
        with self._lock:
            if self._late.get((night, visit)) is None:
                self._late[night, visit] = since
            self._send_all([(night, visit), *(one for one in list(self._late) if one != (night, visit))])

    def added_to(self, summary: RunSummary) -> RunSummary:
        """Try once more what was not sent, in this run or before, and add to a summary what became of its alerts."""
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
        """Return visits of which runs before have left something, too."""
        try:
            with self._sink() as sink:
                return self._due(sink.owed(self._settings.alerts.form))
        except NightstrideError as error:
            self._fail("alerts", error)
            return set()

    def _due(self, owed: OwedVisits) -> set[Visit]:
        """Return the visits that are owed; of those that were given up, the ones that are not as they were then."""
        given_up = {(one.night, one.visit): one.made_from for one in owed.given_up()}
        now = self._made_from(given_up) if given_up else {}
        return (owed.all() - given_up.keys()) | {one for one, before in given_up.items() if now[one] != before}

    def _made_from(self, visits: Iterable[Visit]) -> dict[Visit, str]:
        return visit_digests(PublishedExposures(self._out), self._settings.association, visits)

    def _send_all(self, visits: Iterable[Visit]) -> None:
        """Send visits until one fails as the others would."""
        for one in visits:
            if monotonic() < self._rest_until or isinstance(self._send(*one), Misconfigured):
                return

    def _send(self, night: str, visit: int) -> Exception | None:
        """Send what is left of a visit; return what was wrong."""
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
                if error is None or isinstance(error, BadInput):  # which will be the same the next time
                    made_from = "" if lost is None else self._made_from([(night, visit)])[night, visit]
                    owed.settle(night, visit, turn, lost, made_from)
        except Exception as failure:  # a defect, too: what is published is published
            error = failure
        sent = replace(sent, dead=sent.dead + totals.refused)
        # It has counted again what is dead, held or waits.
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
            if error.code != NO_NIGHT:  # of which nothing was published, or nothing is any more
                raise

    def _way_out(self, night: str, visit: int) -> str:
        command = f"nightstride alerts publish {self._out} --night {night} --visit {visit}"
        return f" Given up until its exposures or their association change; `{command}` tries again."

    def _fail(self, where: str, error: Exception, more: str = "") -> None:
        code = error.code if isinstance(error, NightstrideError) else type(error).__name__
        if isinstance(error, Retryable) and code != NOT_ASSOCIATED:
            self._rest_until = monotonic() + REST_S
        trouble = Trouble(uri=where, code=code, message=f"{where}: {error}{more}")
        if self._failed.get(where) != trouble:  # and not again for each visit
            self._say(f"not sent: {trouble.message}", logging.WARNING)
        self._failed[where] = trouble
