"""Commands `nightstride alerts …`: alerts of what a run has published."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.alert_stream import replay, status, tail
from flows.cli.options import counted, output_folder, refusals

if TYPE_CHECKING:
    from flows.publish.publish import Tally
    from flows.publish.sinks import Sent

app = typer.Typer(help="Send what was found as alerts, and look at alerts.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]


app.command()(replay)
app.command()(status)
app.command()(tail)


class Form(StrEnum):
    """Form of alerts."""

    RUBIN_11_1 = "11.1"
    RUBIN_11_0 = "11.0"
    RUBIN_10_0 = "10.0"
    ZTF = "ztf"


@app.callback()
def _group() -> None:
    """Send what was found as alerts, and look at alerts."""


@app.command("publish")
def publish(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="kafka://HOST:PORT/TOPIC, s3://BUCKET/PREFIX, or a folder; default: settings."
        ),
    ] = None,
    night: Annotated[str | None, typer.Option(help="YYYYMMDD; by default every night in OUT.")] = None,
    form: Annotated[
        Form | None, typer.Option("--schema", help="Version of Rubin's schema, or ztf; default: settings.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="To a topic: also detections sent as another search had found them.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); default: nightstride.toml.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send an alert for each published detection that has a place on the sky, once.

    A folder gets an Avro object container <visit>.avro for each visit. Exit code 0: all have arrived; 1: some wait, or
    could not be made, each with its reason; 2: bad usage; 3: all have arrived but for dead letters.
    """
    from time import perf_counter

    from flows.publish.delivery import opened_sink
    from flows.publish.publish import Tally, alert_packets
    from flows.runtime.settings import load_settings
    from flows.storage.layout import require_output
    from flows.storage.object_store import configure
    from schemas.errors import Misconfigured

    begun, tally = perf_counter(), Tally()
    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        if (target := to or settings.alerts.to) is None:
            raise Misconfigured("no_target", "--to", "is not given.", "say where alerts go, or set alerts.to.")
        require_output(out)
        with opened_sink(target, out, settings.alerts, again=again) as sink:
            tally.sink = sink
            sent = sink.send(alert_packets(out, settings, (form or settings.alerts.form), tally, night=night))
    _conclude(sent, tally, perf_counter() - begun, as_json)


def _conclude(sent: "Sent", tally: "Tally", seconds: float, as_json: bool) -> None:
    """Tell what became of alerts, and exit."""
    for error in tally.failed:
        typer.echo(f"nightstride: {error}", err=True)
    if sent.trouble is not None:
        typer.echo(f"nightstride: {sent.trouble}", err=True)
    dead = sent.dead + tally.refused
    words = [f"{counted(sent.alerts, 'alert')} of {counted(tally.visits, 'visit')}", f"{sent.bytes / 1e6:.1f} MB"]
    words += [f"{number:,} {name}" for name, number in _others(sent, tally).items() if number]
    typer.echo(f"{', '.join(words)}, in {seconds:.1f} s.", err=as_json)
    if as_json:
        typer.echo(json.dumps({
            "alerts": sent.alerts, "bytes": sent.bytes, "seconds": round(seconds, 3), "dead": dead,
            "kept": sent.kept, "held": sent.held, "left": sent.left, "visits": tally.visits,
            "skipped": dict(tally.skipped), "exposures_failed": tally.exposures_failed,
            "failed": [str(error) for error in tally.failed],
        }))  # fmt: skip
    raise typer.Exit(sent.exit_code or int(bool(tally.failed)))


def _others(sent: "Sent", tally: "Tally") -> dict[str, int]:
    return {
        "sent before": sent.kept,
        "held, as another search had found them": sent.held,
        "dead": sent.dead,
        "waiting": sent.left,
        "not made": tally.refused,
        "without a place": tally.skipped["no_position"],
        "exposures failed": tally.exposures_failed,
    }


@app.command("validate")
def validate(
    files: Annotated[list[Path], typer.Argument(help="Avro object containers, or messages with Confluent's header.")],
    as_json: AsJson = False,
) -> None:
    """Check alerts against Rubin's schemas; a field that the schema does not have is an error.

    Exit code 0: all are valid; 1: some are not, or a file ends early; 2: a file is not there.
    """
    from flows.publish.alert_file import validate_alerts

    with refusals(as_json):
        found = validate_alerts(files)
    for reason, number in sorted(found.reasons.items()):
        typer.echo(f"{number:,} x {reason}", err=as_json)
    words = f"{found.valid:,} valid, {found.invalid:,} invalid"
    typer.echo(f"{counted(found.files, 'file')}: {words}.", err=as_json)
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
    """Show alerts as text: fields that are not null, and what their cutouts are.

    Exit code 0: shown; 2: the file is not there, is damaged before the end, or holds no alerts.
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
        for line in lines_of(alert):
            typer.echo(f"  {line}")


def lines_of(values: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield a line for each field, those of a record below it, further in."""
    pad = "  " * depth
    for name, value in values.items():
        if isinstance(value, dict):
            yield f"{pad}{name}"
            yield from lines_of(value, depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{pad}{name} ({len(value)})"
            for one in value:
                yield f"{pad}  - {one.get('diaSourceId', one.get('diaForcedSourceId', one.get('candid', '')))}"
                yield from lines_of(one, depth + 2)
        else:
            yield f"{pad}{name:<32}{value}"
