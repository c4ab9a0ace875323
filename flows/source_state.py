"""Whether what was searched is still where it was."""

from typing import Literal

from flows.adapters.sources import Source, list_sources
from flows.source_digest import sha256_of
from flows.source_name import name_of
from flows.source_stat import stat_of
from schemas.errors import NightstrideError
from schemas.ledger import SourceStat
from schemas.settings import Settings

State = Literal["unchanged", "changed", "unreachable"]


def source_state(uri: str, sha256: str, settings: Settings, stat: SourceStat | None = None) -> State:
    """Compare the files of an exposure with what was searched.

    Parameters
    ----------
    uri, sha256
        Name of the source, and of the bytes of its files when it was searched.
    settings
        With which it was read.
    stat
        What the file system said then: files with the same size and time are not read again. None: they are.
    """
    try:
        for source in _candidates(uri, settings):
            if (stat is not None and stat_of(source) == stat) or sha256_of(source, settings) == sha256:
                return "unchanged"
    except NightstrideError:
        return "unreachable"
    return "changed"


def _candidates(uri: str, settings: Settings) -> list[Source]:
    """Give what the name of a source may stand for: its file with those beside it, and alone."""
    file = uri.rpartition("[")[0] if uri.endswith("]") else uri
    found = [source for source in list_sources([file], settings) if name_of(source) == uri]
    return [*found, *(Source(source.uri, index=source.index) for source in found if source.siblings)]
