"""Command line: one function per command, grouped in files by purpose."""

import atexit
import errno
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, Any, TextIO, cast

import typer

from flows.cli import ades, alerts, bench, evaluate, fetch, train
from flows.cli import serve as services
from flows.cli.apdb import apdb
from flows.cli.backfill import backfill
from flows.cli.classify import classify
from flows.cli.command import Commands
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
"""Exit code of the command, once nothing remains but to end the process."""


def main() -> None:
    """Run the command of this process, and end it.

    Living objects are simply dropped with the process: Python would spend a quarter of a second looking for garbage and
    clearing thousands of modules.
    """
    global _code
    if sys.stdout is not None and sys.stdout.errors == "strict":  # letters that the terminal's encoding lacks
        cast(TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as end:
        _code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:  # before the command handles it itself
        _code = 130
        raise SystemExit(_code) from None
    except OSError as error:
        if error.filename is not None or error.errno not in _NOT_WRITTEN:
            raise
        _code = 1
        with suppress(OSError):
            sys.stderr.write(
                f"nightstride: cannot write: {os.strerror(error.errno)}. To fix, look where output goes.\n"
            )
        raise SystemExit(_code) from None


@atexit.register  # registered first, so called last
def _end() -> None:
    gc.freeze()
    if _code is not None:
        whole = [_flushed(stream) for stream in (sys.stdout, sys.stderr)]
        os._exit(_code if all(whole) else _code or 1)


_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
"""Errors of a stream that cannot be written to."""


def _flushed(stream: TextIO | None) -> bool:
    """Flush a stream, and return whether nothing was lost; a stream closed at the start is None."""
    try:
        if stream is not None and not stream.closed:
            stream.flush()
    except OSError:  # the reader has gone, the disk is full
        return False
    return True


_HELP = {"help_option_names": ["--help", "-h"]}
app = Commands(name="nightstride", context_settings=_HELP, invoke_without_command=True, pretty_exceptions_enable=False)


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


PANELS: dict[str, tuple[Callable[..., Any] | tuple[str, typer.Typer], ...]] = {
    "Search": (inspect, run, watch, backfill, ("fetch", fetch.app), simulate),
    "Look": (status, report, explain, vet, quality, verify),
    "Objects": (link, associate, forced),
    "Publish": (export, release, ("ades", ades.app), ("alerts", alerts.app), apdb),
    "Models": (models, classify, ("evaluate", evaluate.app), ("train", train.app)),
    "Operate": (doctor, deploy, ("services", services.app), backup, restore, prune, ("bench", bench.app)),
}
"""Commands under each heading of `nightstride --help`."""

for _panel, _members in PANELS.items():
    for _member in _members:
        if isinstance(_member, tuple):
            app.add_typer(_member[1], name=_member[0], rich_help_panel=_panel)
        else:
            app.command(rich_help_panel=_panel)(_member)
