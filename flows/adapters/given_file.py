"""Files that the user names."""

from pathlib import Path

from schemas.errors import Misconfigured


def require_there(path: Path, what: str) -> None:
    """See that a file or folder is there, before it is said to be no good.

    Parameters
    ----------
    path
        As it was given.
    what
        What it should be, and how it is given: the end of the sentence "To fix, correct the path, or name ...".

    Raises
    ------
    Misconfigured
        It is not there (``no_such_file``).
    """
    if not path.exists():
        raise Misconfigured("no_such_file", str(path), "does not exist.", f"correct the path, or name {what}")
