"""Tracklets (detections of one night explained by one moving object), their motions, and links over nights."""

import pyarrow as pa

from schemas.dataset import TableOf, column, quantity
from schemas.dia_source import DIA_SOURCE

TRACKLET_SOURCE = TableOf(
    "tracklet_source",
    pa.schema(
        [
            column("diaSourceId", pa.int64(), "", "The detection; those without a sky position are left out."),
            column(
                "stationary", pa.bool_(), "", "Whether it is seen again at its place on another visit of the night."
            ),
            column("trackletId", pa.int64(), "", "Tracklet that it is in, if there is one.", nullable=True),
            column("chance", pa.float32(), "", "Its `chance`, as in `tracklet`.", nullable=True),
            column(
                "alongOffset", pa.float32(), "arcsec", "How far ahead of the tracklet's motion it is.", nullable=True
            ),
            column("acrossOffset", pa.float32(), "arcsec", "Beside it, at positionAngle + 90 deg.", nullable=True),
        ]
    ),
    product=True,
    ids="diaSourceId",
)


TRACKLET = TableOf(
    "tracklet",
    pa.schema(
        [
            column("trackletId", pa.int64(), "", "diaSourceId of its first detection.", ucd="meta.id;meta.main"),
            column("nSources", pa.int32(), "", "Its detections."),
            column("nVisits", pa.int32(), "", "Visits that they are of."),
            column("firstMjdTai", pa.float64(), "d", "Middle of the first exposure, MJD TAI."),
            column("lastMjdTai", pa.float64(), "d", "Middle of the last exposure, MJD TAI."),
            column("midpointMjdTai", pa.float64(), "d", "Mean time by the errors of the positions, MJD TAI."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS) of the motion at midpointMjdTai."),
            column("dec", pa.float64(), "deg", "Declination (ICRS), likewise."),
            column("rate", pa.float64(), "deg / day", "Rate along a great circle, constant."),
            quantity("rateErr", "deg / day", "Its standard error, by the errors of the positions and their scatter."),
            column("positionAngle", pa.float64(), "deg", "Of the motion, from north through east, 0 to 360."),
            quantity("positionAngleErr", "deg", "Its standard error, likewise."),
            column("arc", pa.float64(), "arcsec", "From the first detection to the last."),
            column(
                "rms", pa.float32(), "arcsec", "Distance of the detections from the motion: root of the mean square."
            ),
            column(
                "chi2",
                pa.float32(),
                "",
                "Distances over errors, squared and summed: 2 nSources - 4 degrees of freedom.",
            ),
            column("chance", pa.float32(), "", "Expected number of tracklets as good among unrelated detections."),
            quantity("magAB", "mag(AB)", "Mean AB magnitude, all bands."),
            quantity("magABStd", "mag", "Standard deviation of the magnitudes."),
            column(
                "designation", pa.string(), "", "Known object that at least half of its detections are; else empty."
            ),
            column("reliabilityMax", pa.float32(), "", "Greatest reliability of its detections."),
            column("reliabilityMean", pa.float32(), "", "Their mean reliability."),
        ]
    ),
    ids="trackletId",
)


_NIGHT = column("night", pa.string(), "", "Night of the detection, YYYYMMDD.", ucd="meta.id;obs")
_TRACKLET_ID = TRACKLET_SOURCE.schema.field("trackletId")
LINKED_BY = (
    "midpointMjdTai", "ra", "dec", "raErr", "decErr", "trailLength", "trailAngle", "trailLengthErr", "trailAngleErr",
    "exposureTime", "magAB",
)  # fmt: skip
"""Columns of `dia_source` used to link detections, by `kernels.linking.detections.detections_of`."""

NIGHT_WINDOW = TableOf(
    "night_window",
    pa.schema(
        [
            *(DIA_SOURCE.schema.field(name) for name in ("diaSourceId", *LINKED_BY)),
            _NIGHT,
            column("own", pa.bool_(), "", "Whether that is the night itself, and not one before it."),
            _TRACKLET_ID,
            column("designation", pa.string(), "", "Known object that it is; else empty."),
            column("obscode", pa.string(), "", "Code of the observatory."),
        ]
    ),
)
"""Detections of a night and some nights before it that may move; not made by a stage, and not published."""


LINK_SOURCE = TableOf(
    "link_source",
    pa.schema(
        [
            column("linkId", pa.int64(), "", "diaSourceId of the first detection of the link.", ucd="meta.id"),
            column("diaSourceId", pa.int64(), "", "Detection of the night, or of one of those before it."),
            column("sourceNight", pa.string(), "", "Night of the detection, YYYYMMDD.", ucd="meta.id;obs"),
            _TRACKLET_ID,
            column("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS)."),
            column("dec", pa.float64(), "deg", "Declination (ICRS)."),
            column("nSources", pa.int32(), "", "Detections of the link."),
            column("nNights", pa.int32(), "", "Nights that they are of."),
            column(
                "designation", pa.string(), "", "Known object that at least half of its detections are; else empty."
            ),
            column(
                "linkRms", pa.float32(), "arcsec", "Distance of the detections from the orbit: root of mean square.",
                ucd="stat.fit.residual",
            ),
            column(
                "pairRateMax", pa.float32(), "deg / day", "Fastest pairs of detections that were looked at: 1.5, or "
                "less where there were too many.", ucd="phys.veloc.ang;stat.max",
            ),
            column("a", pa.float64(), "AU", "Half of the major axis of the orbit.", ucd="phys.size.smajAxis"),
            column("e", pa.float64(), "", "Its eccentricity.", ucd="src.orbital.eccentricity"),
            column("i", pa.float64(), "deg", "Its inclination to the ecliptic.", ucd="src.orbital.inclination"),
        ]
    ),
    ids="diaSourceId",
)  # fmt: skip
