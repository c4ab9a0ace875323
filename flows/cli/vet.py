"""Command `nightstride vet`: the scanning page, and labels made from the verdicts on it."""

import json
import os
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.command import say
from flows.cli.options import AsJson, Nights, Out, RunConfig, refusals
from flows.runtime.words import counted
from schemas.night_range import EVERY_NIGHT, NightRange

if TYPE_CHECKING:
    from schemas.settings import Settings

PORT = 8462


def vet(
    out: Out,
    night: Nights = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="Write the verdicts as labels, as Parquet alone, and end."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's own need NIGHTSTRIDE_VET_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")] = PORT,
    name: Annotated[
        list[str] | None, typer.Option(help="Name by which others reach this machine; may be given more than once.")
    ] = None,
    recheck: Annotated[
        float,
        typer.Option(min=0.0, max=0.5, help="Share of the candidates that are shown once more, to check them blind."),
    ] = 0.05,
    config: RunConfig = None,
    as_json: AsJson = False,
) -> None:
    """Serve a page on which people look at detections and classify them; Ctrl-C ends it.

    The printed address includes a token, a new one each time unless NIGHTSTRIDE_VET_TOKEN is set: anybody who has it
    can look and judge. Exit code 2: the folder or night does not exist, the page would be open to others without a
    token, or the file of --export does not end in .parquet.
    """
    from flows.runtime.settings import load_settings
    from flows.storage.layout import require_output
    from flows.storage.object_store import configure

    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        require_output(out)
        if export is not None:
            from flows.vetting.labels import export_labels

            count = export_labels(out, export, night or EVERY_NIGHT)
            say(f"{counted(count, 'label')}: {export}", err=as_json)
            if as_json:
                typer.echo(json.dumps({"labels": count, "path": str(export)}))
            return
        _serve(out, night or EVERY_NIGHT, (host, port), name or [], recheck, settings, as_json)


def _serve(
    out: Path,
    nights: NightRange,
    address: tuple[str, int],
    names: list[str],
    recheck: float,
    settings: "Settings",
    as_json: bool,
) -> None:
    from flows.vetting.app import make_app
    from flows.vetting.guard import doors
    from flows.vetting.server import Workplace, listen, make_server

    doors(*address, names, os.environ)  # refuses bad ones before anything is read
    place = Workplace(out, nights, settings.association, recheck)
    listening = listen(*address)
    let_in = doors(address[0], listening.getsockname()[1], names, os.environ)
    found = counted(len(place.index()), "candidate")
    typer.echo(f"{found} of {counted(len(place.index().nights), 'night')}. Open {let_in.address}", err=as_json)
    if as_json:
        typer.echo(json.dumps({"candidates": len(place.index()), "address": let_in.address}))
    Thread(target=place.warm_up, daemon=True).start()
    with suppress(KeyboardInterrupt):
        make_server(make_app(place, let_in), let_in).run(sockets=[listening])
