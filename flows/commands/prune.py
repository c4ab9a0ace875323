"""Command `nightstride prune`: make room in an output folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.output_folder import output_folder
from flows.commands.refusal import refusals

if TYPE_CHECKING:
    from flows.prune import Removal
    from schemas.settings import Settings


def prune(
    out: Annotated[Path, typer.Argument(parser=output_folder, help="Output folder or s3:// URL of a run.")],
    keep: Annotated[int | None, typer.Option(min=0, help="Leave the latest so many nights alone.")] = None,
    older_than: Annotated[int | None, typer.Option(min=0, help="Only nights more than so many days ago.")] = None,
    irreplaceable: Annotated[
        bool, typer.Option("--irreplaceable", help="Also what cannot be made again: catalogues, records, reports.")
    ] = False,
    yes_really: Annotated[bool, typer.Option("--yes-really", help="Consent to the above.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list it.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML), as that of the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Remove tiles of nights that are not needed any more, if they can be made again, and what killed runs left.

    Exit code 0: done; 2: bad usage, no such folder, or no consent to remove what cannot be made again.
    """
    from flows.adapters.object_store import configure
    from flows.settings_file import load_settings

    if keep is None and older_than is None:
        raise typer.BadParameter("give --keep NIGHTS or --older-than DAYS, or both.")
    with refusals(as_json):
        settings = load_settings(config)
        configure(settings.store)
        result = _prune(out.resolve(), keep, older_than, irreplaceable, yes_really, dry_run, settings)
    if as_json:
        typer.echo(json.dumps(result))
    raise typer.Exit(0 if result["removed"] or dry_run or not result["listed"] else 2)


def _prune(
    out: Path,
    keep: int | None,
    older_than: int | None,
    irreplaceable: bool,
    consent: bool,
    dry_run: bool,
    settings: "Settings",
) -> dict[str, Any]:
    from datetime import UTC, datetime

    from flows.adapters.lease import lease
    from flows.prune import kept_tiles, nights_to_prune, removals, take_out

    nights = nights_to_prune(out, keep, older_than, datetime.now(UTC).date())
    listed = removals(out, nights, settings, irreplaceable)
    kept = [] if irreplaceable else kept_tiles(out, nights, settings)
    _show(listed, "remove")
    _show(kept, "keep")
    refused = irreplaceable and not consent and any(not one.reproducible for one in listed)
    removed = False
    if dry_run:
        typer.echo("Dry run: nothing was removed.", err=True)
    elif refused:
        typer.echo("Nothing was removed: part of it cannot be made again. To fix, add --yes-really.", err=True)
    elif listed:
        with lease(out):
            take_out(out, listed)
        removed = True
    return {
        "nights": list(nights),
        "listed": [asdict(one) for one in listed],
        "kept": [asdict(one) for one in kept],
        "removed": removed,
    }


def _show(found: "Sequence[Removal]", action: str) -> None:
    for one in found:
        typer.echo(f"{action:<7}{one.kind:<11}{one.path}  ({one.why})", err=True)
