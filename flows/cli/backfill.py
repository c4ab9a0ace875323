"""Command `nightstride backfill`: search an archive of nights."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.command import console
from flows.cli.options import (
    AsJson,
    Config,
    LogFormat,
    Metrics,
    MetricsFile,
    Nights,
    Scheduler,
    Workers,
    cluster_overrides,
    conclude,
    night_argument,
    observe_overrides,
    output_folder,
    refusals,
)
from schemas.night_range import EVERY_NIGHT, NightRange

if TYPE_CHECKING:
    from rich.console import Console

    from flows.nights.stream.backfill import Archive
    from schemas.settings import Settings


First = Annotated[
    str | None,
    typer.Option("--from", parser=night_argument, metavar="YYYYMMDD", help="First night, in place of --night."),
]
Last = Annotated[
    str | None, typer.Option("--to", parser=night_argument, metavar="YYYYMMDD", help="Last night, included; likewise.")
]


def backfill(
    out: Annotated[Path, typer.Option("--out", "-o", parser=output_folder, help="Output folder or s3:// URL.")],
    archive: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders (with all below them), URLs, manifests or files; with --searched-with by default those that "
            "the ledger names."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--searched-with", help="Only what OUT has from this model: name, 'name version' or SHA-256."),
    ] = None,
    night: Nights = None,
    first: First = None,
    last: Last = None,
    config: Config = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    nice: Annotated[int, typer.Option(min=0, max=19, help="How far this gives way to other processes.")] = 10,
    pause: Annotated[float, typer.Option(min=0, help="Rest between nights, s; a run that waits gets in.")] = 5.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and why.")] = False,
    metrics: Metrics = None,
    metrics_file: MetricsFile = None,
    log_format: LogFormat = None,
    as_json: AsJson = False,
) -> None:
    """Search the nights of an archive that were not searched, or with other settings; the nightly run has priority.

    It may be stopped at any time, and the same command continues. Exit code 0: every exposure is published; 3: all
    except those in quarantine; 1: some failed, or a temporary problem prevents the work; 2: bad usage or
    configuration.
    """
    from flows.nights.observation import observation
    from flows.nights.stream.backfill import Backfill
    from flows.runtime.log import report_line
    from flows.runtime.settings import load_settings
    from flows.storage.object_store import configure

    shown = console(stderr=True)
    out = out.resolve()
    with refusals(as_json):
        overrides = observe_overrides(metrics, metrics_file, log_format)
        settings = load_settings(config, {**cluster_overrides(scheduler, workers), **overrides})
        with observation(settings, shown) as seen:
            configure(settings.store)
            nights = _survey(archive or [], model, out, settings, _range(night, first, last))
            if dry_run:
                _forecast(nights, out, settings, shown if as_json else console(), as_json)
                return
            _give_way(nice)  # summaries of nights take time, too, if all exposures were searched
            outlet = None
            if settings.alerts.to is not None:
                from flows.publish.publish import VisitAlerts

                outlet = VisitAlerts(out, settings, partial(report_line, shown))
            summary = Backfill(out, settings, shown, pause, meter=seen.meter, outlet=outlet).run(nights)
            if outlet is not None:
                summary = outlet.added_to(summary)
            seen.ended(summary, summary.exit_code, out)
    conclude(summary, as_json, out)


def _range(night: NightRange | None, first: str | None, last: str | None) -> NightRange:
    """Return the nights from ``--night``, or from ``--from`` and ``--to``."""
    from schemas.errors import Misconfigured

    if first is None and last is None:
        return night or EVERY_NIGHT
    if night is not None:
        raise typer.BadParameter("--night says which nights: leave out --from and --to.")
    if first is not None and last is not None and last < first:
        raise Misconfigured("dates", "--to", f"{last} is before --from {first}.", "name the earlier night first.")
    return NightRange(first, last)


def _survey(archive: list[str], model: str | None, out: Path, settings: "Settings", nights: NightRange) -> "Archive":
    from flows.inputs.sources import list_sources
    from flows.nights.stream.backfill import survey
    from flows.results.model_use import recorded_sources, searched_with

    if model is None and not archive:
        raise typer.BadParameter("name an archive, or a model with --searched-with.")
    wanted = searched_with(out, model) if model is not None else None
    sources = list_sources(archive, settings) if archive or wanted is None else recorded_sources(out, wanted, settings)
    return survey(sources, out, settings, nights.first, nights.last, wanted)


def _forecast(nights: "Archive", out: Path, settings: "Settings", console: "Console", as_json: bool) -> None:
    from flows.nights.stream import backfill as forecast

    found = [one for _, sources in nights.portions for one in forecast.forecast(sources, out, settings)]
    found += forecast.failing(nights.missing)
    forecast.show_forecast(found, console)
    if as_json:
        typer.echo(json.dumps(forecast.as_json(found)))


def _give_way(nice: int) -> None:
    """Lower the priority of this process, and thus of workers and servers that it starts."""
    import os

    os.nice(max(0, nice - os.nice(0)))
