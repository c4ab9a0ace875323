"""Questions to the archive's table of ZTF exposures, and its answers."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from flows.adapters.fits_ztf import PALOMAR_LONGITUDE
from flows.fetch.ztf_quadrant import COLUMNS, ZtfQuadrant
from kernels.night import night_begin
from schemas.errors import Misconfigured

SEARCH = "search/ztf/products/sci"
"""Where the archive's image search of ZTF's science exposures is, below its address."""

_JD_OF_MJD_0 = 2400000.5


@dataclass(frozen=True)
class ZtfSearch:
    """Which quadrants are wanted; empty: all.

    Attributes
    ----------
    first, last
        Nights: dates of their evenings at Palomar, both included.
    fields, ccds, quadrants
        Numbers.
    bands
        g, r, i.
    """

    first: date
    last: date
    fields: tuple[int, ...] = ()
    bands: tuple[str, ...] = ()
    ccds: tuple[int, ...] = ()
    quadrants: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise Misconfigured(
                "dates", "--to", f"{self.last} is before --from {self.first}.", "name the earlier night first."
            )
        _require("--field", self.fields, range(1_000_000))
        _require("--filter", self.bands, ("g", "r", "i"))
        _require("--ccdid", self.ccds, range(1, 17))
        _require("--qid", self.quadrants, range(1, 5))

    @property
    def nights(self) -> tuple[date, ...]:
        """All of them, in order: each is one question, so that no answer is too long."""
        return tuple(self.first + timedelta(days) for days in range((self.last - self.first).days + 1))

    def query(self, night: date) -> dict[str, str]:
        """Give the parameters of the question for one night: a condition in SQL, the columns, and CSV as the answer."""
        begin = _JD_OF_MJD_0 + night_begin(night, PALOMAR_LONGITUDE)
        conditions = [
            f"obsjd>={begin:.5f}",
            f"obsjd<{begin + 1:.5f}",
            "imgtypecode='o'",
            *_any_of("field", self.fields),
            *_any_of("filtercode", [f"'z{band}'" for band in self.bands]),
            *_any_of("ccdid", self.ccds),
            *_any_of("qid", self.quadrants),
        ]
        return {"WHERE": " AND ".join(conditions), "COLUMNS": ",".join(COLUMNS), "ct": "csv"}


def read_answer(text: str, where: str) -> tuple[ZtfQuadrant, ...]:
    """Read the archive's table.

    Parameters
    ----------
    text
        CSV with a line of column names.
    where
        Address that was asked, for messages.

    Raises
    ------
    Misconfigured
        ``bad_answer``: it is something else, e.g. a page that says what is wrong with the question.
    """
    try:
        lines = list(csv.reader(io.StringIO(text), skipinitialspace=True))
    except csv.Error:  # a line longer than a field may be: no table
        lines = []
    columns = [name.strip() for name in lines[0]] if lines else []
    if not set(COLUMNS) <= set(columns):
        raise Misconfigured(
            "bad_answer",
            where,
            f"the archive's answer is no table with the columns {', '.join(COLUMNS)}: it begins {text[:80]!r}.",
            "check fetch.url, and try later if the archive is down.",
        )
    rows = (dict(zip(columns, row, strict=False)) for row in lines[1:] if row)
    return tuple(sorted({ZtfQuadrant.of_row(row, where) for row in rows}))


def _any_of(column: str, values: Iterable[int | str]) -> Iterator[str]:
    listed = ",".join(map(str, values))
    if listed:
        yield f"{column} IN ({listed})"


def _require(option: str, values: Iterable[int | str], allowed: range | tuple[str, ...]) -> None:
    for value in values:
        if value not in allowed:
            rule = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else f"one of {', '.join(allowed)}"
            raise Misconfigured("option", option, f"{value} was given, must be {rule}.", "correct it.")
