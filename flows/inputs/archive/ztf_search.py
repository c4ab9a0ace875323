"""ZTF's products: names and paths in the archive, and queries of its table of exposures.

Sources: https://irsa.ipac.caltech.edu/docs/program_interface/ztf_metadata.html; Masci et al. 2019, PASP 131, 018003.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from flows.inputs.fits_ztf import PALOMAR_LONGITUDE
from kernels.sky.times import night_begin
from schemas.errors import Misconfigured

COLUMNS = ("field", "ccdid", "qid", "filtercode", "imgtypecode", "filefracday")
"""Columns of the archive's table of science exposures; file names are made of these."""

_SUFFIXES = {
    "difference": "scimrefdiffimg.fits.fz",
    "science": "sciimg.fits",
    "mask": "mskimg.fits",
    "psf": "diffimgpsf.fits",
}
_FORM = {
    "field": r"\d{1,6}",
    "ccdid": r"0?[1-9]|1[0-6]",
    "qid": r"[1-4]",
    "filtercode": r"z[gri]",
    "imgtypecode": r"[a-z]",
    "filefracday": r"\d{14}",
}


@dataclass(frozen=True, order=True)
class ZtfQuadrant:
    """Quadrant of an exposure, a separate image in the archive.

    Attributes
    ----------
    filefracday
        Time when the shutter opened: YYYYMMDD and the fraction of the day, UTC, 14 digits.
    field
        Number of the field on the sky.
    filter_code
        zg, zr or zi.
    ccd, quadrant
        Numbers of CCD, 1 to 16, and quadrant, 1 to 4.
    kind
        Letter for the kind of image; o: on the sky.
    """

    filefracday: str
    field: int
    filter_code: str
    ccd: int
    quadrant: int
    kind: str = "o"

    @classmethod
    def of_row(cls, row: Mapping[str, str | None], where: str) -> "ZtfQuadrant":
        """Return the quadrant of a row of the archive's table.

        Raises
        ------
        Misconfigured
            ``bad_answer``: a column is missing, or has a value that cannot be part of a file name.
        """
        values = {name: (row.get(name) or "").strip() for name in COLUMNS}
        for name, form in _FORM.items():
            if not re.fullmatch(form, values[name]):
                raise Misconfigured(
                    "bad_answer",
                    where,
                    f"column {name} of the archive's table holds {values[name]!r}, must look like {form}.",
                    "check fetch.url: it must be that of the archive.",
                )
        return cls(
            filefracday=values["filefracday"],
            field=int(values["field"]),
            filter_code=values["filtercode"],
            ccd=int(values["ccdid"]),
            quadrant=int(values["qid"]),
            kind=values["imgtypecode"],
        )

    @property
    def stem(self) -> str:
        """Return the beginning of the names of its files."""
        return (
            f"ztf_{self.filefracday}_{self.field:06d}_{self.filter_code}_c{self.ccd:02d}_{self.kind}_q{self.quadrant}"
        )

    @property
    def folder(self) -> str:
        """Return the folder of its files, relative to the archive's products."""
        day = self.filefracday
        return f"sci/{day[:4]}/{day[4:8]}/{day[8:]}"

    def path(self, product: str) -> str:
        """Return a product's path relative to the archive's products: difference, science, mask, psf, template."""
        if product == "template":
            field, channel = f"{self.field:06d}", f"{self.filter_code}/ccd{self.ccd:02d}/q{self.quadrant}"
            return f"ref/{field[:3]}/field{field}/{channel}/{self.template_name}"
        return f"{self.folder}/{self.stem}_{_SUFFIXES[product]}"

    @property
    def template_name(self) -> str:
        """Return the name of the reference image, which all exposures of its field share."""
        return f"ztf_{self.field:06d}_{self.filter_code}_c{self.ccd:02d}_q{self.quadrant}_refimg.fits"


SEARCH = "search/ztf/products/sci"
"""Path of the search for ZTF's science exposures, relative to the archive's address."""

_JD_OF_MJD_0 = 2400000.5


@dataclass(frozen=True)
class ZtfSearch:
    """Selection of quadrants; an empty field selects all.

    Attributes
    ----------
    first, last
        Nights, as dates of their evenings at Palomar; both are included.
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
        """Return all nights, in order: one query for each keeps answers short."""
        return tuple(self.first + timedelta(days) for days in range((self.last - self.first).days + 1))

    def query(self, night: date) -> dict[str, str]:
        """Return the parameters of the query for one night: a condition in SQL, the columns, and CSV as the format."""
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
    """Parse the archive's table.

    Parameters
    ----------
    text
        CSV with a line of column names.
    where
        Address that was queried, for messages.

    Raises
    ------
    Misconfigured
        ``bad_answer``: the text is something else, e.g. a page with an error message.
    """
    try:
        lines = list(csv.reader(io.StringIO(text), skipinitialspace=True))
    except csv.Error:  # a line longer than the maximum field: not a table
        lines = []
    columns = [name.strip() for name in lines[0]] if lines else []
    if not set(COLUMNS) <= set(columns):
        raise Misconfigured(
            "bad_answer",
            where,
            f"the archive's answer is not a table with the columns {', '.join(COLUMNS)}: it begins {text[:80]!r}.",
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
