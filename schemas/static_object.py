"""Objects of the science images over the nights: permanent ids, and the history of each object up to a night."""

from collections.abc import Iterator

import pyarrow as pa

from schemas.dataset import TableOf, column
from schemas.dia_object import flux_statistics_columns, motion_columns
from schemas.objects import BANDS

FLUXES = tuple(f"{band}_psfFlux{end}" for band in BANDS for end in ("", "Err"))
"""Columns of the fluxes of an object in a night, from blue to red."""


def _fluxes() -> Iterator[pa.Field]:
    for name in FLUXES:
        yield column(name, pa.float64(), "nJy", "As in `object`.", nullable=True)


STATIC_ASSOCIATION = TableOf(
    "static_association",
    pa.schema(
        [
            column("staticObjectId", pa.int64(), "", "The lasting object."),
            column("objectId", pa.int64(), "", "Its row in `object` of the night."),
            column("night", pa.string(), "", "The night, YYYYMMDD."),
            column("mjd", pa.float64(), "d", "Its midnight by Greenwich, MJD."),
            column("x", pa.float64(), "", "Direction (ICRS), first component of the unit vector."),
            column("y", pa.float64(), "", "Second component."),
            column("z", pa.float64(), "", "Third component."),
            column("weight", pa.float64(), "arcsec-2", "Inverse variance of the position along each axis."),
            *_fluxes(),
        ]
    ),
)
"""Objects of each night up to a given one that were seen in it, within a patch; not made by a stage but from the
association's store, and not published."""


STATIC_OBJECT = TableOf(
    "static_object",
    pa.schema(
        [
            column("objectId", pa.int64(), "", "Object in `object` of the night."),
            column(
                "staticObjectId", pa.int64(), "", "objectId of the night in which it was first published; it never "
                "changes.", ucd="meta.id",
            ),
            column(
                "separation", pa.float32(), "arcsec", "From the lasting object's place by the nights before; 0 of the "
                "first.",
            ),
            column("nNights", pa.int32(), "", "Nights up to this one in which it was seen."),
            column("firstNight", pa.string(), "", "First of these, YYYYMMDD.", ucd="time.epoch;stat.min"),
            column("lastNight", pa.string(), "", "Last of these: this night.", ucd="time.epoch;stat.max"),
            column(
                "meanRa", pa.float64(), "deg", "Right ascension (ICRS); mean of the nights, by the errors.",
                ucd="pos.eq.ra;stat.mean",
            ),
            column(
                "meanDec", pa.float64(), "deg", "Declination (ICRS); likewise.", ucd="pos.eq.dec;stat.mean"
            ),
            column(
                "meanPosErr", pa.float32(), "arcsec", "Standard error of that along each axis.",
                ucd="stat.error;pos.eq;stat.mean",
            ),
            column(
                "meanMjd", pa.float64(), "d", "When it is there: mean of the midnights, by the errors, MJD.",
                ucd="time.epoch;pos",
            ),
            *motion_columns(),
            *(field for band in BANDS for field in flux_statistics_columns(band, "Nights")),
        ]
    ),
    product=True,
    ids="objectId",
)  # fmt: skip
