"""What stars and galaxies were put on simulated science images."""

import pyarrow as pa

from schemas.dataset import TableOf, column
from schemas.object import BANDS

TRUTH_OBJECT = TableOf(
    "truth_object",
    pa.schema(
        [
            column("kind", pa.string(), "", "star | galaxy"),
            column("detector", pa.int32(), "", "Detector."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS)."),
            column("dec", pa.float64(), "deg", "Declination (ICRS)."),
            *(column(f"{band}_mag", pa.float32(), "mag(AB)", f"Magnitude in {band}.") for band in BANDS),
            column("halfLightRadius", pa.float32(), "arcsec", "Along the major axis; 0 for a star."),
            column("axisRatio", pa.float32(), "", "Minor over major axis; 1 for a star."),
            column("positionAngle", pa.float32(), "deg", "Of the major axis, north through east, modulo 180."),
            column("sersic", pa.float32(), "", "Sersic index; 0 for a star."),
        ]
    ),
)
