"""Commands for scheduled nights and the services they need."""

import json
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.command import Commands, console, tell
from flows.cli.options import AsJson, Config, output_folder, refusals
from flows.cli.tables import show_rows


def deploy(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Inputs as of `run`; {night} is YYYYMMDD.")],
    out: Annotated[Path, typer.Option("--out", "-o", parser=output_folder, help="Output folder or s3:// URL.")],
    timezone: Annotated[str, typer.Option(help="Time zone of the observatory, e.g. America/Los_Angeles.")],
    cron: Annotated[str, typer.Option(help="Schedule by its clock: minute, hour, day, month, weekday.")] = "0 9 * * *",
    name: Annotated[str, typer.Option(help="Name of the deployment; one of the same name is replaced.")] = "nightly",
    config: Config = None,
    retries: Annotated[int, typer.Option(min=0, help="Retries of a night of which something failed.")] = 2,
    retry_delay: Annotated[float, typer.Option(min=0, help="Time before each retry, s.")] = 600.0,
    wait: Annotated[
        float | None,
        typer.Option(min=0, help="How long to wait for another run that holds OUT, s; default: as long as it takes."),
    ] = None,
    pages: Annotated[str | None, typer.Option(help="URL under which OUT/reports is served, for links.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag for Prefect's pages; may be repeated.")] = None,
    services: Annotated[
        Path | None, typer.Option(help="Folder of `nightstride services`; default: PREFECT_API_URL.")
    ] = None,
) -> None:
    """Schedule the search of every night on a Prefect server: one run at a time, retried if something fails.

    The night of a run lasts from noon to noon by the observatory's clock, and is named after its evening.
    """
    from flows.nights.schedule.deployment import Deployment
    from flows.runtime.settings import DEFAULT_FILE

    with refusals():
        if config is None and DEFAULT_FILE.exists():  # the nights run in another folder
            config = DEFAULT_FILE
        made = Deployment(
            name, tuple(_absolute(one) for one in inputs), str(out.resolve()), timezone, cron,
            None if config is None else str(config.resolve()), retries, retry_delay, wait, pages, tuple(tag or ()),
        )  # fmt: skip
        _read_environment(config, services)
        # Prefect reads the environment when imported.
        from flows.nights.schedule.scheduled_night import register

        identity = register(made)
    tell(f"deployment scheduled-night/{name} ({identity}): {cron} in {timezone}")


def _absolute(given: str) -> str:
    """Return an input that is valid in any working folder; an alias of a Butler repository stays as it is."""
    from flows.inputs.butler_repository import PREFIX, is_repository

    if "://" in given:
        return given
    if is_repository(given):
        place = Path(given.removeprefix(PREFIX))
        return f"{PREFIX}{place.absolute()}" if place.exists() else given
    return str(Path(given).absolute())


def _read_environment(config: Path | None, services: Path | None) -> None:
    """Set the variables of the server, and check settings as a run would."""
    from flows.nights.cluster.prefect_server import PRIVATE, past_proxies
    from flows.nights.services.folder import opened
    from flows.runtime.settings import load_settings
    from schemas.errors import Misconfigured

    load_settings(config)
    os.environ.update(PRIVATE if services is None else opened(services).client)
    os.environ.update(past_proxies(os.environ))
    if not os.environ.get("PREFECT_API_URL"):
        raise Misconfigured(
            "prefect",
            "PREFECT_API_URL",
            "is not set, so there is no server to tell.",
            "set it, or name --services DIR.",
        )


app = Commands(
    help="PostgreSQL, a Prefect server on it and a worker, on this machine (docs/operate/deployment.md).",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the services.")]


@app.command("up")
def up_(
    folder: Folder,
    host: Annotated[str | None, typer.Option(help="Address of the Prefect server; default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Its port; default: 4200.")] = None,
    postgres_port: Annotated[int | None, typer.Option(help="Port of PostgreSQL on 127.0.0.1; default: 5442.")] = None,
) -> None:
    """Start the services that are not running, and wait until all are healthy. Options count only the first time."""
    from flows.nights.services.folder import made
    from flows.nights.services.stack import up

    with refusals():
        services = made(folder, {"host": host, "port": port, "postgres_port": postgres_port})
        up(services, tell)
    user, _, _ = services.auth.partition(":")
    pages = services.api.removesuffix("/api")
    tell(f"Prefect's pages: {pages}, user {user}, password in {services.path / 'api-password'}")
    tell(f"clients: set -a; . {shlex.quote(str(services.path / 'client.env'))}; set +a")


@app.command("down")
def down_(
    folder: Folder,
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="[postgres|server|worker]...", help="Services to stop; default: all.")
    ] = None,
) -> None:
    """Stop services. Stopping the worker ends a run in progress; the next run of that night continues it."""
    from flows.nights.services.folder import opened
    from flows.nights.services.stack import down

    with refusals():
        down(opened(folder), parts or (), tell)


@app.command("status")
def status_(folder: Folder, as_json: AsJson = False) -> None:
    """Show the state of the services. Exit code 1 if not all are healthy."""
    from flows.nights.services.folder import opened
    from flows.nights.services.stack import states

    with refusals(as_json):
        found = states(opened(folder))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        show_rows(console(), ({"service": name, "state": state} for name, state in found.items()))
    raise typer.Exit(int(set(found.values()) != {"healthy"}))


@app.command("dump")
def dump_(folder: Folder, file: Annotated[Path, typer.Argument(help="File to be written: SQL.")]) -> None:
    """Write the database of the Prefect server, which may be in use, to a file."""
    from flows.nights.services.folder import opened
    from flows.nights.services.processes import Postgres

    with refusals():
        Postgres(opened(folder)).dump(file)


@app.command("load")
def load_(folder: Folder, file: Annotated[Path, typer.Argument(help="File that `dump` or `backup` wrote.")]) -> None:
    """Replace the database of the Prefect server. Only PostgreSQL may run: `services down DIR server worker`."""
    from flows.nights.services.folder import opened
    from flows.nights.services.stack import load_database

    with refusals():
        load_database(opened(folder), file)
