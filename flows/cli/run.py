"""Command `nightstride run`: search a night of exposures."""

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
    Scheduler,
    Workers,
    cluster_overrides,
    conclude,
    observe_overrides,
    output_folder,
    refusals,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from schemas.summary import RunSummary


def run(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPOSURE|FOLDER|URL|MANIFEST|butler:REPO...",
            help="Difference images or alert packets of ZTF, or where they are.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=output_folder, help="Output folder or s3:// URL; a rerun does what is left to do."
        ),
    ],
    config: Config = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER", help="Template of each image, or a folder with some: the inputs are science images."
        ),
    ] = None,
    tiles: Annotated[
        bool,
        typer.Option("--tiles", help="Write tiles again that are missing, as after prune, or damaged: all are read."),
    ] = False,
    where: Annotated[str | None, typer.Option(help='Of butler:REPO: expression, e.g. "visit > 3".')] = None,
    collections: Annotated[
        str | None, typer.Option(help="Collections of butler:REPO, in this order, with commas.")
    ] = None,
    dataset_type: Annotated[
        str | None, typer.Option(help="Dataset types of butler:REPO, names or patterns, with commas.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="How long to wait for another run that holds OUT, s, or inf.")
    ] = 0.0,
    metrics: Metrics = None,
    metrics_file: MetricsFile = None,
    log_format: LogFormat = None,
    as_json: AsJson = False,
) -> None:
    """Search difference images for moving objects, measure and publish what is found, and make the night's page.

    For alert packets of ZTF, files or tarballs of *.avro, the difference stamps are searched; ztf_packet_source has a
    row for each.

    Exit code 0: every exposure is published; 3: all except those in quarantine; 1: some failed, or a temporary problem
    prevents the work (e.g. a store is down); 2: bad usage or configuration; 4: another run holds OUT.
    """
    from flows.runtime.collector import collector_paused

    shown = console(stderr=True)
    with refusals(as_json), collector_paused():
        overrides = {**cluster_overrides(scheduler, workers), **observe_overrides(metrics, metrics_file, log_format)}
        overrides["butler"] = _of_butler(inputs, where, collections, dataset_type)
        summary = _run(inputs, template, tiles, out, config, overrides, wait, shown)
    conclude(summary, as_json, out)


def _of_butler(
    inputs: list[str], where: str | None, collections: str | None, dataset_type: str | None
) -> dict[str, object]:
    """Return the settings of a repository; refuse them for other inputs, for which they would be ignored."""
    given: dict[str, object] = {
        "where": where,
        "collections": _split(collections),
        "dataset_types": _split(dataset_type),
    }
    if all(value is None for value in given.values()):
        return given
    from flows.inputs.butler_repository import PREFIX, is_repository
    from schemas.errors import Misconfigured

    if not any(map(is_repository, inputs)):
        raise Misconfigured(
            "option",
            "--where, --collections, --dataset-type",
            f"are of Butler repositories, and none is among {', '.join(inputs)}.",
            f"write {PREFIX}REPO, or leave them out.",
        )
    return given


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


def _require_apart(inputs: list[str], out: Path) -> None:
    """Refuse an output folder that is also an input: catalogues and tiles would lie among the images."""
    from schemas.errors import Misconfigured

    for given in inputs:
        if "://" not in given and Path(given).exists() and Path(given).resolve() == out:
            raise Misconfigured(
                "out_is_input", "--out", f"{given} is an input, too.", "give a folder of its own for the results."
            )


def _refuse_template(template: str | None) -> None:
    from schemas.errors import Misconfigured

    if template is not None:
        raise Misconfigured(
            "option", "--template", "is for science images, and the inputs are alert packets.", "leave it out."
        )


def _run(
    inputs: list[str],
    template: str | None,
    tiles: bool,
    out: Path,
    config: Path | None,
    overrides: "Mapping[str, Mapping[str, object]]",
    wait_s: float,
    console: "Console",
) -> "RunSummary":
    """Read settings and sources, plan while holding the lease, and run the plan."""
    from flows.nights.cluster.startup import likely_packets, start_ahead, start_workers_ahead

    begin = not wait_s and all(Path(one).exists() for one in inputs) and not likely_packets(inputs)
    if begin and config is None and overrides["cluster"]["kind"] is None:
        start_workers_ahead(out)
    from flows.runtime.settings import load_settings
    from flows.storage.object_store import configure

    out = out.resolve()  # workers may have another working folder
    _require_apart(inputs, out)
    settings = load_settings(config, overrides)
    configure(settings.store)
    if begin:
        start_ahead(out, settings)
    from flows.inputs.packet_files import packet_files
    from flows.inputs.sources import list_sources
    from flows.nights.observation import observation
    from flows.runtime.log import report_line
    from flows.storage.lease import patient_lease, require_free

    if not wait_s:
        require_free(out)  # before reporting that its metrics port is taken, or listing an archive
    with observation(settings, console) as seen:
        if packets := packet_files(inputs):
            _refuse_template(template)
            with patient_lease(out, wait_s, partial(report_line, console)):
                from flows.nights.packet_run import search_packets

                summary = search_packets(packets, out, settings, console, seen.meter)
            seen.ended(summary, summary.exit_code, out)
            return summary
        if template is not None:
            from flows.inputs.template import require_subtraction

            require_subtraction()
        sources = list_sources(inputs, settings, template)
        with patient_lease(out, wait_s, partial(report_line, console)):
            start_ahead(out, settings)
            from flows.nights.run import search_exposures

            outlet = None
            if settings.alerts.to is not None:
                from flows.publish.publish import VisitAlerts

                outlet = VisitAlerts(out, settings, partial(report_line, console))
            summary = search_exposures(sources, out, settings, console, seen.meter, outlet, tiles=tiles)
            if outlet is not None:
                summary = outlet.added_to(summary)
        seen.ended(summary, summary.exit_code, out)
        return summary
