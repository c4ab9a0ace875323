"""Numbers with the nouns that they count, and paths as they are typed."""

import shlex
from pathlib import Path


def counted(count: int, name: str) -> str:
    """Return a number with the noun it counts, in the singular for one.

    >>> counted(1, "file"), counted(1200, "upper limit")
    ('1 file', '1,200 upper limits')
    """
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def typed(path: Path) -> str:
    """Return a path as it is typed in a shell, where a dash at its head would begin an option.

    >>> typed(Path("my out")), typed(Path("-out"))
    ("'my out'", './-out')
    """
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))
