"""Digests: equal digests mean equal content."""

from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
"""Folder that contains our packages."""

PACKAGES = ("schemas", "kernels", "stages", "flows")
"""Our own packages."""

OURS = frozenset({".py", ".json", ".safetensors"})
"""Suffixes of files in them that results depend on: code, cards and weights."""


def digest(*parts: str | bytes | BaseModel | Mapping[str, Any]) -> str:
    """Return the SHA-256 of ``parts``, in order, as 64 hexadecimal digits.

    Parameters
    ----------
    *parts
        Text, bytes, models and mappings; the last two may contain numbers, booleans, None and sequences. The order of
        a mapping does not matter, that of a sequence does. A model counts as the mapping of its JSON values.

    Raises
    ------
    TypeError
        A value has another type, or a key is not text.

    Notes
    -----
    Every value is written as a type letter, the length of its content and the content, so that no two different
    inputs share an encoding: ``("ab", "c")`` is not ``("a", "bc")``, ``1`` is neither ``1.0`` nor ``"1"`` nor True.
    """
    return sha256(_encode(parts)).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read 1 MiB at a time."""
    total = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def content_digest(content: bytes | Path) -> str:
    """Return the SHA-256 of bytes or of a file's content."""
    return sha256(content).hexdigest() if isinstance(content, bytes) else file_digest(content)


@cache
def our_code() -> str:
    """Return the digest of the running code, computed once."""
    return code_digest(ROOT)


def code_digest(root: Path) -> str:
    """Return the SHA-256 over the names and bytes of our own source files, cards and weights below ``root``."""
    files = (path for package in PACKAGES for path in (root / package).rglob("*") if path.suffix in OURS)
    return digest({path.relative_to(root).as_posix(): file_digest(path) for path in files})


KEPT = 64
"""Number of models whose encoding is kept."""

_kept: OrderedDict[int, tuple[BaseModel, bytes]] = OrderedDict()


def _of_model(model: BaseModel) -> bytes:
    """Encode a model; encodings of frozen models are kept, since each exposure's digests include settings sections."""
    if not model.model_config.get("frozen"):
        return _encode(model.model_dump(mode="json"))
    known = _kept.get(id(model))
    if known is None:
        # The model is kept too, so that no other object can have its id meanwhile.
        known = model, _encode(model.model_dump(mode="json"))
        _kept[id(model)] = known
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return known[1]


def _encode(value: Any) -> bytes:
    kind = type(value)  # faster than the patterns below, where pydantic checks each value
    if kind is str:
        return _item(b"s", value.encode())
    if kind is list or kind is tuple:
        return _item(b"l", b"".join([_encode(one) for one in value]))
    match value:
        case BaseModel():
            return _of_model(value)
        case None:
            return _item(b"n", b"")
        case bool():
            return _item(b"b", b"1" if value else b"0")
        case int():
            return _item(b"i", str(int(value)).encode())
        case float():
            return _item(b"f", float(value).hex().encode())
        case str():
            return _item(b"s", str(value).encode())
        case bytes():
            return _item(b"y", value)
        case Mapping():
            if unnamed := [key for key in value if not isinstance(key, str)]:
                raise TypeError(f"the keys of a mapping in a digest must be text, got {unnamed[0]!r}")
            return _item(b"m", b"".join(_encode(key) + _encode(value[key]) for key in sorted(value)))
        case list() | tuple():
            return _item(b"l", b"".join(map(_encode, value)))
        case _:
            raise TypeError(
                f"a digest takes text, bytes, numbers, models, mappings and lists, got {type(value).__name__}"
            )


def _item(kind: bytes, content: bytes) -> bytes:
    return kind + str(len(content)).encode() + b":" + content
