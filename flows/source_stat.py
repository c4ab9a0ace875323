"""What a file system says of a source without reading it."""

from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from flows.adapters.sources import Source
from schemas.errors import BadInput, Retryable
from schemas.ledger import SourceStat


def stat_of(source: Source) -> SourceStat | None:
    """Give total size and last change of the files of an exposure; None if the file system does not tell.

    A source whose stat is as remembered is not read again. It changes with each single file: also if one is replaced by
    an older one of the same size.
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
    if "://" not in uri and "::" not in uri:
        entry = Path(uri).stat()
        return entry.st_size, entry.st_mtime_ns
    # Imported here: a rerun on local files should not pay for it.
    from flows.adapters.files import failures, file_system, patient

    def once() -> dict[str, Any]:
        with failures(uri):
            fs, path = file_system(uri)
            return dict(fs.info(path))

    info = patient(uri, once)
    changed = info.get("mtime") or info.get("LastModified") or info.get("last_modified")
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    return int(info["size"]), None if changed is None else int(float(changed) * 1e9)
