"""State of a source without reading its pixels: size and time, digest, changes."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from flows.inputs.source import Source, name_of
from flows.inputs.sources import list_sources
from schemas.errors import BadInput, NightstrideError, Retryable
from schemas.ledger import SourceFile, SourceStat, file_of_source
from schemas.settings import Settings


def stat_of(source: Source) -> SourceStat | None:
    """Return total size and last change of the files of an exposure; None if the file system does not provide them.

    A source with the recorded stat is not read again. Replacing any single file changes it, even by an older one of the
    same size.
    """
    try:
        found = [_stat(uri) for uri in (source.uri, *(uri for _, uri in source.siblings))]
    except (OSError, ValueError, BadInput, Retryable):
        return None
    told = [(size, mtime_ns) for size, mtime_ns in found if mtime_ns is not None]
    if len(told) < len(found):
        return None
    each = sha256(repr(told).encode()).hexdigest()
    return SourceStat(size=sum(size for size, _ in told), mtime_ns=max(time for _, time in told), each=each)


def _stat(uri: str) -> tuple[int, int | None]:
    if "://" not in uri:
        entry = Path(uri).stat()
        return entry.st_size, entry.st_mtime_ns
    # Imported here: a rerun on local files does not need it.
    from flows.inputs.files import file_system, patient, read_failures

    def once() -> dict[str, Any]:
        with read_failures(uri):
            fs, path = file_system(uri)
            return dict(fs.info(path))

    info = patient(uri, once)
    changed = info.get("mtime") or info.get("LastModified") or info.get("last_modified")
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    return int(info["size"]), None if changed is None else int(float(changed) * 1e9)


def sha256_of(source: Source, settings: Settings) -> str:
    """Return the SHA-256 of an exposure's files: difference, then siblings by plane; of an image in a stack, its own.

    Equal to ``source_sha256`` of the exposure read from the source.

    Raises
    ------
    BadInput, Retryable
        A file cannot be read.
    """
    if source.index is not None:
        from flows.inputs.probe import read

        return read(source, settings).source_sha256
    from flows.inputs.files import digested

    total = sha256()
    for _, uri in source.files:
        total = digested(uri, total)
    return total.hexdigest()


State = Literal["unchanged", "changed", "unreachable"]


def source_state(
    uri: str,
    sha256: str,
    settings: Settings,
    stat: SourceStat | None = None,
    files: Mapping[str, SourceFile] | None = None,
) -> State:
    """Compare the current files of an exposure with those that were searched.

    Parameters
    ----------
    uri, sha256
        Name of the source, and digest of its files when it was searched.
    settings
        Settings with which it was read.
    stat
        Stat when it was searched: files with the same size and time are not read again. None: they are read.
    files
        Plane -> file of an exposure with several files. None or empty: it has one, or an earlier version did not record
        them; then the files beside it that belong to it by name are taken.
    """
    try:
        for source in named_sources(uri, settings, files):
            if has_bytes(source, sha256, settings, stat):
                return "unchanged"
    except NightstrideError:
        return "unreachable"
    return "changed"


def file_states(sha256: str, settings: Settings, files: Mapping[str, SourceFile]) -> dict[str, State]:
    """Compare each current file of an exposure with several files with the one that was searched.

    Parameters
    ----------
    sha256, settings, files
        As for `source_state`; ``files`` must not be empty.

    Returns
    -------
    dict
        Plane -> state. Files whose digest was not recorded share the state of all files together.
    """
    states: dict[str, State] = {plane: _file_state(one) for plane, one in files.items() if one.sha256}
    if len(states) < len(files):
        together = source_state(_searched(files).uri, sha256, settings, files=files)
        states = {plane: states.get(plane, together) for plane in files}
    return states


def _file_state(file: SourceFile) -> State:
    from flows.inputs.files import digested

    try:
        return "unchanged" if digested(file.uri, sha256()).hexdigest() == file.sha256 else "changed"
    except NightstrideError:
        return "unreachable"


def _searched(files: Mapping[str, SourceFile]) -> Source:
    """Return the source that the recorded files make up."""
    (_, first), *rest = files.items()
    return Source(first.uri, siblings=tuple((plane, one.uri) for plane, one in rest))


def has_bytes(source: Source, sha256: str, settings: Settings, stat: SourceStat | None) -> bool:
    """Return whether the files of a source have the bytes that were searched; parameters as for `source_state`.

    Raises
    ------
    BadInput, Retryable
        A file cannot be read.
    """
    return (stat is not None and stat_of(source) == stat) or sha256_of(source, settings) == sha256


def named_sources(uri: str, settings: Settings, files: Mapping[str, SourceFile] | None) -> list[Source]:
    """Return the possible sources for a name: its recorded files; or its file with those beside it, and on its own.

    Parameters as for `source_state`.
    """
    if files:
        return [_searched(files)]
    found = [source for source in list_sources([file_of_source(uri)], settings) if name_of(source) == uri]
    return [*found, *(Source(source.uri, index=source.index) for source in found if source.siblings)]
