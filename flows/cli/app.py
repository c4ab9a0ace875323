"""Command line: one function per command, grouped in files by purpose."""

import atexit
import gc
import os
import sys
from typing import Annotated, TextIO

import typer

from flows.cli import ades, alerts, bench, evaluate, fetch, train
from flows.cli import serve as services
from flows.cli.backfill import backfill
from flows.cli.classify import classify
from flows.cli.doctor import doctor
from flows.cli.inspect import inspect
from flows.cli.look import explain, models, quality, report, status, verify
from flows.cli.output import associate, backup, export, forced, link, prune, release, restore
from flows.cli.run import run
from flows.cli.serve import deploy
from flows.cli.simulate import simulate
from flows.cli.vet import vet
from flows.cli.watch import watch

_code: int | None = None
"""Exit code of the command, once it is known that nothing but the end of the process follows."""


def main() -> None:
    """Run the command of this process, and end it.

    What is alive then goes with the process: Python would look for what is not, and clear thousands of modules, for a
    quarter of a second.
    """
    global _code
    try:
        app()
    except SystemExit as end:
        _code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


@atexit.register  # the first to be registered, the last to be called
def _end() -> None:
    gc.freeze()
    if _code is not None:
        whole = [_flushed(stream) for stream in (sys.stdout, sys.stderr)]
        os._exit(_code if all(whole) else _code or 1)


def _flushed(stream: TextIO | None) -> bool:
    """Write what is held back, and return whether nothing is lost; a stream that was closed at the start is None."""
    try:
        if stream is not None and not stream.closed:
            stream.flush()
    except OSError:  # a reader that has gone, a full disk
        return False
    return True


app = typer.Typer(
    name="nightstride",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def nightstride(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version, and nothing else.")] = False,
) -> None:
    """Difference images in, a measured catalogue of moving objects and a night page out."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"nightstride {installed('nightstride')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command()(run)
app.command()(inspect)
app.command()(backfill)
app.command()(watch)
app.command()(deploy)
app.command()(simulate)
app.command()(forced)
app.command()(classify)
app.command()(link)
app.command()(associate)
app.command()(verify)
app.command()(status)
app.command()(explain)
app.command()(models)
app.command()(quality)
app.command()(prune)
app.command()(backup)
app.command()(restore)
app.command()(export)
app.command()(release)
app.command()(report)
app.command()(vet)
app.command()(doctor)
app.add_typer(ades.app, name="ades")
app.add_typer(fetch.app, name="fetch")
app.add_typer(alerts.app, name="alerts")
app.add_typer(services.app, name="services")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(bench.app, name="bench")
