"""What a file system says of a source without reading it."""

from datetime import datetime
from pathlib import Path
from typing import Any

from flows.adapters.sources import Source
from schemas.ledger import SourceStat


def stat_of(source: Source) -> SourceStat | None:
    """Give total size and last change of all files of an exposure; None if the file system does not tell.

    A source whose stat is as remembered is not read again.
    """
    try:
        found = [_stat(uri) for uri in (source.uri, *(uri for _, uri in source.siblings))]
    except (OSError, ValueError):
        return None
    times = [mtime_ns for _, mtime_ns in found]
    if None in times:
        return None
    return SourceStat(size=sum(size for size, _ in found), mtime_ns=max(time for time in times if time is not None))


def _stat(uri: str) -> tuple[int, int | None]:
    if "://" not in uri and "::" not in uri:
        entry = Path(uri).stat()
        return entry.st_size, entry.st_mtime_ns
    # Imported here: a rerun on local files should not pay for it.
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(uri)
    info: dict[str, Any] = fs.info(path)
    changed = info.get("mtime") or info.get("LastModified") or info.get("last_modified")
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    return int(info["size"]), None if changed is None else int(float(changed) * 1e9)
