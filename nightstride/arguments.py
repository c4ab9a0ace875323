"""Arguments that are of another type than they should be, refused by our own errors."""

from operator import index
from pathlib import Path
from typing import Any

from schemas.errors import Misconfigured


def identity_of(value: object) -> int:
    """Return an id as an integer; text of digits will do.

    Raises
    ------
    Misconfigured
        It is none (``bad_id``). A float is not: it may have lost the last digits.
    """
    try:
        return int(value) if isinstance(value, str) else index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        remedy = "give an integer, as the column of the ids has it: floats lose the last digits."
        raise Misconfigured("bad_id", repr(value), "is no id.", remedy) from error


def whole_number(value: Any, name: str, least: int | None = None) -> int:
    """Return a whole number; text of digits, and a float without a fraction, will do.

    Parameters
    ----------
    value, name
        As it was given, and the argument that it was given as.
    least
        Smallest that it may be; None: any.

    Raises
    ------
    Misconfigured
        It is none, or smaller (``bad_number``).
    """
    try:
        found = int(value)
        whole = value.isdecimal() if isinstance(value, str) else found == value and not isinstance(value, bool)
        if whole and (least is None or found >= least):
            return found
    except (TypeError, ValueError, OverflowError):
        pass
    rule = "a whole number" if least is None else f"a whole number, {least} or more"
    raise Misconfigured("bad_number", name, f"is {value!r}, must be {rule}.", "correct it.")


def path_of(value: Any, name: str) -> Path:
    """Return a path that was given as text or as a path.

    Raises
    ------
    Misconfigured
        It is neither (``bad_path``).
    """
    try:
        return Path(value)
    except TypeError as error:
        raise Misconfigured("bad_path", name, f"is {value!r}, no path.", "give a text or a pathlib.Path.") from error
