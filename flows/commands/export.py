"""Command `nightstride export OUT`: published catalogues in the formats of other programs."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals


class Format(StrEnum):
    """What to write."""

    VOTABLE = "votable"
    HATS = "hats"


def export(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    to: Annotated[Path, typer.Option(help="File (votable) or folder (hats) to write.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset: object, dia_source, ...")] = "object",
    form: Annotated[
        Format, typer.Option("--format", help="votable: TOPCAT, Aladin; hats: LSDB, needs the extra hats.")
    ] = Format.VOTABLE,
    night: Annotated[str | None, typer.Option(help="YYYYMMDD; by default every night in OUT.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Write all that is published of a dataset in a format that other programs read.

    Exit code 0: written; 2: there is no such dataset or folder, or it cannot be written.
    """
    from flows.adapters.writable_folder import writable_folder
    from flows.catalogue_forms import declared_tables
    from flows.export.published import published_files, published_table

    tables = declared_tables()
    with refusals(as_json):
        files = published_files(out, dataset, tables, night)
        writable_folder(to.absolute().parent, "--to")
        if form is Format.HATS:
            from flows.export.hats import write_hats

            rows = write_hats(to, tables[dataset], files)
        else:
            from flows.export.votable import write_votable

            table = published_table(files, tables[dataset])
            write_votable(to, tables[dataset], table)
            rows = len(table)
    typer.echo(f"{rows} rows of {dataset}, {len(files)} files: {to}", err=as_json)
    if as_json:
        typer.echo(json.dumps({"dataset": dataset, "format": form.value, "rows": rows, "path": str(to)}))
