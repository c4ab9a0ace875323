"""Commands ``nightstride backup`` and ``nightstride restore``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import counted, output_folder, refusals

Services = Annotated[
    Path | None, typer.Option(help="Also the database of the Prefect server of these services (services up DIR).")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]

DUMP = "prefect.sql"
"""File of the database in a backup."""


def backup(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder of a run.")],
    to: Annotated[Path, typer.Argument(help="Folder of the backup; what is there and unchanged is kept.")],
    services: Services = None,
    as_json: AsJson = False,
) -> None:
    """Copy what only another search could replace: catalogues, ledger, quarantine, pages. A run may go on meanwhile.

    Exit code 0: copied; 1: the disk is full; 2: there is no such output folder, or it cannot be written.
    """
    from flows.results.backup import backup_output

    with refusals(as_json):
        copied = backup_output(out, to)
        if services is not None:
            from flows.nights.services.folder import opened
            from flows.nights.services.processes import Postgres

            Postgres(opened(services)).dump(to / DUMP)
    typer.echo(
        f"{counted(copied.files, 'file')} copied, {copied.bytes / 1e6:.1f} MB; {copied.kept:,} unchanged.", err=True
    )
    if as_json:
        typer.echo(json.dumps(asdict(copied)))


def restore(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="Folder of a backup.")],
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder, which holds no results yet.")],
    services: Services = None,
    as_json: AsJson = False,
) -> None:
    """Copy a backup to a new output folder, and verify it.

    Exit code 0: all is well; 1: there are problems, each with its remedy; 2: no such backup, or OUT holds results.
    """
    from flows.pipeline.graph import declared_tables
    from flows.results.backup import restore_output

    with refusals(as_json):
        if services is not None:  # first: it may be refused, and the folder is filled once
            from flows.nights.services.folder import opened
            from flows.nights.services.stack import load_database

            load_database(opened(services), source / DUMP)
        copied, found = restore_output(source, out, declared_tables())
    for problem in found.problems:
        typer.echo(str(problem), err=as_json)
    typer.echo(
        f"{counted(copied.files, 'file')} restored, {counted(found.exposures, 'exposure')}, "
        f"{counted(len(found.problems), 'problem')}.",
        err=True,
    )
    if as_json:
        typer.echo(json.dumps(asdict(copied) | {"problems": len(found.problems)}))
    raise typer.Exit(1 if found.problems else 0)
