"""Command `nightstride models`: which nights were searched with which model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals


def models(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """List the models that searched what OUT has: nights, exposures by what came of them, detections, and the replaced.

    What a model made is made anew, with the model of the settings, by `nightstride backfill --out OUT --searched-with
    MODEL`. Exit code 2: there is no such folder, or it cannot be read.
    """
    from rich.console import Console
    from rich.table import Table

    from flows.model_use import model_uses

    with refusals(as_json):
        uses = model_uses(out)
    counted = ("exposures", "quarantined", "failed", "detections", "replaced")
    table = Table("model", "name", "version", "SHA-256", "nights", "from", "to", *counted)
    for use in uses:
        nights = sorted(use.nights)
        ends = (nights[0], nights[-1]) if nights else ("-", "-")
        counts = [f"{getattr(use, name):,}" for name in counted]
        table.add_row(use.model, use.name, use.version, use.sha256[:12], str(len(nights)), *ends, *counts)
    Console(stderr=as_json, width=None if as_json else 140).print(table)
    if as_json:
        typer.echo(json.dumps({"models": [{**vars(use), "nights": sorted(use.nights)} for use in uses]}))
