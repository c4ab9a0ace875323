"""Known Solar System objects on an exposure, and the detections matched to them."""

import pyarrow as pa

from schemas.dataset import FileOf, TableOf, column

ORBITS = FileOf("orbits", "predict_known.orbits", "predict_known.resolver")
"""Orbits of known objects, read from the file in the settings: `kernels.orbits.ephemeris.OrbitCatalogue`."""


def _seen(name: str, unit: str, doc: str, *, nullable: bool = False) -> pa.Field:
    return column(name, pa.float32(), unit, doc, nullable=nullable)


_OBJECT = (
    column("ssObjectId", pa.int64(), "", "First 63 bits of the SHA-256 of the designation."),
    column("designation", pa.string(), "", "Of the object, as the file of orbits has it."),
)

_PREDICTED = (
    column(
        "ephRa", pa.float64(), "deg", "Predicted right ascension (ICRS, astrometric) at the middle of the exposure."
    ),
    column("ephDec", pa.float64(), "deg", "Predicted declination."),
    _seen("ephRate", "deg / d", "Predicted motion on the sky."),
    _seen("ephRateAngle", "deg", "Its position angle, from north through east."),
    _seen("ephUncertainty", "arcsec", "How far along its motion the object may be from there, by its orbit."),
    _seen(
        "ephVmag",
        "mag",
        "Predicted V magnitude, by H and G; of comets in total, by M1 and K1; null where H or M1 is not known.",
        nullable=True,
    ),
    _seen("topoRange", "AU", "Distance from the observer."),
    _seen("helioRange", "AU", "Distance from the Sun."),
    _seen("phaseAngle", "deg", "Between Sun and observer, at the object."),
    _seen("elongation", "deg", "Between Sun and object, at the observer."),
)

SS_EPHEMERIS = TableOf(
    "ss_ephemeris",
    pa.schema(
        [
            *_OBJECT,
            column("visit", pa.int64(), "", "Visit."),
            column("detector", pa.int32(), "", "Detector."),
            column("x", pa.float64(), "pix", "Predicted column, 0-based."),
            column("y", pa.float64(), "pix", "Predicted row, 0-based."),
            *_PREDICTED,
            column("usable", pa.bool_(), "", "Whether its pixel can be searched."),
            column("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
        ]
    ),
    product=True,
)
"""A row for each known object that is bright enough and whose trail, within its uncertainty, may be on the image."""

SS_SOURCE = TableOf(
    "ss_source",
    pa.schema(
        [
            column("diaSourceId", pa.int64(), "", "The detection."),
            *_OBJECT,
            _seen("ephOffset", "arcsec", "From the predicted place to the detection."),
            _seen("ephOffsetAlongTrack", "arcsec", "The same along the predicted motion."),
            _seen("ephOffsetCrossTrack", "arcsec", "The same across it: eastwards of a motion northwards."),
            *_PREDICTED,
        ]
    ),
    ids="diaSourceId",
)
"""A row for each detection of a known object; no object or detection appears twice on an exposure."""
