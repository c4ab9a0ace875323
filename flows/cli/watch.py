"""Command `nightstride watch`: search exposures as they arrive."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from flows.cli.command import console, say
from flows.cli.options import (
    AsJson,
    Config,
    LogFormat,
    Metrics,
    MetricsFile,
    Scheduler,
    Workers,
    cluster_overrides,
    conclude,
    observe_overrides,
    output_folder,
    refusals,
)
from flows.runtime.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from flows.inputs.folder_arrivals import Arrivals
    from flows.nights.progress import StreamProgress
    from flows.publish.receive import ReceivedSummary
    from flows.publish.row_filter import RowFilter
    from schemas.settings import Settings
    from schemas.summary import RunSummary


class Arriving(StrEnum):
    """Kind of what arrives."""

    EXPOSURES = "exposures"
    ALERTS = "alerts"


def watch(
    source: Annotated[str, typer.Argument(metavar="FOLDER|URL", help="Where they arrive; or kafka://HOST:PORT/TOPIC.")],
    out: Annotated[Path, typer.Option("--out", "-o", parser=output_folder, help="Output folder or s3:// URL.")],
    config: Config = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    deadline: Annotated[
        float | None, typer.Option(help="Time from a visit's first arrival until it is shed, s.")
    ] = None,
    still: Annotated[float, typer.Option(min=0, help="A file is ready when unchanged for so long, s.")] = 2.0,
    done_suffix: Annotated[
        str | None, typer.Option(help="Suffix of a file that marks one as ready instead, e.g. .done.")
    ] = None,
    poll: Annotated[float, typer.Option(min=0.05, help="Time between two looks at the folder, s.")] = 1.0,
    queue: Annotated[int, typer.Option(min=1, help="Files taken at a time, at most; the rest waits where it is.")] = 64,
    combine_after: Annotated[
        float, typer.Option(min=0, help="Time without arrivals after which nights are combined, s.")
    ] = 60.0,
    idle_exit: Annotated[
        float | None, typer.Option(min=0, help="Time without arrivals after which it ends, s.")
    ] = None,
    content: Annotated[
        Arriving, typer.Option(help="Kind of what arrives. Alerts: messages of a topic.")
    ] = Arriving.EXPOSURES,
    row_filter: Annotated[
        str | None, typer.Option("--filter", help='Condition on alerts, e.g. "reliability > 0.5 and trailLength > 2".')
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End with the last alert that is there when it begins.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="How long to wait for another run that holds OUT, s, or inf.")
    ] = 0.0,
    metrics: Metrics = None,
    metrics_file: MetricsFile = None,
    log_format: LogFormat = None,
    as_json: AsJson = False,
) -> None:
    """Search exposures as they arrive, until SIGTERM or Ctrl-C; or publish alerts that arrive in a topic.

    Work in progress is then finished within the setting watch.stop_s (10 s), or left to the next run; a second signal
    ends it at once. For alerts the only options are OUT, --filter, --idle-exit, --once, --wait and --config.

    Exit code 0: every exposure is published; 3: all except those in quarantine; 1: some were shed or failed, or a
    temporary problem prevents the work; 2: bad usage or configuration; 4: another run holds OUT.
    """
    from flows.nights.observation import observation
    from flows.nights.progress import StreamProgress
    from flows.runtime.settings import load_settings
    from flows.storage.lease import require_free
    from flows.storage.object_store import configure

    shown = console(stderr=True)
    with refusals(as_json):
        overrides = cluster_overrides(scheduler, workers, visit_deadline_s=deadline)
        settings = load_settings(config, {**overrides, **observe_overrides(metrics, metrics_file, log_format)})
        bounds = (queue, poll, combine_after, idle_exit)
        configure(settings.store)
        chosen = _filter(source, content, row_filter, once)
        if content is Arriving.ALERTS:
            ends = (idle_exit, once, wait)
            _conclude_received(_receive(source, out.resolve(), settings, chosen, ends, shown), as_json)
        if not wait:
            require_free(out.resolve())  # before reporting that its metrics port is taken
        with observation(settings, shown) as seen:
            progress = StreamProgress(shown, seen.meter)
            summary = _watch(source, still, done_suffix, bounds, out.resolve(), settings, wait, progress)
            seen.ended(summary, summary.exit_code, out.resolve())
    conclude(summary, as_json, out)


def _filter(source: str, content: Arriving, text: str | None, once: bool) -> "RowFilter | None":
    """Return the filter; raise if the filter, ``--once`` or the kind of arrivals does not fit the source."""
    from schemas.errors import Misconfigured

    if content is Arriving.ALERTS and not source.startswith("kafka://"):
        problem = "is not a topic, and alerts come from one."
        raise Misconfigured("no_topic", source, problem, "write kafka://HOST:PORT/TOPIC.")
    if once and content is Arriving.EXPOSURES:
        raise Misconfigured("bad_usage", "--once", "is of alerts.", "use nightstride run, or --idle-exit SECONDS.")
    if text is None:
        return None
    if content is Arriving.EXPOSURES:
        raise Misconfigured("bad_usage", "--filter", "is of alerts.", "add --content alerts, or leave it out.")
    from flows.publish.row_filter import RowFilter
    from schemas.received_alert import RECEIVED_ALERT

    return RowFilter(text, RECEIVED_ALERT)


def _watch(
    source: str,
    still: float,
    done_suffix: str | None,
    bounds: tuple[int, float, float, float | None],
    out: Path,
    settings: "Settings",
    wait: float,
    progress: "StreamProgress",
) -> "RunSummary":
    from flows.nights.cluster.startup import start_services
    from flows.nights.stream.stop import Stop
    from flows.runtime.secrets import refuse_credentials
    from flows.storage.lease import patient_lease

    refuse_credentials(source, "the URL to watch")
    arrivals = _arrivals(source, still, done_suffix)
    with Stop(settings.watch.stop_s, progress.say).listening() as stop, patient_lease(out, wait, progress.say):
        start_services(settings)  # later imports read from the environment which Prefect server to use
        from flows.nights.stream.stream import Bounds, run_stream

        if settings.alerts.to is None:
            return run_stream(source, arrivals, Bounds(*bounds), out, settings, progress, stop=stop)
        from flows.publish.publish import VisitAlerts

        outlet = VisitAlerts(out, settings, progress.say)
        return outlet.added_to(run_stream(source, arrivals, Bounds(*bounds), out, settings, progress, outlet, stop))


def _arrivals(source: str, still: float, done_suffix: str | None) -> "Arrivals":
    from schemas.errors import missing_extra

    if not source.startswith("kafka://"):
        from flows.inputs.folder_arrivals import FolderArrivals

        return FolderArrivals(source, still, done_suffix)
    try:
        from flows.inputs.kafka_arrivals import KafkaArrivals
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "kafka", "extra", source) from error
    return KafkaArrivals(source)


def _receive(
    source: str, out: Path, settings: "Settings", row_filter: "RowFilter | None",
    ends: tuple[float | None, bool, float], console: "Console",
) -> "ReceivedSummary":  # fmt: skip
    from schemas.errors import missing_extra

    try:
        from flows.publish.receive import receive_alerts
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "kafka,rubin", "extra", source) from error
    from functools import partial

    from flows.nights.stream.stop import Stop
    from flows.runtime.log import report_line

    (idle_exit, once, wait), say = ends, partial(report_line, console)
    with Stop(settings.watch.stop_s, say).listening() as stop:
        return receive_alerts(source, out, settings.alerts, row_filter, idle_exit, wait, say, stop, once=once)


def _conclude_received(summary: "ReceivedSummary", as_json: bool) -> NoReturn:
    """Report what was received, and exit."""
    for warning in summary.warnings:
        typer.echo(f"nightstride: {warning}", err=True)
    say(
        f"{counted(summary.messages, 'message')}, {counted(summary.dead, 'dead letter')}; "
        f"{counted(summary.alerts, 'alert')}: {summary.kept:,} kept, {summary.filtered:,} filtered out, "
        f"{summary.repeated:,} repeated.",
        err=as_json,
    )
    if as_json:
        typer.echo(summary.model_dump_json())
    raise typer.Exit(summary.exit_code)
