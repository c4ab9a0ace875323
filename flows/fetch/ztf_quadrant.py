"""Names and places of ZTF's products in the archive.

https://irsa.ipac.caltech.edu/docs/program_interface/ztf_metadata.html; Masci et al. 2019, PASP 131, 018003.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import Misconfigured

COLUMNS = ("field", "ccdid", "qid", "filtercode", "imgtypecode", "filefracday")
"""Of the archive's table of science exposures; all that the names of files are made of."""

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
    """One quadrant of one exposure: an image of its own in the archive.

    Attributes
    ----------
    filefracday
        YYYYMMDD and the fraction of the day, UTC, when the shutter opened: 14 digits.
    field
        Number of the field on the sky.
    filter_code
        zg, zr or zi.
    ccd, quadrant
        1 to 16, 1 to 4.
    kind
        Letter of the kind of image; o: on the sky.
    """

    filefracday: str
    field: int
    filter_code: str
    ccd: int
    quadrant: int
    kind: str = "o"

    @classmethod
    def of_row(cls, row: Mapping[str, str | None], where: str) -> "ZtfQuadrant":
        """Take it from a row of the archive's table.

        Raises
        ------
        Misconfigured
            ``bad_answer``: a column is missing or holds what cannot be part of a file name.
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
        """What the names of its files begin with."""
        return (
            f"ztf_{self.filefracday}_{self.field:06d}_{self.filter_code}_c{self.ccd:02d}_{self.kind}_q{self.quadrant}"
        )

    @property
    def folder(self) -> str:
        """Where its files are, below the archive's products."""
        day = self.filefracday
        return f"sci/{day[:4]}/{day[4:8]}/{day[8:]}"

    def path(self, product: str) -> str:
        """Give the place of a product below the archive's products: difference, science, mask, psf, template."""
        if product == "template":
            field, channel = f"{self.field:06d}", f"{self.filter_code}/ccd{self.ccd:02d}/q{self.quadrant}"
            return f"ref/{field[:3]}/field{field}/{channel}/{self.template_name}"
        return f"{self.folder}/{self.stem}_{_SUFFIXES[product]}"

    @property
    def template_name(self) -> str:
        """Name of the reference image, which all exposures of its field share."""
        return f"ztf_{self.field:06d}_{self.filter_code}_c{self.ccd:02d}_q{self.quadrant}_refimg.fits"
