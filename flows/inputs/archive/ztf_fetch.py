"""Planning and download of exposures from ZTF's archive."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flows.inputs.archive.client import ArchiveClient, RemoteFile
from flows.inputs.archive.download import download, few_at_a_time
from flows.inputs.archive.ztf_search import SEARCH, ZtfQuadrant, ZtfSearch, read_answer
from flows.storage.atomic import publish_file
from flows.storage.writing import writing
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.summary import Trouble

GIB = 2**30


@dataclass(frozen=True)
class Piece:
    """File to fetch, and its destination."""

    file: RemoteFile
    target: Path


@dataclass(frozen=True)
class ToFetch:
    """Missing files of an exposure.

    Attributes
    ----------
    quadrant
        Its quadrant.
    pieces
        Its own files; the difference image comes last, so that a run sees only complete exposures.
    template
        Reference image, shared by the exposures of a field, if wanted and available.
    """

    quadrant: ZtfQuadrant
    pieces: tuple[Piece, ...]
    template: Piece | None = None


@dataclass(frozen=True)
class FetchPlan:
    """Plan for the exposures that the archive lists.

    Attributes
    ----------
    todo
        Exposures with files to fetch.
    whole
        Number of exposures that are complete.
    absent
        Number of exposures without a difference image in the archive.
    failed
        Exposures for which the archive gave no answer.
    """

    todo: tuple[ToFetch, ...]
    whole: int
    absent: int
    failed: tuple[Trouble, ...]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Return all files to fetch, each once."""
        every = [piece for one in self.todo for piece in (*one.pieces, one.template) if piece is not None]
        return tuple({piece.target: piece for piece in every if not piece.target.exists()}.values())

    @property
    def bytes(self) -> int:
        """Return the total size of all files to fetch, bytes."""
        return sum(piece.file.size for piece in self.pieces)


async def listed(client: ArchiveClient, search: ZtfSearch) -> tuple[ZtfQuadrant, ...]:
    """Query the archive for the quadrants of all nights; errors as for `ArchiveClient.text` and `read_answer`."""
    found: list[ZtfQuadrant] = []
    for night in search.nights:
        text = await client.text(SEARCH, search.query(night))
        found += read_answer(text, f"{client.settings.url}/{SEARCH}")
    return tuple(found)


async def plan_fetch(
    client: ArchiveClient,
    quadrants: Sequence[ZtfQuadrant],
    products: Sequence[str],
    folder: Path,
    tell: Callable[[], object],
) -> FetchPlan:
    """Find out which files are missing.

    Parameters
    ----------
    client
        Connection to the archive.
    quadrants
        Quadrants wanted.
    products
        Products in addition to ``difference``: any of science, mask, psf, template.
    folder
        Destination, with folders like the archive's.
    tell
        Called after each exposure.
    """
    todo: list[ToFetch] = []
    failed: list[Trouble] = []
    counts = {"whole": 0, "absent": 0}
    templates: dict[str, RemoteFile | None] = {}

    async def look(quadrant: ZtfQuadrant) -> None:
        try:
            found = await _missing(client, quadrant, products, folder, templates)
        except (BadInput, Retryable) as error:
            failed.append(Trouble.of(quadrant.stem, error))
        else:
            if found is None:
                counts["absent"] += 1
            elif found.pieces or found.template:
                todo.append(found)
            else:
                counts["whole"] += 1
        tell()

    await few_at_a_time(quadrants, look, client.settings.connections)
    todo.sort(key=lambda one: one.quadrant)
    return FetchPlan(tuple(todo), counts["whole"], counts["absent"], tuple(sorted(failed, key=lambda one: one.uri)))


def require_room(plan: FetchPlan, folder: Path, max_gib: float | None) -> None:
    """Refuse a plan that exceeds the allowed size or the free space.

    Raises
    ------
    Misconfigured
        ``too_much``; ``disk_full``.
    """
    wanted = plan.bytes / GIB
    if max_gib is not None and wanted > max_gib:
        raise Misconfigured(
            "too_much",
            "fetch.max_gib",
            f"{len(plan.pieces)} files are {wanted:.2f} GiB, more than the limit of {max_gib:g} GiB.",
            "name fewer nights, fields, filters or CCDs, or raise the limit.",
        )
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / GIB
    if wanted > free:
        raise Misconfigured(
            "disk_full", str(folder), f"{wanted:.2f} GiB are to come, {free:.2f} GiB are free.", "free space there."
        )


async def _missing(
    client: ArchiveClient,
    quadrant: ZtfQuadrant,
    products: Sequence[str],
    folder: Path,
    templates: dict[str, RemoteFile | None],
) -> ToFetch | None:
    """Find the missing files of an exposure; return None if the archive has no difference image of it."""
    difference = folder / quadrant.path("difference")
    last = () if difference.exists() else await _pieces(client, quadrant, ("difference",), folder)
    if not last and not difference.exists():
        return None
    own = await _pieces(client, quadrant, [one for one in products if one != "template"], folder)
    template = await _template(client, quadrant, folder, templates) if "template" in products else None
    return ToFetch(quadrant, (*own, *last), template)


async def _pieces(
    client: ArchiveClient, quadrant: ZtfQuadrant, products: Sequence[str], folder: Path
) -> tuple[Piece, ...]:
    """Return the files of an exposure that are missing here and that the archive has."""
    paths = [path for path in map(quadrant.path, products) if not (folder / path).exists()]
    files = [(await client.probe(path), folder / path) for path in paths]
    return tuple(Piece(file, target) for file, target in files if file is not None)


async def _template(
    client: ArchiveClient, quadrant: ZtfQuadrant, folder: Path, templates: dict[str, RemoteFile | None]
) -> Piece | None:
    if (folder / quadrant.folder / quadrant.template_name).exists():
        return None
    path = quadrant.path("template")
    if path not in templates:
        templates[path] = await client.probe(path)
    file = templates[path]
    return None if file is None else Piece(file, folder / path)


@dataclass
class Fetched:
    """Files fetched so far; updated during the fetch."""

    whole: int = 0
    files: list[Piece] = field(default_factory=list)
    failed: list[Trouble] = field(default_factory=list)


async def fetch(client: ArchiveClient, plan: FetchPlan, folder: Path, tell: Callable[[int], object]) -> Fetched:
    """Fetch the files of a plan.

    If a file fails, the exposure stays incomplete: its difference image, which makes it one, comes last.

    Parameters
    ----------
    client, plan, folder
        As for `plan_fetch`.
    tell
        Called with the number of bytes added.

    Raises
    ------
    Retryable
        ``disk_full``.
    Misconfigured
        The folder is not writable.
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
            done.failed.append(Trouble.of(todo.quadrant.stem, error))

    templates = {todo.template.target: todo.template for todo in plan.todo if todo.template is not None}
    await few_at_a_time(templates.values(), shared, client.settings.connections)
    await few_at_a_time(plan.todo, one, client.settings.connections)
    done.failed.sort(key=lambda trouble: trouble.uri)
    return done


async def _fetch(client: ArchiveClient, piece: Piece, done: Fetched, tell: Callable[[int], object]) -> None:
    if not piece.target.exists():
        await download(client, piece.file, piece.target, tell)
        done.files.append(piece)


def _link(source: Path, target: Path) -> None:
    """Link a shared file under a second name, or copy it if the file system has no links."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}.link")
        staged.unlink(missing_ok=True)
        try:
            os.link(source, staged)
        except OSError:
            shutil.copyfile(source, staged)
        publish_file(staged, target)
