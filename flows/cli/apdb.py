"""Command `nightstride apdb`: detections and objects in Rubin's alert-production database."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.command import say, tell
from flows.cli.options import AsJson, Nights, Out, RunConfig, refusals
from flows.runtime.words import counted
from schemas.night_range import EVERY_NIGHT

if TYPE_CHECKING:
    from flows.publish.apdb import ApdbTotals


def apdb(
    out: Out,
    to: Annotated[
        str,
        typer.Option(metavar="APDB.yaml", help="Configuration of the database, as apdb-cli has written it; or URI."),
    ],
    night: Nights = None,
    config: RunConfig = None,
    as_json: AsJson = False,
) -> None:
    """Store published detections and their objects in Rubin's alert-production database (lsst.dax.apdb), once.

    Exposures already stored are left unchanged. Needs the extra apdb, and an association (docs/use/apdb.md). Exit code
    0: all are stored; 1: some exposures are not, each with its reason, or the database is down; 2: bad usage.
    """
    from flows.publish.apdb import ApdbTotals, store_published
    from flows.runtime.settings import load_settings
    from flows.storage.layout import require_output
    from flows.storage.object_store import configure

    totals = ApdbTotals()
    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        require_output(out)
        store_published(out, to, settings, night or EVERY_NIGHT, totals, tell)
    _conclude(totals, as_json)


def _conclude(totals: "ApdbTotals", as_json: bool) -> None:
    """Report the fate of the exposures, and exit."""
    for error in totals.failed:
        typer.echo(f"nightstride: {error}", err=True)
    words = [
        f"{counted(totals.exposures, 'exposure')} stored", counted(totals.sources, "DiaSource"),
        counted(totals.objects, "DiaObject"), counted(totals.forced, "DiaForcedSource"),
    ]  # fmt: skip
    others = {
        "there before": totals.kept,
        "there as they were processed before": totals.changed,
        "without detections": totals.empty,
        "not stored": totals.exposures_failed,
    }
    words += [f"{counted(number, 'exposure')} {name}" for name, number in others.items() if number]
    detections = {"no_position": "without a place", "no_time": "without a time", "no_band": "in no band of Rubin's"}
    words += [
        f"{counted(totals.skipped[name], 'detection')} {text}"
        for name, text in detections.items()
        if totals.skipped[name]
    ]
    say(f"{', '.join(words)}.", err=as_json)
    if as_json:
        values = asdict(totals) | {
            "skipped": dict(totals.skipped), "failed": [str(error) for error in totals.failed],
        }  # fmt: skip
        typer.echo(json.dumps(values))
    raise typer.Exit(int(bool(totals.exposures_failed or totals.failed)))
