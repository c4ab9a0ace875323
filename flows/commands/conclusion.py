"""End of a command that searched exposures: its summary, and its exit code."""

import logging
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from schemas.summary import RunSummary


def conclude(summary: "RunSummary", as_json: bool) -> NoReturn:
    """Show the summary (``as_json``: on standard error, and as the last line of standard output), and exit.

    Where logs are JSON it is their last line; nothing else goes to standard error then.
    """
    from rich.console import Console

    from flows.observe.log import LOGGER, run_name
    from flows.summary_table import show

    if run_name() is not None:
        level = logging.WARNING if summary.exit_code else logging.INFO
        fields = {"summary": summary.model_dump(mode="json"), "exit_code": summary.exit_code}
        LOGGER.log(level, "run ended", extra=fields)
    if run_name() is None or not as_json:
        show(summary, Console(stderr=as_json))
    if as_json:
        typer.echo(summary.model_dump_json())
    raise typer.Exit(summary.exit_code)
