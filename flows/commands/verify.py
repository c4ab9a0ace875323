"""Command `nightstride verify OUT`: compare every published file with the ledger."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output_folder import output_folder


def verify(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Check every published file against the ledger; nothing is changed.

    Exit code 0: all is well; 1: there are problems, each listed with its remedy; 2: there is no such output folder.
    """
    from flows.catalogue_forms import declared_tables
    from flows.verify import verify as check
    from schemas.errors import Misconfigured

    try:
        result = check(out, declared_tables())
    except Misconfigured as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if result.running:
        typer.echo(f"A run holds {out}: {result.running}. What it is writing is left out of account.", err=True)
    for problem in result.problems:
        typer.echo(f"{problem.where}: {problem.problem} To fix, {problem.remedy}", err=as_json)
    verdict = f"{len(result.problems)} problems" if result.problems else "all is well"
    counts = f"{result.exposures} exposures, {result.nights} nights, {result.files} files, {result.tiles} tile stores"
    counts += f", {result.quarantined} quarantined" if result.quarantined else ""
    typer.echo(f"{counts}: {verdict}.", err=as_json)
    if as_json:
        typer.echo(json.dumps(result.summary()))
    raise typer.Exit(1 if result.problems else 0)
