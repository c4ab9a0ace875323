"""Tracklets: detections of one night that one moving object explains, and the motion of each."""

import pyarrow as pa

from schemas.dataset import TableOf, column, quantity

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
