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
    from flows.prune_room import Room
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

    from flows.prune import kept_tiles, nights_to_prune, removals
    from flows.prune_room import room_of, total

    nights = nights_to_prune(out, keep, older_than, datetime.now(UTC).date())
    listed = removals(out, nights, settings, irreplaceable)
    kept = [] if irreplaceable else kept_tiles(out, nights, settings)
    rooms = [room_of(out, one) for one in listed]
    _show(listed, rooms, "remove")
    _show(kept, [room_of(out, one) for one in kept], "keep")
    room = total(rooms)
    what = f"{_counted(listed, 'item')} of {_counted(nights, 'night')}: {room}"
    if dry_run:
        _say(f"Dry run: nothing was removed. Without --dry-run it would remove {what}.")
    removed = not dry_run and _remove(out, listed, what, refused=irreplaceable and not consent)
    return {
        "nights": list(nights),
        "listed": [asdict(one) | asdict(room) for one, room in zip(listed, rooms, strict=True)],
        "kept": [asdict(one) for one in kept],
        "removed": removed,
        **asdict(room),
    }


def _remove(out: Path, listed: "Sequence[Removal]", what: str, *, refused: bool) -> bool:
    """Remove what is listed, if there is consent to it, and say so."""
    from flows.adapters.lease import lease
    from flows.prune import take_out

    if refused and any(not one.reproducible for one in listed):
        _say(f"Nothing was removed of {what}: part of it cannot be made again. To fix, add --yes-really.")
        return False
    if listed:
        with lease(out):
            take_out(out, listed)
    _say(f"Removed {what}.")
    return bool(listed)


def _show(found: "Sequence[Removal]", rooms: "Sequence[Room]", action: str) -> None:
    for one, room in zip(found, rooms, strict=True):
        _say(f"{action:<7}{one.kind:<11}{one.path}  ({room}; {one.why})")


def _counted(things: Sequence[object], name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _say(text: str) -> None:
    typer.echo(text, err=True)
