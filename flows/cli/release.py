"""Command that freezes a data release."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import counted, output_folder, refusals


def release(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    name: Annotated[str, typer.Option(help="Of the release: DR1.")],
    to: Annotated[Path, typer.Option(help="Folder of the release, which is made.")],
    night: Annotated[
        str | None, typer.Option(metavar="YYYYMMDD[..YYYYMMDD]", help="Night, or first and last; default: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Freeze nights as a data release: catalogues, ledger, settings, models and the SHA-256 of every file.

    It is opened and looked at like OUT, and checked by `nightstride verify FOLDER`; runs on OUT never change it. Exit
    code 0: frozen; 1: the disk is full; 2: bad usage, or what is published is not whole; 4: a run holds OUT.
    """
    from flows.pipeline.graph import declared_tables
    from flows.results.release import freeze_release

    first, several, last = (night or "").partition("..")
    with refusals(as_json):
        made = freeze_release(out, to, name, declared_tables(), first or None, (last if several else first) or None)
    note = made.note
    for model in note.weights_missing:
        typer.echo(f"{model}: its weights are not where the settings say; the release holds its card only.", err=True)
    words = f"{note.name}: {counted(len(note.nights), 'night')}, {counted(note.exposures, 'exposure')}, "
    typer.echo(f"{words}{counted(made.files, 'file')}, {made.bytes / 1e6:.1f} MB: {to}", err=as_json)
    typer.echo(f"SHA-256 of {to / 'SHA256SUMS'}: {made.sha256}", err=as_json)
    if as_json:
        said = {"files": made.files, "bytes": made.bytes, "sha256": made.sha256, "path": str(to)}
        typer.echo(json.dumps(note.model_dump(mode="json") | said))
