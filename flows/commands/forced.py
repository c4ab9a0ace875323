"""Command `nightstride forced`: fluxes and upper limits at places that are known."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals


def forced(
    targets: Annotated[Path, typer.Argument(help="List of targets: CSV, ECSV or Parquet; see docs/forced.md.")],
    out: Annotated[
        Path, typer.Option(parser=output_folder, help="Output folder or s3:// URL of a run, with its tiles.")
    ],
    night: Annotated[str | None, typer.Option(help="YYYYMMDD; by default every night in OUT.")] = None,
    sigma: Annotated[
        float, typer.Option(min=1.0, max=10.0, help="Of the upper limits; what has this S/N is a detection.")
    ] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Measure the flux of each target on every exposure that covers it, seen or not, and publish it.

    Exit code 0: all done; 1: some rows of the list or some exposures could not be used; 2: bad usage or list.
    """
    from rich.console import Console
    from rich.progress import track

    from flows.adapters.lease import lease
    from flows.forced.forced_run import measure_night, searched, summarise
    from flows.forced.forced_table import FirstRows, show, tell
    from flows.forced.target_file import read_target_file
    from flows.forced.targets import targets_of

    console, rows = Console(stderr=True), FirstRows()
    with refusals(as_json):
        known, left_out = targets_of(read_target_file(targets))
        searched(out, night)  # before the lease, which would make the folder
        with lease(out.resolve()):
            records = searched(out, night)
            measured = measure_night(out, known, records, sigma)
            shown = track(measured, "exposures", len(records), console=console, disable=not console.is_terminal)
            summary = summarise(known, left_out, shown, rows)
    tell(summary, console)
    show(summary, rows.table, console if as_json else Console())
    if as_json:
        typer.echo(summary.model_dump_json())
    raise typer.Exit(summary.exit_code)
