"""Command `nightstride fetch`: exposures from public archives."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.command import Commands, console
from flows.cli.options import AsJson, Config, refusals
from flows.runtime.words import counted

if TYPE_CHECKING:
    from datetime import date

    from rich.console import Console

    from flows.inputs.archive.client import ArchiveClient
    from flows.inputs.archive.ztf_fetch import FetchPlan
    from flows.inputs.archive.ztf_search import ZtfSearch
    from schemas.archive_settings import FetchSettings
    from schemas.summary import FetchSummary


app = Commands(help="Download exposures from a public archive.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Download exposures from a public archive."""


@app.command("ztf")
def ztf(
    first: Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", help="First night: date of its evening.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files; a rerun fetches what is missing.")],
    last: Annotated[
        str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last night; default: the first.")
    ] = None,
    fields: Annotated[list[int] | None, typer.Option("--field", help="Number of a field; may be repeated.")] = None,
    bands: Annotated[list[str] | None, typer.Option("--filter", help="g, r or i; may be repeated.")] = None,
    ccds: Annotated[list[int] | None, typer.Option("--ccdid", help="1 to 16; may be repeated.")] = None,
    quadrants: Annotated[list[int] | None, typer.Option("--qid", help="1 to 4; may be repeated.")] = None,
    science: Annotated[bool, typer.Option(help="Fetch the science images too, which show what is a star.")] = True,
    template: Annotated[bool, typer.Option(help="Fetch the reference images too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be fetched, with sizes.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Fetch ZTF's difference images with their masks, PSFs and science images, ready for `nightstride run`.

    Exit code 0: all files in the archive are here; 1: some could not be fetched; 2: bad usage or configuration.
    """
    import asyncio

    from flows.inputs.archive.ztf_search import ZtfSearch
    from flows.runtime.settings import load_settings

    shown = console(stderr=True)
    products = ("mask", "psf", *(("science",) if science else ()), *(("template",) if template else ()))
    with refusals(as_json):
        begin = _date(first, "--from")
        search = ZtfSearch(
            begin,
            begin if last is None else _date(last, "--to"),
            tuple(fields or ()),
            tuple(bands or ()),
            tuple(ccds or ()),
            tuple(quadrants or ()),
        )
        settings = load_settings(config).fetch
        summary = asyncio.run(_fetch(search, products, out.resolve(), settings, shown, dry_run))
    _show(summary, dry_run, shown if as_json else console())
    if as_json:
        typer.echo(summary.model_dump_json())
    raise typer.Exit(summary.exit_code)


async def _fetch(
    search: "ZtfSearch",
    products: tuple[str, ...],
    folder: Path,
    settings: "FetchSettings",
    console: "Console",
    dry_run: bool,
) -> "FetchSummary":
    from contextlib import nullcontext
    from time import perf_counter

    from flows.inputs.archive.client import ArchiveClient
    from flows.inputs.archive.ztf_fetch import require_room
    from flows.storage.lease import lease
    from schemas.summary import FetchSummary

    started = perf_counter()
    async with ArchiveClient(settings) as client:
        with nullcontext() if dry_run else lease(folder):
            plan, listed = await _plan(client, search, products, folder, console)
            summary = FetchSummary(
                nights=len(search.nights),
                exposures=listed,
                whole=plan.whole,
                not_in_archive=plan.absent,
                left=len(plan.todo),
                files=len(plan.pieces),
                bytes=plan.bytes,
                failed=plan.failed,
            )
            if dry_run:
                _list(plan, folder)
            elif plan.todo:
                require_room(plan, folder, settings.max_gib)
                summary = await _download(client, plan, folder, summary, console)
        return summary.model_copy(update={"seconds": round(perf_counter() - started, 3), "received": client.received})


async def _plan(
    client: "ArchiveClient", search: "ZtfSearch", products: tuple[str, ...], folder: Path, console: "Console"
) -> tuple["FetchPlan", int]:
    from rich.progress import Progress

    from flows.inputs.archive.ztf_fetch import listed, plan_fetch

    quadrants = await listed(client, search)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("looking", total=len(quadrants))
        return await plan_fetch(client, quadrants, products, folder, lambda: bar.advance(task)), len(quadrants)


async def _download(
    client: "ArchiveClient", plan: "FetchPlan", folder: Path, summary: "FetchSummary", console: "Console"
) -> "FetchSummary":
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from flows.inputs.archive.ztf_fetch import fetch
    from schemas.summary import FetchSummary

    console.print(f"{counted(summary.files, 'file')}, {summary.bytes / 1e6:.1f} MB, to be fetched.", highlight=False)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("fetching", total=plan.bytes)
        done = await fetch(client, plan, folder, lambda count: bar.advance(task, count))
    return FetchSummary.model_validate(
        summary.model_dump()
        | {
            "whole": summary.whole + done.whole,
            "left": 0,
            "files": len(done.files),
            "bytes": sum(piece.file.size for piece in done.files),
            "failed": (*summary.failed, *done.failed),
        }
    )


def _list(plan: "FetchPlan", folder: Path) -> None:
    for piece in plan.pieces:
        typer.echo(f"{piece.file.size:>12}  {piece.target.relative_to(folder)}")


def _show(summary: "FetchSummary", dry_run: bool, console: "Console") -> None:
    """Print what was fetched, or would be."""
    for trouble in summary.failed:
        console.print(f"failed: {trouble.message}", highlight=False, markup=False, soft_wrap=True)
    what = "would be fetched" if dry_run else "fetched"
    console.print(
        f"{counted(summary.exposures, 'exposure')} in {counted(summary.nights, 'night')}: {summary.whole} whole, "
        f"{summary.left} to be fetched, {summary.not_in_archive} without a difference image in the archive, "
        f"{len(summary.failed)} failed; {counted(summary.files, 'file')} of {summary.bytes / 1e6:.1f} MB {what}.",
        highlight=False,
        soft_wrap=True,
    )


def _date(text: str, option: str) -> "date":
    from datetime import date

    from schemas.errors import Misconfigured

    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Misconfigured(
            "dates", option, f"{text!r} is not a date.", "write it as 2018-04-01 or 20180401."
        ) from error
