"""Commands `nightstride alerts …`: alerts made from the published results of a run."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.command import Commands, console, say, tell
from flows.cli.options import AsJson, Config, Nights, Out, refusals
from flows.cli.tables import show_rows
from flows.runtime.words import counted
from schemas.night_range import EVERY_NIGHT

if TYPE_CHECKING:
    from flows.publish.publish import PublishTotals
    from flows.publish.sinks import Sent

app = Commands(help="Send what was found as alerts, and look at alerts.", no_args_is_help=True)


class Form(StrEnum):
    """Schema of alerts."""

    RUBIN_11_1 = "11.1"
    RUBIN_11_0 = "11.0"
    RUBIN_10_0 = "10.0"
    ZTF = "ztf"


@app.callback()
def _group() -> None:
    """Send results as alerts, and examine alerts."""


@app.command("publish")
def publish(
    out: Out,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="kafka://HOST:PORT/TOPIC, s3://BUCKET/PREFIX, or a folder; default: settings."
        ),
    ] = None,
    night: Nights = None,
    visit: Annotated[int | None, typer.Option(help="Only this visit; by default all of the night.")] = None,
    form: Annotated[
        Form | None, typer.Option("--schema", help="Version of Rubin's schema, or ztf; default: settings.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="To a topic: also detections sent as another search had found them.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send an alert for each published detection that has a position on the sky, once.

    A folder receives one Avro object container <visit>.avro per visit; it is created if its parent exists.

    Exit code 0: all were delivered; 1: some are waiting, or could not be made, each with its reason; 2: bad usage; 3:
    all were delivered except dead letters.
    """
    from time import perf_counter

    from flows.publish.delivery import opened_sink
    from flows.publish.publish import PublishTotals, send_published
    from flows.runtime.settings import load_settings
    from flows.storage.layout import require_output
    from flows.storage.object_store import configure
    from schemas.errors import Misconfigured

    begun, totals = perf_counter(), PublishTotals()
    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        if (target := to or settings.alerts.to) is None:
            raise Misconfigured("no_target", "--to", "is not given.", "say where alerts go, or set alerts.to.")
        require_output(out)
        _require_place(target, "alerts.to" if to is None else "--to")
        with opened_sink(target, out, settings.alerts, again=again) as sink:
            schema = form or settings.alerts.form
            sent = send_published(sink, out, settings, schema, totals, night or EVERY_NIGHT, visit)
    _conclude(sent, totals, perf_counter() - begun, as_json)


def _require_place(target: str, option: str) -> None:
    """Refuse a folder whose parent does not exist; the folder itself may be missing."""
    from flows.storage.folder import require_folder

    if "://" not in target and not Path(target).is_dir():
        require_folder(Path(target), option)


def _conclude(sent: "Sent", totals: "PublishTotals", seconds: float, as_json: bool) -> None:
    """Report the fate of the alerts, and exit."""
    for error in totals.failed:
        typer.echo(f"nightstride: {error}", err=True)
    if sent.trouble is not None:
        typer.echo(f"nightstride: {sent.trouble}", err=True)
    dead = sent.dead + totals.refused
    words = [f"{counted(sent.alerts, 'alert')} of {counted(totals.visits, 'visit')}", f"{sent.bytes / 1e6:.1f} MB"]
    words += [f"{number:,} {name}" for name, number in _others(sent, totals).items() if number]
    say(f"{', '.join(words)}, in {seconds:.1f} s.", err=as_json)
    if as_json:
        typer.echo(json.dumps({
            "alerts": sent.alerts, "bytes": sent.bytes, "seconds": round(seconds, 3), "dead": dead,
            "kept": sent.kept, "held": sent.held, "left": sent.left, "visits": totals.visits,
            "skipped": dict(totals.skipped), "exposures_failed": totals.exposures_failed,
            "failed": [str(error) for error in totals.failed],
        }))  # fmt: skip
    raise typer.Exit(sent.exit_code or int(bool(totals.failed)))


def _others(sent: "Sent", totals: "PublishTotals") -> dict[str, int]:
    return {
        "sent before": sent.kept,
        "held, as another search had found them": sent.held,
        "dead": sent.dead,
        "waiting": sent.left,
        "not made": totals.refused,
        "without a place": totals.skipped["no_position"],
        "without a time": totals.skipped["no_time"],
        "exposures failed": totals.exposures_failed,
    }


@app.command("validate")
def validate(
    files: Annotated[list[Path], typer.Argument(help="Avro object containers, or messages with Confluent's header.")],
    as_json: AsJson = False,
) -> None:
    """Check alerts against Rubin's schemas; a field that is not in the schema is an error.

    Exit code 0: all are valid; 1: some are not, or a file is truncated; 2: a file does not exist.
    """
    from flows.publish.alert_file import validate_alerts

    with refusals(as_json):
        found = validate_alerts(files)
    for reason, number in sorted(found.reasons.items()):
        say(f"{number:,} x {reason}", err=as_json)
    words = f"{found.valid:,} valid, {found.invalid:,} invalid"
    say(f"{counted(found.files, 'file')}: {words}.", err=as_json)
    if as_json:
        typer.echo(json.dumps(found.values()))
    raise typer.Exit(int(found.invalid > 0))


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="Avro object container, or a message with Confluent's header.")],
    limit: Annotated[int, typer.Option(min=1, help="Alerts that are shown.")] = 5,
    skip: Annotated[int, typer.Option(min=0, help="Alerts that are passed over first.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show alerts as text: their fields that are not null, and a description of their cutouts.

    Exit code 0: shown; 2: the file does not exist, is damaged before the end, or holds no alerts.
    """
    from flows.publish.alert_file import read_alerts, shown

    with refusals(as_json):
        found = [(one.schema, shown(one.record)) for one in islice(read_alerts(file), skip, skip + limit)]
    if as_json:
        typer.echo(json.dumps({"alerts": [{"schema": name, **alert} for name, alert in found]}, default=str))
        return
    for number, (name, alert) in enumerate(found, skip + 1):
        identity = alert.get("diaSourceId", alert.get("candid", ""))
        typer.echo(f"alert {number}: {identity}, schema {name}")
        for line in field_lines(alert):
            typer.echo(f"  {line}")


def field_lines(values: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield one line per field; the fields of a record follow it, indented."""
    pad = "  " * depth
    for name, value in values.items():
        if isinstance(value, dict):
            yield f"{pad}{name}"
            yield from field_lines(value, depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{pad}{name} ({len(value)})"
            for one in value:
                yield f"{pad}  - {one.get('diaSourceId', one.get('diaForcedSourceId', one.get('candid', '')))}"
                yield from field_lines(one, depth + 2)
        else:
            yield f"{pad}{name:<31} {value}"


@app.command("replay")
def replay(
    out: Out,
    to: Annotated[str | None, typer.Option(metavar="URL", help="kafka://HOST:PORT/TOPIC; default: settings.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters again, unchanged; those that are delivered are removed.

    Exit code 0: all were delivered; 1: the broker is down; 2: bad usage; 3: some are still dead.
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
    say(words, err=as_json)
    if as_json:
        typer.echo(found.model_dump_json())
    raise typer.Exit(sent.exit_code)


@app.command("status")
def status(out: Out, config: Config = None, as_json: AsJson = False) -> None:
    """Count the alerts in the outbox for each sink: sent, waiting, dead; list reasons for those dead or given up.

    Exit code 0: nothing is waiting or dead; 1: some are waiting; 3: there are only dead letters or visits that were
    given up; 2: bad usage.
    """
    from flows.publish.delivery import outbox_to_read
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
        outbox = outbox_to_read(path)
        try:
            counts, letters, given_up = outbox.counts(), outbox.reasons(), outbox.given_up()
        finally:
            outbox.close()
    shown = console(stderr=as_json)
    show_rows(shown, ({"sink": sink, "form": form, **states} for (sink, form), states in counts.items()))
    show_rows(shown, ({"dead letters": code, "count": number} for code, number in letters.items()))
    for one in given_up:
        say(f"given up: visit {one.visit} of night {one.night}, to {one.sink} ({one.form}): {one.reason}", err=as_json)
    if as_json:
        routes = [{"sink": sink, "form": form, **states} for (sink, form), states in counts.items()]
        visits = [one._asdict() for one in given_up]
        typer.echo(json.dumps({"routes": routes, "letters": letters, "given_up": visits}))
    waits = any(one.get("waiting") or one.get("owed") for one in counts.values())
    raise typer.Exit(1 if waits else 3 if letters or given_up else 0)


@app.command("tail")
def tail(
    source: Annotated[str, typer.Argument(metavar="URL", help="kafka://HOST:PORT/TOPIC.")],
    most: Annotated[int | None, typer.Option("--max", min=1, help="Alerts that are shown; default: all.")] = None,
    idle_exit: Annotated[
        float, typer.Option(min=0, help="Time without messages after which it ends, s, or inf.")
    ] = 10.0,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="An alert a line, and the counts as the last.")] = False,
) -> None:
    """Show the alerts of a topic from its beginning: their fields that are not null, and what their cutouts are.

    It belongs to no consumer group and commits nothing. Exit code 0: shown; 3: some could not be read; 2: bad usage.
    """
    from flows.publish.alert_file import shown
    from flows.publish.registry import registry_of
    from flows.publish.wire import alerts_of
    from flows.runtime.secrets import refuse_credentials
    from flows.runtime.settings import load_settings
    from schemas.errors import NightstrideError

    found = dead = 0
    with refusals(as_json):
        refuse_credentials(source, "the URL")
        registry = registry_of(load_settings(config).alerts)
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
    return "\n".join((*field_lines(values), ""))


def _messages(source: str, idle_exit: float) -> Iterator[tuple[str, bytes]]:
    """Yield the partition and offset, and the value, of each message of a topic from its beginning."""
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
                    tell(f"waiting: {error}")
                told, messages = str(error), []
            if topic.joined and not joined:
                joined, last = True, monotonic()
            for message in messages:
                yield f"{message.partition()}/{message.offset()}", message.value() or b""
                last = monotonic()
    finally:
        topic.close()
