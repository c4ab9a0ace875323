"""Options, errors and exits shared by commands."""

import errno
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from flows.cli import complete
from flows.cli.command import console, is_quiet, is_verbose
from schemas.errors import Misconfigured, NightstrideError, exit_code, printable
from schemas.night_range import NightRange

if TYPE_CHECKING:
    from schemas.summary import RunSummary


def cluster_overrides(scheduler: str | None, workers: int | None, **execution: object) -> dict[str, dict[str, object]]:
    """Return the settings given by ``--scheduler`` and ``--workers``, and others for ``execution``.

    A scheduler overrides ``cluster.kind`` in the settings file. None: not given.
    """
    kind = None if scheduler is None else "address"
    return {"cluster": {"kind": kind, "address": scheduler}, "execution": {"workers": workers, **execution}}


Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler, tcp://… or tls://…; default: own workers.")]
Workers = Annotated[int | None, typer.Option(help="Worker processes; default: one per core.")]
Metrics = Annotated[
    str | None, typer.Option(metavar="[HOST:]PORT", help="Where Prometheus finds metrics; default: nowhere.")
]
MetricsFile = Annotated[
    str | None, typer.Option(metavar="FILE.prom", help="Written at the end, for node_exporter's textfile collector.")
]
LogFormat = Annotated[
    str | None,
    typer.Option(
        metavar="text|json",
        autocompletion=complete.log_formats,
        help="What is written to standard error: words, or JSON lines.",
    ),
]


def observe_overrides(
    metrics: str | None, metrics_file: str | None, log_format: str | None
) -> dict[str, dict[str, object]]:
    """Return the settings given by the options; None: not given."""
    return {"observe": {"metrics": metrics, "metrics_file": metrics_file, "log_format": log_format}}


def output_folder(given: str) -> Path:
    """Return the path of a local folder, or of an ``s3://`` URL, accessed with the settings in file and environment.

    Raises
    ------
    typer.BadParameter
        Results cannot be stored there.
    """
    if not str(given):
        raise typer.BadParameter("it is empty: name a folder, or '.' for this one.")
    if "://" not in str(given):
        return _text_path(given)
    from flows.storage.bucket_path import located
    from flows.storage.object_store import PROTOCOL, configure

    try:
        if str(given).startswith(PROTOCOL):
            from flows.runtime.settings import load_store_settings

            configure(load_store_settings())
        return located(str(given))
    except Misconfigured as error:
        raise typer.BadParameter(str(error)) from error


def _text_path(given: str) -> Path:
    """Return the path of a folder.

    Refused are a name that is not text, which libraries and results cannot hold, and a link that leads to itself.
    """
    with suppress(FileNotFoundError):  # the working folder was removed
        try:
            str(Path(given).absolute()).encode()
        except UnicodeEncodeError as error:
            raise typer.BadParameter(f"{printable(given)}: the bytes of its path are not UTF-8.") from error
    if _is_loop(Path(given)):
        raise typer.BadParameter(f"{given} is a link that leads to itself.")
    return Path(given)


def _is_loop(link: Path) -> bool:
    try:
        link.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


class NoNight(typer.BadParameter):
    """The value given for a night is not one."""

    code = "no_night"


def night_argument(value: str) -> str:
    """Return a night as given: YYYYMMDD.

    Raises
    ------
    NoNight
        It is not a date.
    """
    from datetime import date

    try:
        if not re.fullmatch(r"\d{8}", value, re.ASCII):
            raise ValueError(value)
        date.fromisoformat(value)
    except ValueError as error:
        plain = value.replace("-", "")
        hint = f": {plain}" if re.fullmatch(r"\d{8}", plain, re.ASCII) and plain != value else ""
        raise NoNight(f"{value!r} is not a night; nights are written YYYYMMDD{hint}.") from error
    return value


def night_range(value: str) -> NightRange:
    """Return the nights in a text: YYYYMMDD, or YYYYMMDD..YYYYMMDD, in which one date may be left out.

    Raises
    ------
    NoNight
        They are not dates, or the first is after the last.
    """
    first, several, last = value.partition("..")
    ends = [night_argument(one) if one else None for one in (first, last if several else first)]
    if not any(ends):
        raise NoNight(f"{value!r} is not a night; nights are written YYYYMMDD, or YYYYMMDD..YYYYMMDD.")
    if all(ends) and str(ends[1]) < str(ends[0]):
        raise NoNight(f"{value!r}: the last night is before the first.")
    return NightRange(*ends)


AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]
Config = Annotated[Path | None, typer.Option(help="Settings file (TOML); default: nightstride.toml.")]
RunConfig = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML), as that of the run.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", parser=output_folder, help="Output folder or s3:// URL of a run.")]
Nights = Annotated[
    NightRange | None,
    typer.Option(
        "--night", parser=night_range, metavar="YYYYMMDD[..YYYYMMDD]", autocompletion=complete.night_ranges,
        help="Night, or first and last; default: all.",
    ),
]  # fmt: skip


def complain(error: NightstrideError) -> None:
    """Print the error that ended a command."""
    # Imported here: commands that fail at once do not need it.
    from flows.runtime.log import LOGGER, run_name
    from flows.runtime.secrets import without_secrets

    if run_name() is None:
        typer.echo(without_secrets(f"nightstride: {error}"), err=True)
    else:
        LOGGER.error(str(error), extra={"code": error.code})
    cause = error.__cause__ or error.__context__
    while is_verbose() and cause is not None:
        typer.echo(without_secrets(f"  behind it: {type(cause).__name__}: {cause}"), err=True)
        cause = cause.__cause__ or cause.__context__


@contextmanager
def refusals(as_json: bool = False) -> Iterator[None]:
    """Print an error of ours as one line on standard error, in JSON if the log is, and end the command.

    Parameters
    ----------
    as_json
        Whether to print ``{"error": {"code", "where", "problem", "remedy"}}`` as the last line of standard output, too.

    Raises
    ------
    typer.Exit
        1 if the same command may succeed later (e.g. a store is down), 4 if another run holds OUT, otherwise 2.
    """
    try:
        yield
    except (NightstrideError, OSError) as caught:
        error = _unseen(caught) if isinstance(caught, OSError) else caught
        if error is None:
            raise
        complain(error)
        if as_json:
            named = {name: getattr(error, name) for name in ("code", "where", "problem", "remedy")}
            typer.echo(json.dumps({"error": named}))
        raise typer.Exit(exit_code(error)) from caught


_NO_PATH = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)


def _unseen(error: OSError) -> Misconfigured | None:
    """Return the error for a path that is not accessible or not possible; None for another failure."""
    if error.filename is None or error.errno not in _NO_PATH:
        return None
    return Misconfigured(
        "not_readable", str(error.filename), f"cannot be looked at: {os.strerror(error.errno)}.",
        "correct the path, or see who may enter its folder.",
    )  # fmt: skip


def conclude(summary: "RunSummary", as_json: bool, out: Path | None = None) -> NoReturn:
    """Show the summary (``as_json``: on standard error, and as the last line of standard output), and exit.

    If the log is JSON, the summary is its last line and nothing else is printed on standard error. With ``-q`` only
    failures are shown, with ``-v`` all figures. ``out`` is named in suggestions for next steps.
    """
    from rich.console import Console

    from flows.results.summary_table import show_night, show_summary, show_troubles
    from flows.runtime.log import LOGGER, run_name

    if run_name() is not None:
        level = logging.WARNING if summary.exit_code else logging.INFO
        fields = {"summary": summary.model_dump(mode="json"), "exit_code": summary.exit_code}
        LOGGER.log(level, "run ended", extra=fields)
    if is_quiet():
        show_troubles(summary, Console(stderr=True, emoji=False))
    elif run_name() is None or not as_json:
        target = console(stderr=as_json)
        if is_verbose():
            show_summary(summary, target)
        else:
            show_night(summary, target, out)
    if as_json:
        typer.echo(summary.model_dump_json())
    raise typer.Exit(summary.exit_code)
