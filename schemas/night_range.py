"""Ranges of nights."""

from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from schemas.errors import Misconfigured, choice

_LAST = "99999999"  # words, such as the label of an unknown night, are sorted after it


@dataclass(frozen=True)
class NightRange:
    """Nights from one to another, YYYYMMDD, both included; None: no limit.

    >>> "20260105" in NightRange("20260101", None), "20260105" in NightRange.of("20260101")
    (True, False)
    """

    first: str | None = None
    last: str | None = None

    @classmethod
    def of(cls, night: str) -> "NightRange":
        """Return the range of one night."""
        return cls(night, night)

    def __contains__(self, night: str) -> bool:
        return not self or (self.first or "") <= night <= (self.last or _LAST)

    def __bool__(self) -> bool:
        """Return whether the range excludes any night."""
        return self != EVERY_NIGHT

    def __str__(self) -> str:
        if self.first == self.last:
            return f"night {self.first}" if self.first else "every night"
        return f"nights {self.first or 'the first'} to {self.last or 'the last'}"

    def among(self, known: Iterable[str], where: str) -> tuple[str, ...]:
        """Return, sorted, the known nights within the range.

        Raises
        ------
        Misconfigured
            A limited range has none of them (``no_night``); ``where`` is the folder of the nights.
        """
        nights = sorted(known)
        found = tuple(one for one in nights if one in self)
        if self and not found:
            if not nights:
                remedy = "see `nightstride status OUT`."
            elif self.first == self.last:
                remedy = choice(str(self.first), nights)
            else:
                remedy = f"choose among {nights[0]} to {nights[-1]}."
            raise Misconfigured("no_night", where, f"holds nothing of {self}.", remedy)
        return found


EVERY_NIGHT = NightRange()
"""Range without limits."""


def _days_before(night: str, days: int) -> str:
    return (date.fromisoformat(night) - timedelta(days)).strftime("%Y%m%d")


def nights_before(known: Iterable[str], night: str, count: int) -> list[str]:
    """Return, sorted, the known nights within ``count`` days that end with a night, itself included."""
    first = _days_before(night, count - 1)
    return sorted(one for one in known if first <= one <= night)


def nights_followed(known: Iterable[str], nights: Collection[str], days: int) -> list[str]:
    """Return, sorted, the known nights that lie 0 to ``days`` days after one of some nights."""
    some = sorted(nights)  # only the latest of them up to a night can be near enough

    def follows(one: str) -> bool:
        place = bisect_right(some, one)
        return place > 0 and _days_before(one, days) <= some[place - 1]

    return sorted(filter(follows, known))
