"""Command `nightstride watch`: search exposures as they arrive."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import (
    LogFormat,
    Metrics,
    MetricsFile,
    cluster_overrides,
    conclude,
    observe_overrides,
    output_folder,
    refusals,
)

if TYPE_CHECKING:
    from flows.inputs.folder_arrivals import Arrivals
    from flows.nights.progress import StreamProgress
    from schemas.settings import Settings
    from schemas.summary import RunSummary


class Content(StrEnum):
    """What arrives."""

    EXPOSURES = "exposures"
    ALERTS = "alerts"


def watch(
    source: Annotated[str, typer.Argument(metavar="FOLDER|URL", help="Where they arrive; or kafka://HOST:PORT/TOPIC.")],
    out: Annotated[Path, typer.Option(parser=output_folder, help="Output folder or s3:// URL.")],
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); default: nightstride.toml.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler, tcp://… or tls://…; default: own workers.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: one per core.")] = None,
    deadline: Annotated[float | None, typer.Option(help="From a visit's first arrival until it is shed, s.")] = None,
    still: Annotated[float, typer.Option(min=0, help="A file is ready when unchanged for so long, s.")] = 2.0,
    done_suffix: Annotated[
        str | None, typer.Option(help="Or: when there is a file of its name and this suffix, e.g. .done.")
    ] = None,
    poll: Annotated[float, typer.Option(min=0.05, help="Between two looks, s.")] = 1.0,
    queue: Annotated[int, typer.Option(min=1, help="Files taken at a time, at most; the rest waits where it is.")] = 64,
    quiet: Annotated[float, typer.Option(min=0, help="Without arrivals so long, nights are combined, s.")] = 60.0,
    idle_exit: Annotated[float | None, typer.Option(min=0, help="Without arrivals so long, it ends, s.")] = None,
    content: Annotated[Content, typer.Option(help="What arrives. Alerts: messages of a topic.")] = Content.EXPOSURES,
    row_filter: Annotated[
        str | None, typer.Option("--filter", help='Of alerts, e.g. "reliability > 0.5 and trailLength > 2".')
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="How long to wait for another run that holds OUT, s, or inf.")
    ] = 0.0,
    metrics: Metrics = None,
    metrics_file: MetricsFile = None,
    log_format: LogFormat = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Search exposures as they arrive, until SIGTERM or Ctrl-C; or publish alerts that arrive in a topic.

    Then what is on its way is finished; a second signal ends it at once. Of alerts there are no other options than OUT,
    --filter, --idle-exit, --wait and --config.

    Exit code 0: every exposure is published; 3: all but those in quarantine; 1: some were shed or failed, or
    nothing could be done now but may be later; 2: bad usage or configuration; 4: another run holds OUT.
    """
    from rich.console import Console

    from flows.cli.alert_stream import conclude_received, receive_alerts
    from flows.nights.observation import observation
    from flows.nights.progress import StreamProgress
    from flows.runtime.settings import load_settings
    from flows.storage.lease import require_free
    from flows.storage.object_store import configure

    console = Console(stderr=True)
    with refusals(as_json):
        overrides = cluster_overrides(scheduler, workers, visit_deadline_s=deadline)
        settings = load_settings(config, {**overrides, **observe_overrides(metrics, metrics_file, log_format)})
        bounds = (queue, poll, quiet, idle_exit)
        configure(settings.store)
        _require_fitting(source, content, row_filter)
        if content is Content.ALERTS:
            received = receive_alerts(source, out.resolve(), settings, row_filter, idle_exit, wait, console)
            conclude_received(received, as_json)
        if not wait:
            require_free(out.resolve())  # before the port of its metrics is found taken
        with observation(settings, console) as seen:
            progress = StreamProgress(console, seen.meter)
            summary = _watch(source, still, done_suffix, bounds, out.resolve(), settings, wait, progress)
            seen.ended(summary, summary.exit_code, out.resolve())
    conclude(summary, as_json)


def _require_fitting(source: str, content: Content, row_filter: str | None) -> None:
    from schemas.errors import Misconfigured

    if content is Content.ALERTS and not source.startswith("kafka://"):
        raise Misconfigured(
            "no_topic", source, "is no topic, and alerts come from one.", "write kafka://HOST:PORT/TOPIC."
        )
    if content is Content.EXPOSURES and row_filter is not None:
        raise Misconfigured("bad_usage", "--filter", "is of alerts.", "add --content alerts, or leave it out.")


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
    from flows.runtime.secrets import refuse_credentials
    from flows.storage.lease import patient_lease

    refuse_credentials(source, "the URL to watch")
    arrivals = _arrivals(source, still, done_suffix)
    with patient_lease(out, wait, progress.say):
        start_services(settings)  # what is imported below reads in the environment which Prefect server it has
        from flows.nights.stream.stream import Bounds, run_stream

        return run_stream(source, arrivals, Bounds(*bounds), out, settings, progress)


def _arrivals(source: str, still: float, done_suffix: str | None) -> "Arrivals":
    from schemas.errors import Misconfigured

    if not source.startswith("kafka://"):
        from flows.inputs.folder_arrivals import FolderArrivals

        return FolderArrivals(source, still, done_suffix)
    try:
        from flows.inputs.kafka_arrivals import KafkaArrivals
    except ModuleNotFoundError as error:
        raise Misconfigured(
            "extra", source, f"{error.name} is not installed.", "pip install 'nightstride[kafka]'."
        ) from error
    return KafkaArrivals(source)
