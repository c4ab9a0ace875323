"""Command `nightstride run`: search a night of exposures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.output_folder import output_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from flows.adapters.sources import Source
    from flows.plan import Plan
    from schemas.settings import Settings
    from schemas.summary import RunSummary


def run(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPOSURE|FOLDER|URL|MANIFEST|butler:REPO...", help="Difference images, or where they are."
        ),
    ],
    out: Annotated[
        Path, typer.Option(parser=output_folder, help="Output folder or s3:// URL; a rerun does what is left to do.")
    ],
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); default: nightstride.toml.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler; default: own workers.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: one per core.")] = None,
    where: Annotated[str | None, typer.Option(help='Of butler:REPO: expression, e.g. "visit > 3".')] = None,
    collections: Annotated[str | None, typer.Option(help="Of butler:REPO: in this order, with commas.")] = None,
    dataset_type: Annotated[str | None, typer.Option(help="Of butler:REPO: names or patterns, with commas.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Search difference images for moving objects, measure and publish what is found, and draw the night's page.

    Exit code 0: every exposure is published; 1: some were quarantined or failed; 2: bad usage or configuration.
    """
    from rich.console import Console

    from schemas.errors import NightstrideError

    console = Console(stderr=True)
    try:
        butler = _of_butler(inputs, where, collections, dataset_type)
        execution = {"scheduler": scheduler, "workers": workers}
        summary = _run(inputs, out, config, {"execution": execution, "butler": butler}, console)
    except NightstrideError as error:
        typer.echo(f"nightstride: {error}", err=True)
        raise typer.Exit(2) from error
    from flows.summary_table import show

    show(summary, console if as_json else Console())
    if as_json:
        typer.echo(summary.model_dump_json())
    raise typer.Exit(summary.exit_code)


def _of_butler(
    inputs: list[str], where: str | None, collections: str | None, dataset_type: str | None
) -> dict[str, object]:
    """Give the settings of a repository; refuse them where there is none, which would search all of a folder."""
    from flows.adapters.butler_repository import PREFIX, is_repository
    from schemas.errors import Misconfigured

    given: dict[str, object] = {
        "where": where,
        "collections": _split(collections),
        "dataset_types": _split(dataset_type),
    }
    if any(value is not None for value in given.values()) and not any(map(is_repository, inputs)):
        raise Misconfigured(
            "option",
            "--where, --collections, --dataset-type",
            f"are of Butler repositories, and none is among {', '.join(inputs)}.",
            f"write {PREFIX}REPO, or leave them out.",
        )
    return given


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


def _run(
    inputs: list[str],
    out: Path,
    config: Path | None,
    overrides: "Mapping[str, Mapping[str, object]]",
    console: "Console",
) -> "RunSummary":
    """Read settings and sources, plan under the lease, and run what is to be done."""
    from flows.adapters.lease import lease
    from flows.adapters.object_store import configure
    from flows.adapters.sources import list_sources
    from flows.settings_file import load_settings

    # Workers may have another working folder.
    out = out.resolve()
    settings = load_settings(config, overrides)
    configure(settings.store)
    sources = list_sources(inputs, settings)
    with lease(out):
        plan = _plan(sources, out, settings)
        if not plan.todo:
            return _nothing_to_search(plan, out, settings, console)
        return _search(plan, out, settings, console)


def _plan(sources: "Sequence[Source]", out: Path, settings: "Settings") -> "Plan":
    from flows.adapters.probe import probe
    from flows.plan import Planner
    from flows.source_digest import sha256_of
    from stages import PIPELINE

    return Planner(out, settings, PIPELINE, probe, sha256_of).plan(sources)


def _search(plan: "Plan", out: Path, settings: "Settings", console: "Console") -> "RunSummary":
    from flows.night_run import run_night
    from flows.progress import Progress

    with Progress(console, len(plan.todo)) as progress:
        progress.say(f"{len(plan.todo)} of {plan.seen} exposures to be searched; starting the workers.")
        return run_night(plan, out, settings, progress)


def _nothing_to_search(plan: "Plan", out: Path, settings: "Settings", console: "Console") -> "RunSummary":
    """Bring up to date what whole nights have; and their pages, if something on them may have changed."""
    from flows.night_catalogues import with_catalogues
    from flows.progress import Progress
    from flows.tally import summarise

    progress = Progress(console, 0)
    summary = with_catalogues(summarise(plan, ()), out, settings, progress)
    if summary.nights and (plan.quarantined or "objects" in summary.seconds):
        # What was published of an exposure may be withdrawn: the page must not show it any more.
        from flows.night_pages import with_reports

        return with_reports(summary, out, progress)
    pages = [out / "reports" / night / "index.html" for night in summary.nights]
    there = [str(page) for page in pages if page.exists()]
    return summary.model_copy(update={"report": there[-1] if there else None})
