"""Fetching what a plan holds: exposure after exposure, each whole or not at all."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flows.adapters.atomic import publish_file, writing
from flows.fetch.archive_client import ArchiveClient
from flows.fetch.download import download
from flows.fetch.side_by_side import side_by_side
from flows.fetch.ztf_plan import FetchPlan, Piece, ToFetch
from schemas.errors import BadInput, Retryable
from schemas.summary import Trouble


@dataclass
class Fetched:
    """What has come so far; grows while it is fetched."""

    whole: int = 0
    files: list[Piece] = field(default_factory=list)
    failed: list[Trouble] = field(default_factory=list)


async def fetch(client: ArchiveClient, plan: FetchPlan, folder: Path, tell: Callable[[int], object]) -> Fetched:
    """Fetch the files of a plan.

    An exposure of which a file fails is not published: its difference image, without which it is none, comes last.

    Parameters
    ----------
    client, plan, folder
        As in `plan_fetch`.
    tell
        Hears of bytes that have come.

    Raises
    ------
    Retryable
        ``disk_full``.
    Misconfigured
        The folder may not be written.
    """
    done = Fetched()
    lost: dict[Path, BadInput | Retryable] = {}

    async def shared(piece: Piece) -> None:
        try:
            await _fetch(client, piece, done, tell)
        except (BadInput, Retryable) as error:
            if error.code == "disk_full":
                raise
            lost[piece.target] = error

    async def one(todo: ToFetch) -> None:
        try:
            if todo.template is not None:
                if todo.template.target in lost:
                    raise lost[todo.template.target]
                _link(todo.template.target, folder / todo.quadrant.folder / todo.quadrant.template_name)
            for piece in todo.pieces:
                await _fetch(client, piece, done, tell)
            done.whole += 1
        except (BadInput, Retryable) as error:
            if error.code == "disk_full":
                raise
            done.failed.append(Trouble(uri=todo.quadrant.stem, code=error.code, message=str(error)))

    templates = {todo.template.target: todo.template for todo in plan.todo if todo.template is not None}
    await side_by_side(templates.values(), shared, client.settings.connections)
    await side_by_side(plan.todo, one, client.settings.connections)
    done.failed.sort(key=lambda trouble: trouble.uri)
    return done


async def _fetch(client: ArchiveClient, piece: Piece, done: Fetched, tell: Callable[[int], object]) -> None:
    if not piece.target.exists():
        await download(client, piece.file, piece.target, tell)
        done.files.append(piece)


def _link(source: Path, target: Path) -> None:
    """Give a shared file a second name, or a copy where the file system has no links."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}.link")
        staged.unlink(missing_ok=True)
        try:
            os.link(source, staged)
        except OSError:
            shutil.copyfile(source, staged)
        publish_file(staged, target)
