"""Detections on negated difference images, which count false detections without a truth catalogue."""

import pyarrow as pa

from schemas.dataset import TableOf, column


def _count(name: str, doc: str) -> pa.Field:
    return column(name, pa.int32(), "", doc)


NEGATED = TableOf(
    "negated",
    pa.schema(
        [
            _count("tile", "Number of the copied tile, row by row from 0."),
            column("nPixels", pa.int64(), "", "Usable pixels of the tile."),
            column(
                "x", pa.float64(), "pix", "Place on the exposure; null in the row of the tile itself.", nullable=True
            ),
            column("y", pa.float64(), "pix", "The same.", nullable=True),
            column("satellite", pa.bool_(), "", "Whether it has a class.", nullable=True),
            column(
                "mayHaveFaded", pa.bool_(), "", "Whether the template has the light that is missing.", nullable=True
            ),
        ]
    ),
    synthetic=True,
)
"""Detections on negated copies of tiles: a row for each tile, and one for each detection centred in it."""

NEGATIVE = TableOf(
    "negative",
    pa.schema(
        [
            column("visit", pa.int64(), "", "Visit whose pixels were copied."),
            column("detector", pa.int32(), "", "Its detector."),
            _count("tile", "Number of the copied tile, row by row from 0."),
            column("nPixels", pa.int64(), "", "Usable pixels of the tile."),
            _count("nDetections", "Published by the search of the negated copy, centred in the tile."),
            _count("nSatellites", "Of these, with a class."),
            _count("nNearDetection", "Of the others, beside a detection of the image as it is: rings of its light."),
            _count("nAtSource", "Of the others, at a source of science image or template, which may have faded."),
            _count("nFalse", "Of the others: nothing that moves is dark, so these are false."),
            column("band", pa.string(), "", "Filter band."),
            column("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
        ]
    ),
    synthetic=True,
)
"""A row for each tile that was copied, negated and searched."""
