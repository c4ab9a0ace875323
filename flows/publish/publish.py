"""Alerts of nights: exposure by exposure from an output folder, and what could not be sent."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from flows.publish.history import opened_history
from flows.publish.packet import Packet
from flows.publish.published import Published
from flows.publish.rubin_alert import RubinAlerts
from flows.publish.rubin_schema import parsed
from flows.publish.sinks import Sink
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.ledger import ExposureRecord
from schemas.settings import Settings

MOST_NAMED = 100
"""Failures that are kept word for word."""


class AlertMaker(Protocol):
    """Makes alerts of one form."""

    def packets(self, record: ExposureRecord, rows: pa.Table) -> Iterator[Packet]:
        """Yield the alerts of some detections, which have a place on the sky, of an exposure."""


@dataclass
class Tally:
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
        What was wrong with these, and with exposures that could not be read: the first `MOST_NAMED`.
    exposures_failed
        Number of those exposures.
    sink
        Knows which alerts are wanted, and keeps those that break rules; None: all are.
    """

    visits: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    failed: list[BadInput] = field(default_factory=list)
    exposures_failed: int = 0
    sink: Sink | None = None

    def refuse(self, packet: Packet, error: BadInput) -> None:
        """Count an alert that breaks the rules of its schema, and keep it as a dead letter."""
        self.refused += 1
        if self.sink is not None:
            self.sink.bury(packet, error)
        self._name(error)

    def fail(self, error: BadInput) -> None:
        """Count an exposure that could not be read."""
        self.exposures_failed += 1
        self._name(error)

    def _name(self, error: BadInput) -> None:
        if len(self.failed) < MOST_NAMED:
            self.failed.append(error)


def alert_packets(
    out: Path, settings: Settings, form: str, tally: Tally, *, night: str | None = None, visit: int | None = None
) -> Iterator[Packet]:
    """Yield the alerts of published detections by night, visit and detector.

    The same detections, with the same history, give the same bytes. No more than an exposure is in memory.

    Parameters
    ----------
    out, settings
        Output folder; where its association is, and how far back histories go.
    form
        Version of Rubin's schema.
    tally
        Counts what comes to nothing.
    night, visit
        Only of these.

    Raises
    ------
    Misconfigured
        There is no such night, the extra ``rubin`` is missing, or there is no such form.
    Retryable
        The association does not answer.
    """
    published = Published(out)
    with ExitStack() as stack:
        maker = _maker(stack, published, settings, form, tally)
        for label in published.nights(night):
            last = None
            for record in published.exposures(label):
                if visit is not None and record.visit != visit:
                    continue
                for packet in _of_exposure(maker, published, record, form, tally):
                    tally.visits += record.visit != last
                    last = record.visit
                    yield packet


def _maker(stack: ExitStack, published: Published, settings: Settings, form: str, tally: Tally) -> AlertMaker:
    parsed(form)  # which refuses what it does not know, before anything is read
    history = stack.enter_context(
        opened_history(published.out, published, settings.association, settings.alerts.history_days, form)
    )
    return RubinAlerts(published, history, settings.alerts, form, tally.refuse)


def _of_exposure(
    maker: AlertMaker, published: Published, record: ExposureRecord, form: str, tally: Tally
) -> Iterator[Packet]:
    try:
        rows = published.detections(record.key)
        placed = rows.filter(pc.is_valid(rows["ra"]))
        if missing := len(rows) - len(placed):
            tally.skipped["no_position"] += missing
        if tally.sink is not None:
            made_from = record.datasets[DIA_SOURCE.name].digest
            placed = placed.filter(
                pa.array(tally.sink.wanted(record.key, form, made_from, placed["diaSourceId"].to_pylist()), pa.bool_())
            )
        yield from maker.packets(record, placed)
    except BadInput as error:
        tally.fail(error)
