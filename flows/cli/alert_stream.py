"""Commands on alerts in topics, and on the outbox: `alerts replay|status|tail`, and `watch --content alerts`."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from flows.cli.options import counted, output_folder, refusals

if TYPE_CHECKING:
    from rich.console import Console

    from flows.publish.receive import ReceivedSummary
    from flows.publish.registry import SchemaRegistry
    from schemas.settings import Settings

Out = Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")]
Config = Annotated[Path | None, typer.Option(help="Settings file (TOML); default: nightstride.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]


def replay(
    out: Out,
    to: Annotated[str | None, typer.Option(metavar="URL", help="kafka://HOST:PORT/TOPIC; default: settings.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters once more, byte by byte; those that arrive are forgotten.

    Exit code 0: all have arrived; 1: the broker is down; 2: bad usage; 3: some are dead still.
    """
    from flows.publish.delivery import replay as replay_letters
    from flows.runtime.settings import load_settings
    from flows.storage.layout import require_output
    from schemas.errors import Misconfigured

    with refusals(as_json):
        settings = load_settings(config)
        if (target := to or settings.alerts.to) is None:
            raise Misconfigured("no_target", "--to", "is not given.", "say where they go, or set alerts.to.")
        require_output(out)
        found, sent = replay_letters(out, target, settings.alerts)
    if sent.trouble is not None:
        typer.echo(f"nightstride: {sent.trouble}", err=True)
    words = f"{counted(found.letters, 'dead letter')}: {found.sent:,} sent, {found.dead:,} dead, {found.left:,} left."
    typer.echo(words, err=as_json)
    if as_json:
        typer.echo(found.model_dump_json())
    raise typer.Exit(sent.exit_code)


def status(out: Out, config: Config = None, as_json: AsJson = False) -> None:
    """Count what the outbox holds for each sink: sent, waiting, dead; and dead letters with their reasons.

    Exit code 0: nothing waits and nothing is dead; 1: something waits; 3: there are dead letters only; 2: bad usage.
    """
    from flows.publish.outbox import Outbox
    from flows.runtime.settings import load_settings
    from flows.storage.bucket_path import BucketPath
    from flows.storage.layout import outbox_path
    from schemas.errors import Misconfigured

    with refusals(as_json):
        path = load_settings(config).alerts.outbox or outbox_path(out)
        if isinstance(path, BucketPath) or not path.is_file():
            raise Misconfigured(
                "no_outbox",
                str(path),
                "is not there: no alert was sent from here.",
                "send some: nightstride alerts publish.",
            )
        outbox = Outbox(path)
        try:
            counts, letters = outbox.counts(), outbox.reasons()
        finally:
            outbox.close()
    for (sink, form), states in counts.items():
        typer.echo(
            f"{sink} ({form}): " + ", ".join(f"{number:,} {state}" for state, number in states.items()), err=as_json
        )
    for code, number in letters.items():
        typer.echo(f"dead letters, {code}: {number:,}", err=as_json)
    if as_json:
        routes = [{"sink": sink, "form": form, **states} for (sink, form), states in counts.items()]
        typer.echo(json.dumps({"routes": routes, "letters": letters}))
    raise typer.Exit(1 if any(one.get("waiting") for one in counts.values()) else 3 if letters else 0)


def tail(
    source: Annotated[str, typer.Argument(metavar="URL", help="kafka://HOST:PORT/TOPIC.")],
    most: Annotated[int | None, typer.Option("--max", min=1, help="Alerts that are shown; default: all.")] = None,
    idle_exit: Annotated[float, typer.Option(min=0, help="Without messages so long, it ends, s, or inf.")] = 10.0,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="An alert a line, and the counts as the last.")] = False,
) -> None:
    """Show the alerts of a topic from its beginning: fields that are not null, and what their cutouts are.

    It reads in a group of nobody's, and commits nothing. Exit code 0: shown; 3: some could not be read; 2: bad usage.
    """
    from flows.publish.alert_file import shown
    from flows.publish.wire import alerts_of
    from flows.runtime.secrets import refuse_credentials
    from flows.runtime.settings import load_settings
    from schemas.errors import NightstrideError

    found = dead = 0
    with refusals(as_json):
        refuse_credentials(source, "the URL")
        registry = _registry(load_settings(config))
        for place, value in _messages(source, idle_exit):
            try:
                alerts = alerts_of(value, registry.schema)
            except NightstrideError as error:
                dead += 1
                typer.echo(f"{place}: {error}", err=True)
                continue
            for alert in alerts[: None if most is None else most - found]:
                values = {"message": place, "schema": alert.schema, **shown(alert.record)}
                typer.echo(json.dumps(values, default=str) if as_json else _text(values))
                found += 1
            if most is not None and found >= most:
                break
    if as_json:
        typer.echo(json.dumps({"alerts": found, "dead": dead}))
    raise typer.Exit(3 if dead else 0)


def _text(values: dict[str, object]) -> str:
    from flows.cli.alerts import lines_of

    return "\n".join((*lines_of(values), ""))


def _messages(source: str, idle_exit: float) -> Iterator[tuple[str, bytes]]:
    """Yield partition and offset, and value, of each message of a topic from its beginning."""
    from time import monotonic
    from uuid import uuid4

    from flows.publish.receive import JOIN_S, AlertTopic
    from schemas.errors import Retryable

    topic = AlertTopic(f"{source.partition('?')[0]}?group=nightstride-tail-{uuid4().hex}")
    try:
        last, told, joined = monotonic(), "", False
        while monotonic() - last < idle_exit + (0 if joined else JOIN_S):
            try:
                messages = topic.take()
            except Retryable as error:
                if str(error) != told:
                    typer.echo(f"waiting: {error}", err=True)
                told, messages = str(error), []
            if topic.joined and not joined:
                joined, last = True, monotonic()
            for message in messages:
                value = message.value() or b""
                yield f"{message.partition()}/{message.offset()}", value.encode() if isinstance(value, str) else value
                last = monotonic()
    finally:
        topic.close()


def _registry(settings: "Settings") -> "SchemaRegistry":
    from flows.publish.registry import SchemaRegistry

    return SchemaRegistry(settings.alerts.registry, settings.alerts.registry_timeout_s)


def receive_alerts(
    source: str, out: Path, settings: "Settings", row_filter: str | None, idle_exit: float | None, wait: float,
    console: "Console",
) -> "ReceivedSummary":  # fmt: skip
    """Read a topic of alerts into an output folder until SIGTERM or Ctrl-C.

    Parameters
    ----------
    source, out, settings
        From where, where to, and how.
    row_filter
        Which alerts are kept; None: all.
    idle_exit, wait
        As of ``nightstride watch``, s.
    console
        Receives how it goes.

    Raises
    ------
    Misconfigured, Retryable
        As in `flows.publish.receive.receive`; ``out`` is held, ``source`` is no topic, the filter is none.
    """
    from flows.publish.outbox import opened_outbox
    from flows.publish.receive import AlertCatalogue, AlertTopic, receive
    from flows.publish.row_filter import RowFilter
    from flows.runtime.log import tell
    from flows.runtime.secrets import refuse_credentials
    from flows.storage.lease import patient_lease
    from schemas.received_alert import RECEIVED_ALERT

    def say(text: str) -> None:
        tell(console, text)

    refuse_credentials(source, "the URL to watch")
    chosen = None if row_filter is None else RowFilter(row_filter, RECEIVED_ALERT)
    topic = AlertTopic(source)
    try:
        with patient_lease(out, wait, say), opened_outbox(out, settings.alerts.outbox) as outbox, _stop() as stopped:
            say(f"Reading alerts from {topic.name}.")
            catalogue = AlertCatalogue(out, topic.name, outbox, _registry(settings), chosen)
            return receive(topic, catalogue, stopped.is_set, idle_exit, say)
    finally:
        topic.close()


@contextmanager
def _stop() -> Iterator[Event]:
    """Give an event that SIGTERM and Ctrl-C set; a second signal ends the process."""
    asked = Event()
    if current_thread() is not main_thread():
        yield asked
        return

    def heard(number: int, _: object) -> None:
        asked.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def conclude_received(summary: "ReceivedSummary", as_json: bool) -> NoReturn:
    """Tell what was received, and exit."""
    for warning in summary.warnings:
        typer.echo(f"nightstride: {warning}", err=True)
    typer.echo(
        f"{counted(summary.messages, 'message')}, {counted(summary.dead, 'dead letter')}; "
        f"{counted(summary.alerts, 'alert')}: {summary.kept:,} kept, {summary.filtered:,} filtered out, "
        f"{summary.repeated:,} repeated.",
        err=as_json,
    )
    if as_json:
        typer.echo(summary.model_dump_json())
    raise typer.Exit(summary.exit_code)
