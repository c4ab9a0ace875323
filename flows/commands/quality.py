"""Command `nightstride quality`: measure and judge nights that are published."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals


def quality(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    night: Annotated[
        str | None, typer.Argument(help="YYYYMMDD; by default every night in OUT, the earliest first.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); default: nightstride.toml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Judge published nights by the limits of the settings and by the nights before them, and keep the verdicts.

    A run does that for its own nights; this is for nights of before, and for limits that have changed. Exit code 0: no
    night fails; 1: one does; 2: there is no such folder or night, or another run holds it.
    """
    from flows.adapters.object_store import configure
    from flows.lease_wait import patient_lease
    from flows.quality.assess import assess, told
    from flows.report.night import chosen_nights
    from flows.settings_file import load_settings

    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        nights = chosen_nights(out, night)
        with patient_lease(out, 0, lambda text: typer.echo(text, err=True)):
            found = [assess(out, label, settings.quality, again=True) for label in nights]
    judged = {record.night: record.judged for record in found if record is not None}
    for label, bands in judged.items():
        for band in bands:
            typer.echo(f"{label} {band.instrument} {band.band}: {band.verdict.replace('_', ' ')}", err=as_json)
            for line in (*band.notes, *told(band)):
                typer.echo(f"{label} {band.band} {line}", err=as_json)
    if as_json:
        dumped = {label: [band.model_dump(mode="json") for band in bands] for label, bands in judged.items()}
        typer.echo(json.dumps({"nights": dumped}))
    raise typer.Exit(int(any(band.verdict == "fail" for bands in judged.values() for band in bands)))
