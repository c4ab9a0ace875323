"""Head of the ledger in a bucket, and the objects listed in it."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from flows.storage.bucket_path import BucketPath
from flows.storage.layout import other_version
from flows.storage.ledger_segment import Entry, damaged_ledger
from schemas.errors import Misconfigured, Retryable
from schemas.ledger import LEDGER_VERSION

HEAD = "head.json"

TRIES = 5
"""Number of attempts to read objects that are moved meanwhile."""


class Group(BaseModel):
    """Segments of a night or of the index, earliest first, and the number of exposure records in them."""

    model_config = ConfigDict(frozen=True)

    segments: tuple[str, ...]
    records: int


class Head(BaseModel):
    """Objects that make up the ledger: segments by group, and generations of single objects, earliest first."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = LEDGER_VERSION
    groups: dict[str, Group] = {}
    open: tuple[str, ...] = ()


class Single(NamedTuple):
    """Single object of an entry; content is empty if the entry is removed, None if not yet known."""

    path: BucketPath
    content: bytes | None


@dataclass
class State:
    """Ledger as known to a process: head, single objects, and its own generation if it writes."""

    head: Head
    version: str | None
    term: int
    singles: dict[str, dict[Entry, Single]] = field(default_factory=dict)
    objects: set[BucketPath] = field(default_factory=set)
    versions: dict[BucketPath, str] = field(default_factory=dict)
    generation: str = ""


def look_up(root: BucketPath, term: int) -> State:
    """Return the current ledger. A listing is only valid for a head that is still current afterwards.

    Raises
    ------
    Misconfigured
        As in `read_head`.
    Retryable
        The store does not answer, or the head keeps changing.
    """
    for _ in range(TRIES):
        head, version = read_head(root)
        state = State(head, version, term)
        if not head.open:
            return state
        list_singles(root, state)
        with suppress(FileNotFoundError):
            if (root / HEAD).version() == version:
                return state
    raise Retryable("object_store", str(root / HEAD), "changes again and again.", "try again later.")


def read_head(root: BucketPath) -> tuple[Head, str | None]:
    """Return the head and its version; an empty head and None if there is none yet.

    Raises
    ------
    Misconfigured
        It is damaged (``damaged_ledger``), or another version wrote the ledger (``other_version``).
    """
    try:
        found = (root / HEAD).read_versioned()
    except FileNotFoundError:
        if (root / "held").is_dir() and not (root / HEAD).is_file():  # and it was not made meanwhile
            raise Misconfigured(
                "other_version",
                str(root),
                f"was written by an earlier version, without {HEAD}.",
                "use the version of nightstride that wrote it, or another --out.",
            ) from None
        return Head(), None
    try:
        head = Head.model_validate_json(found.content)
    except ValidationError as error:
        raise damaged_ledger(str(root / HEAD), "is not a head of a ledger") from error
    if head.schema_version != LEDGER_VERSION:
        raise other_version(str(root / HEAD), head.schema_version, LEDGER_VERSION)
    return head, found.version


def list_singles(root: BucketPath, state: State) -> None:
    """List the single objects of the open generations; if several have an entry, the latest counts."""
    open_ = {generation: number for number, generation in enumerate(state.head.open)}
    found = []
    for path, size in (root / "open").objects():
        generation, group, name = path.parts[-3:]
        if generation in open_:
            kind, _, name = name.removesuffix(".json").partition(".")
            found.append((open_[generation], group, (kind, name), Single(path, None if size else b"")))
    for _, group, entry, single in sorted(found, key=lambda one: one[0]):
        state.singles.setdefault(group, {})[entry] = single
        state.objects.add(single.path)
