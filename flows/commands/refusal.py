"""Errors of ours at the command line: what is said of them, and the exit code."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from schemas.errors import NightstrideError, Retryable

CAN_SUCCEED_LATER, REFUSED = 1, 2


def complain(error: NightstrideError) -> None:
    """Say what a command was ended by."""
    # Imported here: commands that fail at once should not pay for it.
    from flows.observe.log import LOGGER, run_name
    from flows.observe.secrets import without_secrets

    if run_name() is None:
        typer.echo(without_secrets(f"nightstride: {error}"), err=True)
    else:
        LOGGER.error(str(error), extra={"code": error.code})


@contextmanager
def refusals(as_json: bool = False) -> Iterator[None]:
    """Say an error of ours in one line on standard error, as JSON where logs are, and end the command.

    Parameters
    ----------
    as_json
        The last line of standard output is ``{"error": {"code", "where", "problem", "remedy"}}`` besides.

    Raises
    ------
    typer.Exit
        1 if the same command may succeed later (a store that is down), 2 otherwise.
    """
    try:
        yield
    except NightstrideError as error:
        complain(error)
        if as_json:
            named = {name: getattr(error, name) for name in ("code", "where", "problem", "remedy")}
            typer.echo(json.dumps({"error": named}))
        raise typer.Exit(CAN_SUCCEED_LATER if isinstance(error, Retryable) else REFUSED) from error
