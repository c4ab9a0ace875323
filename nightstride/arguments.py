"""Checks of the types of arguments."""

from operator import index
from pathlib import Path
from typing import Any

from schemas.errors import Misconfigured


def identity_of(value: object) -> int:
    """Return an id as an integer; a string of digits is accepted.

    Raises
    ------
    Misconfigured
        The value is not an id (``bad_id``). Floats are refused: they may have lost the last digits.
    """
    try:
        return int(value) if isinstance(value, str) else index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        remedy = "give an integer, as the column of the ids has it: floats lose the last digits."
        raise Misconfigured("bad_id", repr(value), "is no id.", remedy) from error


def whole_number(value: Any, name: str, least: int | None = None) -> int:
    """Return a whole number; a string of digits or a float without a fraction is accepted.

    Parameters
    ----------
    value, name
        The value as given, and the name of the argument.
    least
        Smallest value allowed; None: no limit.

    Raises
    ------
    Misconfigured
        The value is not a whole number, or is less than ``least`` (``bad_number``).
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
    """Return a path given as a string or a path.

    Raises
    ------
    Misconfigured
        The value is neither (``bad_path``).
    """
    try:
        return Path(value)
    except TypeError as error:
        raise Misconfigured("bad_path", name, f"is {value!r}, no path.", "give a text or a pathlib.Path.") from error
