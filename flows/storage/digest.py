"""Digests: results with the same digest are the same."""

from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
"""Where our packages lie."""

PACKAGES = ("schemas", "kernels", "stages", "flows")
"""Of our own code."""

OURS = frozenset({".py", ".json", ".safetensors"})
"""Kinds of files in them that results depend on: code, cards and weights."""


def digest(*parts: str | bytes | BaseModel | Mapping[str, Any]) -> str:
    """Return the SHA-256 of ``parts``, in order, as 64 hexadecimal digits.

    Parameters
    ----------
    *parts
        Text, bytes, models and mappings; within the last two also numbers, booleans, None and sequences. A mapping's
        order does not matter, a sequence's does. A model counts as the mapping of its JSON values.

    Raises
    ------
    TypeError
        A value of another type, or a key that is not text.

    Notes
    -----
    Every value is written as a type letter, the length of its content and the content, so that no two different
    inputs share an encoding: ``("ab", "c")`` is not ``("a", "bc")``, ``1`` is neither ``1.0`` nor ``"1"`` nor True.
    """
    return sha256(_encode(parts)).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read 1 MiB at a time."""
    total = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def content_digest(content: bytes | Path) -> str:
    """Return the SHA-256 of bytes, or of those of a file."""
    return sha256(content).hexdigest() if isinstance(content, bytes) else file_digest(content)


@cache
def our_code() -> str:
    """Return the digest of the code that runs here, taken once."""
    return code_digest(ROOT)


def code_digest(root: Path) -> str:
    """Return the SHA-256 over names and bytes of our own source files, cards and weights below ``root``."""
    files = (path for package in PACKAGES for path in (root / package).rglob("*") if path.suffix in OURS)
    return digest({path.relative_to(root).as_posix(): file_digest(path) for path in files})


KEPT = 64
"""Models whose encoding is kept."""

_kept: OrderedDict[int, tuple[BaseModel, bytes]] = OrderedDict()


def _of_model(model: BaseModel) -> bytes:
    """Encode a model; that of one which cannot change is kept: sections of settings are in digests of each exposure."""
    if not model.model_config.get("frozen"):
        return _encode(model.model_dump(mode="json"))
    known = _kept.get(id(model))
    if known is None:
        # The model, too: as long as it is kept no other has its id.
        known = model, _encode(model.model_dump(mode="json"))
        _kept[id(model)] = known
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return known[1]


def _encode(value: Any) -> bytes:
    kind = type(value)  # quicker than the patterns below, which ask pydantic of each value whether it is a model
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
