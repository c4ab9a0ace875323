"""Pictures of the galaxies of a patch, and their classifications."""

import pyarrow as pa

from schemas.class_table import class_dataset
from schemas.dataset import ArrayOf, TableOf, column
from schemas.picture_classes import MORPHOLOGIES

GALAXY = TableOf(
    "galaxy",
    pa.schema(
        [
            column("objectId", pa.int64(), "", "Object in `object`."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS), as there."),
            column("dec", pa.float64(), "deg", "Declination (ICRS), as there."),
            column("halfLightRadius", pa.float32(), "arcsec", "Radius of half of the light, as there."),
            column("sizeOverPsf", pa.float32(), "", "Half-light radius, less the PSF's, over the PSF's FWHM."),
        ]
    ),
    product=True,
    ids="objectId",
)
"""Galaxies large enough to classify from a picture."""

PICTURE_SIDE = 64
"""Side of a picture, px."""

GALAXY_PICTURE = ArrayOf("galaxy_picture", "uint8", ("galaxy", "y", "x", "colour"), "")
"""Pictures in the order of `galaxy`, in red, green and blue. All 0 if there is none, because the galaxy is too faint,
or lies at a border or on pixels without a value."""

UNRESOLVED = "unresolved"
"""Label of objects that are not in `galaxy`."""

MORPHOLOGY = class_dataset("morphology", MORPHOLOGIES, outlier=False, others=[UNRESOLVED])

ANOMALY = TableOf(
    "anomaly",
    pa.schema(
        [
            column("objectId", pa.int64(), "", "Galaxy in `galaxy`; one with a picture."),
            column("anomalyScore", pa.float32(), "", "Distance of its picture from those of real galaxies."),
            column(
                "anomalyVerdict", pa.float32(), "", "0, 0.2, 0.5, 0.8 or 1: from surely normal to surely anomalous."
            ),
            column("modelVersion", pa.string(), "", "Name and version of the model."),
        ]
    ),
    product=True,
)
