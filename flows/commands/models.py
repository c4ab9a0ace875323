"""Command `nightstride models`: which nights were searched with which model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals

if TYPE_CHECKING:
    from flows.model_use import ModelUse


def models(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """List the models that searched what OUT has: nights, exposures by what came of them, detections, and the replaced.

    What a model made is made anew, with the model of the settings, by `nightstride backfill --out OUT --searched-with
    MODEL`. Exit code 2: there is no such folder, or it cannot be read.
    """
    from flows.model_use import model_uses

    with refusals(as_json):
        uses = model_uses(out)
    for use in uses:
        _say(use, err=as_json)
    if not uses:
        typer.echo("No exposure was searched.", err=as_json)
    if as_json:
        typer.echo(json.dumps({"models": [{**vars(use), "nights": sorted(use.nights)} for use in uses]}))


def _say(use: "ModelUse", err: bool) -> None:
    """Say in two lines, which fit a terminal, what there is of a model."""
    nights = sorted(use.nights)
    when = f"night {nights[0] if nights else '-'}"
    if len(nights) > 1:
        when = f"{len(nights):,} nights, {nights[0]} to {nights[-1]}"
    counts = (f"{getattr(use, name):,} {name}" for name in ("quarantined", "failed", "replaced"))
    weights = f"{use.model}: {use.name} {use.version}, SHA-256 {use.sha256[:12]}" if use.name else f"model {use.model}"
    typer.echo(weights, err=err)
    typer.echo(f"  {when}: {use.exposures:,} exposures, {use.detections:,} detections, {', '.join(counts)}", err=err)
