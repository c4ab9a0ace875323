"""End of a command that searched exposures: its summary, and its exit code."""

from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from schemas.summary import RunSummary


def conclude(summary: "RunSummary", as_json: bool) -> NoReturn:
    """Show the summary (``as_json``: on standard error, and as the last line of standard output), and exit."""
    from rich.console import Console

    from flows.summary_table import show

    show(summary, Console(stderr=as_json))
    if as_json:
        typer.echo(summary.model_dump_json())
    raise typer.Exit(summary.exit_code)
