"""The known name that somebody may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def choice(given: str, known: Iterable[str]) -> str:
    """Give the end of the sentence "To fix, ..." for a name that is not known: the nearest one, and all.

    >>> choice("ztg", ["llnl", "ztf"])
    "write 'ztf'; known are llnl, ztf."
    >>> choice("?", ["llnl", "ztf"])
    'choose one of llnl, ztf.'
    """
    names = list(known)
    near = get_close_matches(given, names, 1)
    return f"write {near[0]!r}; known are {', '.join(names)}." if near else f"choose one of {', '.join(names)}."
