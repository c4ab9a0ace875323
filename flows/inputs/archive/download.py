"""Download of files: resumed where it stopped, and named only when complete."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from flows.inputs.archive.client import Answer, ArchiveClient, RemoteFile, TryAgain
from flows.inputs.fits_io import FitsContent
from flows.storage.atomic import publish_file
from flows.storage.writing import writing
from schemas.errors import BadInput

PART = ".part"
"""Suffix of incomplete files; their names begin with a dot, so that no run reads them."""

_PROGRESS = 2**20  # bytes that count as progress
_AGAIN = "run the command again."


async def download(client: ArchiveClient, file: RemoteFile, target: Path, tell: Callable[[int], object]) -> None:
    """Fetch a FITS file.

    A partial file of the same version that an earlier call left beside ``target`` is continued. The file is renamed
    once its size, the digest stated by the archive, and CHECKSUM and DATASUM of its HDUs are right; otherwise it is
    fetched again.

    Parameters
    ----------
    client, file
        Connection, and the file to fetch.
    target
        Path to write.
    tell
        Called with the number of bytes added, negative if some are discarded.

    Raises
    ------
    BadInput
        ``refused``, ``gone``, ``bad_answer``; or a fault of the file that every download has.
    Retryable
        ``archive_error``: connections keep failing; ``disk_full``.
    Misconfigured
        The folder is not writable.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _part(target, file)
        tell(_size(part))
        failed, best = 0, _size(part)
        while True:
            try:
                await _go_on(client, file, part, tell)
                break
            except TryAgain as again:
                failed = 0 if _size(part) >= best + _PROGRESS else failed + 1
                best = max(best, _size(part))
                if failed > client.settings.retries:
                    raise again.error from again
                await client.pause(max(failed, 1), again)
    publish_file(part, target)


def _part(target: Path, file: RemoteFile) -> Path:
    """Return the path for a partial file of this version; remove those of other versions."""
    part = target.with_name(f".{target.name}.{file.version}{PART}")
    for other in target.parent.glob(f".{target.name}.*{PART}"):
        if other != part:
            other.unlink()
    return part


async def _go_on(client: ArchiveClient, file: RemoteFile, part: Path, tell: Callable[[int], object]) -> None:
    """Fetch the missing part of a file, and check the whole."""
    digest = None
    if _size(part) != file.size:
        start = _size(part) if _size(part) < file.size else 0
        async with client.read(file, start) as answer:
            digest = answer.digest
            await _append(answer, part, file.size, tell)
    try:
        await asyncio.to_thread(_check, part, file, digest)
    except BadInput as error:
        if error.code != "cut":
            tell(-_size(part))
            part.unlink(missing_ok=True)
        raise TryAgain(error) from error


async def _append(answer: Answer, part: Path, size: int, tell: Callable[[int], object]) -> None:
    """Append bytes as they arrive, at their place; at most one more than expected, which reveals a wrong size."""
    before = _size(part)
    if answer.start > before:
        raise BadInput("bad_answer", str(part), f"the archive sends from byte {answer.start} on.", "check fetch.url.")
    tell(answer.start - before)
    with part.open("r+b" if part.exists() else "wb") as out:
        out.truncate(answer.start)
        out.seek(answer.start)
        async for chunk in answer.chunks:
            tell(out.write(chunk[: size + 1 - out.tell()]))
            if out.tell() > size:
                return


def _check(part: Path, file: RemoteFile, digest: tuple[str, str] | None) -> None:
    """Raise BadInput if a file differs from what the archive states, or is not a complete FITS file."""
    content = part.read_bytes()
    if len(content) < file.size:
        raise BadInput("cut", file.url, f"{len(content)} of {file.size} bytes came.", _AGAIN)
    if len(content) > file.size:
        raise BadInput("wrong_size", file.url, f"{len(content)} bytes came, not {file.size}.", _AGAIN)
    if digest is not None and hashlib.new(digest[0], content).hexdigest() != digest[1]:
        raise BadInput(
            "bad_checksum", file.url, f"the bytes do not have the {digest[0]} that the archive states.", _AGAIN
        )
    FitsContent(content, file.url).check()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


T = TypeVar("T")


async def few_at_a_time(items: Iterable[T], work: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Run ``work`` on all items in order, ``at_once`` at a time; the first error stops all."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    workers = [asyncio.create_task(worker()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
