"""Commands `nightstride services`: PostgreSQL, a Prefect server on it and a worker, without containers."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.refusal import refusals

app = typer.Typer(
    help="PostgreSQL, a Prefect server on it and a worker, on this machine (docs/deployment.md).", no_args_is_help=True
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the services.")]


@app.command("up")
def up_(
    folder: Folder,
    host: Annotated[str | None, typer.Option(help="Address of the Prefect server; default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Its port; default: 4200.")] = None,
    postgres_port: Annotated[int | None, typer.Option(help="Of PostgreSQL on 127.0.0.1; default: 5442.")] = None,
) -> None:
    """Start what does not run, and wait until all are healthy. The options count the first time."""
    from flows.services.folder import made
    from flows.services.stack import up

    with refusals():
        services = made(folder, {"host": host, "port": port, "postgres_port": postgres_port})
        up(services, _say)
    _say(f"Prefect's pages: {services.api.removesuffix('/api')}, user and password in {services.path / 'api-password'}")
    _say(f"clients: set -a; . {services.path / 'client.env'}")


@app.command("down")
def down_(
    folder: Folder,
    parts: Annotated[list[str] | None, typer.Argument(metavar="[postgres|server|worker]...", help="All.")] = None,
) -> None:
    """Stop services. A run of the worker that is on its way is ended with it; the next run of the night goes on."""
    from flows.services.folder import opened
    from flows.services.stack import down

    with refusals():
        down(opened(folder), parts or (), _say)


@app.command("status")
def status_(
    folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False
) -> None:
    """Say how the services are. Exit code 1 if not all are healthy."""
    from flows.services.folder import opened
    from flows.services.stack import states

    with refusals(as_json):
        found = states(opened(folder))
    typer.echo(json.dumps(found) if as_json else "\n".join(f"{name}: {state}" for name, state in found.items()))
    raise typer.Exit(int(set(found.values()) != {"healthy"}))


def _say(text: str) -> None:
    typer.echo(text, err=True)
