"""Looking up keywords in the headers of one file, with errors that name them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from astropy.io import fits

from schemas.errors import BadInput


@dataclass(frozen=True)
class Keywords:
    """Headers of a file, in the order in which they are asked.

    Attributes
    ----------
    where
        Uri, for messages.
    headers
        The image's own header first, then the primary one.
    """

    where: str
    headers: tuple[fits.Header, ...]

    def find(self, *names: str) -> tuple[str, Any] | None:
        """Give the first of ``names`` that is there and not empty, with its value."""
        return next(self._found(names), None)

    def has(self, *names: str) -> bool:
        """Tell whether any of ``names`` is there and not empty."""
        return self.find(*names) is not None

    def required(self, *names: str) -> tuple[str, Any]:
        """Give the first of ``names`` that is there and not empty, with its value.

        Raises
        ------
        BadInput
            ``missing_keyword``.
        """
        found = self.find(*names)
        if found is None:
            raise BadInput(
                "missing_keyword",
                self.where,
                f"the header has no keyword {' or '.join(names)}.",
                "add it to the file's header, or map another one in the settings, section [fits].",
            )
        return found

    def text(self, *names: str) -> str:
        """Give a value as text without blanks around it.

        Raises
        ------
        BadInput
            ``missing_keyword``.
        """
        return str(self.required(*names)[1]).strip()

    def number(self, *names: str, least: float = -math.inf, most: float = math.inf) -> float:
        """Give a finite number within [least, most].

        Raises
        ------
        BadInput
            ``missing_keyword``; ``invalid_keyword`` if it is no such number.
        """
        name, value = self.required(*names)
        return as_number(value, name, self.where, least, most)

    def integer(self, *names: str, below: int) -> int:
        """Give a whole number in [0, below).

        Raises
        ------
        BadInput
            ``missing_keyword``; ``invalid_keyword`` if it is no such number.
        """
        name, value = self.required(*names)
        return as_integer(value, name, self.where, below)

    def optional(self, *names: str, least: float = -math.inf) -> float | None:
        """Give a finite number above ``least``, or None: what is not essential costs no exposure."""
        found = self.find(*names)
        if found is None:
            return None
        try:
            number = float(found[1])
        except (TypeError, ValueError):
            return None
        return number if math.isfinite(number) and number > least else None

    def _found(self, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name in names:
            for header in self.headers:
                value = header.get(name)
                if value is not None and not isinstance(value, fits.card.Undefined) and str(value).strip():
                    yield name, value


def as_number(value: Any, name: str, where: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Give ``value`` as a finite float within [least, most].

    Raises
    ------
    BadInput
        ``invalid_keyword``.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number) and least <= number <= most:
        return number
    raise BadInput(
        "invalid_keyword",
        where,
        f"{name} is {value!r}, must be a number{_range(least, most)}.",
        f"correct {name} in the header.",
    )


def as_integer(value: Any, name: str, where: str, below: int) -> int:
    """Give ``value`` as an int in [0, below).

    Raises
    ------
    BadInput
        ``invalid_keyword``.
    """
    number = as_number(value, name, where)
    # Not through float: a visit has up to 42 bits, but text may hold more than float's 53.
    whole = int(value) if isinstance(value, int) else int(number)
    if whole == number and 0 <= whole < below:
        return whole
    raise BadInput(
        "invalid_keyword",
        where,
        f"{name} is {value!r}, must be a whole number from 0 to {below - 1}.",
        f"correct {name} in the header.",
    )


def _range(least: float, most: float) -> str:
    if math.isinf(least) and math.isinf(most):
        return ""
    if math.isinf(most):
        return f" of at least {least:g}"
    return f" from {least:g} to {most:g}"
