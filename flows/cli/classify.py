"""Command `nightstride classify`: classify pictures, labelled or not."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import complete
from flows.cli.command import console, tell
from flows.cli.options import AsJson, refusals
from flows.cli.tables import show_figures


def classify(
    task: Annotated[
        str,
        typer.Argument(
            metavar="KIND", autocompletion=complete.picture_kinds, help="morphology, scene, anomaly or cluster."
        ),
    ],
    data: Annotated[
        list[Path], typer.Option(help="Folder of pictures, or CSV of location and label; may be repeated.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="CSV to write: a row for each picture.")] = Path(
        "verdicts.csv"
    ),
    model: Annotated[str, typer.Option(help="Shipped name, or folder.")] = "default",
    overviews: Annotated[
        Path | None, typer.Option(help="Folder for a picture of each large scene, with the verdicts of its tiles.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Classify pictures, or measure how odd they are; labels are optional."""
    from flows.results.classify import classify_pictures

    with refusals(as_json):
        said = classify_pictures(task, data, out, model, overviews, len(os.sched_getaffinity(0)), tell)
    if as_json:
        typer.echo(json.dumps(said))
    else:
        show_figures(console(), said | {"written": str(out)})
