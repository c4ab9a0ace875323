"""Command `nightstride status`: how it stands with an output folder."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals


def status(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    night: Annotated[str | None, typer.Argument(help="YYYYMMDD; by default every night in OUT.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Say of each night how many exposures are done, outdated, quarantined and failed, how late, with which models.

    Exit code 0: nothing is outdated, quarantined or failed; 1: something is; 2: there is no such folder or night,
    or it cannot be read.
    """
    from rich.console import Console

    from flows.status import read_status
    from flows.status_table import show_status

    with refusals(as_json):
        found = read_status(out, night)
    show_status(found, Console(stderr=as_json))
    if as_json:
        typer.echo(json.dumps(found.values()))
    raise typer.Exit(1 if any(one.troubles for one in found.nights) else 0)
