"""`nightstride report OUT`: make the night page again."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals


def report(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    night: Annotated[str | None, typer.Option(help="YYYYMMDD; by default every night in OUT.")] = None,
    truth: Annotated[
        list[Path] | None, typer.Option(help="Truth table (Parquet, CSV or ECSV); may be given more than once.")
    ] = None,
) -> None:
    """Make the night page again, from what OUT holds; with a truth table also completeness and false streaks.

    The path of each page is printed. Exit code 2: there is no such night in OUT.
    """
    from flows.evaluation.published import require_common, searched
    from flows.evaluation.truth_table import read_truth
    from flows.report.night import chosen_nights
    from flows.report.page import write_report

    with refusals():
        nights = chosen_nights(out, night)
        known = read_truth(truth) if truth else None
        if known is not None:
            require_common(known, searched(out), out)
        for label in nights:
            typer.echo(str(write_report(out, label, truth=known)))
