"""Command `nightstride migrate`: bring an output folder of an older version up to date."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals

MOST = 20
"""So many files of a kind are listed; the rest are counted."""


def migrate(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Bring the records and catalogues of an older version to the formats of this one, without searching again.

    It may be stopped at any moment, and goes on where it was. What is not known without a new search is listed: the
    next run of these nights makes it.

    Exit code 2: there is no such folder, a later version wrote it, or a run holds it.
    """
    from flows.adapters.output_parts import require_output
    from flows.catalogue_forms import declared_tables
    from flows.lease_wait import patient_lease
    from flows.migrate import migrate as bring_up_to_date

    with refusals(as_json):
        require_output(out)  # before the lease, which would make the folder
        if dry_run:
            done = bring_up_to_date(out, declared_tables(), dry=True)
        else:
            with patient_lease(out, 0, lambda text: typer.echo(text, err=True)):
                done = bring_up_to_date(out, declared_tables(), dry=False)
    for title, steps in (("would change" if dry_run else "changed", done.steps), ("search again", done.search_again)):
        for step in steps[:MOST]:
            typer.echo(f"{title}: {step.path}: {step.what}", err=as_json)
        if len(steps) > MOST:
            typer.echo(f"{title}: {len(steps) - MOST} more, see --json", err=as_json)
    ending = "Dry run, nothing was changed" if dry_run else "Done"
    typer.echo(f"{ending}: {len(done.steps)} files, {len(done.search_again)} to be searched again.", err=as_json)
    if as_json:
        typer.echo(json.dumps(done.values()))
