"""Command `nightstride deploy`: a night that a Prefect server starts every night."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals

if TYPE_CHECKING:
    from uuid import UUID

    from flows.deployment.register import Deployment


def deploy(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="As of `run`; {night} is YYYYMMDD.")],
    out: Annotated[Path, typer.Option(parser=output_folder, help="Output folder or s3:// URL.")],
    timezone: Annotated[str, typer.Option(help="Of the observatory, e.g. America/Los_Angeles.")],
    cron: Annotated[str, typer.Option(help="When, by its clock: minute, hour, day, month, weekday.")] = "0 9 * * *",
    name: Annotated[str, typer.Option(help="One of the same name is replaced.")] = "nightly",
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML).")] = None,
    retries: Annotated[int, typer.Option(min=0, help="Of a night of which something failed.")] = 2,
    retry_delay: Annotated[float, typer.Option(min=0, help="Before each of them, s.")] = 600.0,
    wait: Annotated[float, typer.Option(min=0, help="How long to wait for another run that holds OUT, s.")] = 3600.0,
    pages: Annotated[str | None, typer.Option(help="URL under which OUT/reports is served, for links.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="For Prefect's pages.")] = None,
    services: Annotated[
        Path | None, typer.Option(help="Folder of `nightstride services`; default: PREFECT_API_URL.")
    ] = None,
) -> None:
    """Have a Prefect server search a night every night: one run at a time, tried again when something fails.

    The night of a run is from noon to noon by the clock of the observatory, named by its evening.
    """
    from flows.deployment.register import Deployment

    with refusals():
        made = Deployment(
            name, tuple(_absolute(one) for one in inputs), str(out.resolve()), timezone, cron,
            None if config is None else str(config.resolve()), retries, retry_delay, wait, pages, tuple(tag or ()),
        )  # fmt: skip
        identity = _registered(made, config, services)
    typer.echo(f"deployment scheduled-night/{name} ({identity}): {cron} in {timezone}", err=True)


def _absolute(given: str) -> str:
    """Give an input as it is found from every working folder."""
    return given if "://" in given or ":" in given.partition("/")[0] else str(Path(given).absolute())


def _registered(made: "Deployment", config: Path | None, services: Path | None) -> "UUID":
    from flows.prefect_server import PRIVATE
    from flows.services.folder import opened
    from flows.settings_file import load_settings
    from schemas.errors import Misconfigured

    load_settings(config)
    os.environ.update(PRIVATE if services is None else opened(services).client)
    if "PREFECT_API_URL" not in os.environ:
        raise Misconfigured(
            "prefect",
            "PREFECT_API_URL",
            "is not set, so there is no server to tell.",
            "set it, or name --services DIR.",
        )
    # Prefect reads the environment when it is imported.
    from flows.deployment.register import register

    return register(made)
