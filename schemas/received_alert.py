"""Alerts received from a stream, with the same columns for nightstride, Rubin and ZTF alerts."""

import pyarrow as pa

from schemas.dataset import TableOf, column

_FLOAT, _TEXT = pa.float32(), pa.string()

RECEIVED_ALERT = TableOf(
    "received_alert",
    pa.schema(
        [
            column("diaSourceId", pa.int64(), "", "Detection that triggered the alert; of ZTF: candid."),
            column("schemaId", pa.int32(), "", "Number of the schema; null: the message had its own.", nullable=True,
                   ucd="meta.version"),
            column("visit", pa.int64(), "", "Exposure of all detectors; of ZTF: pid without detector and version."),
            column("detector", pa.int32(), "", "Detector; of ZTF: rcid."),
            column("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS)."),
            column("dec", pa.float64(), "deg", "Declination (ICRS)."),
            column("band", _TEXT, "", "Filter band.", nullable=True),
            column("psfFlux", _FLOAT, "nJy", "Flux of a point source on the difference image.", nullable=True),
            column("psfFluxErr", _FLOAT, "nJy", "Its standard error.", nullable=True),
            column("snr", _FLOAT, "", "Signal to noise ratio.", nullable=True),
            column("trailLength", _FLOAT, "arcsec", "Length of its trail.", nullable=True),
            column("trailAngle", _FLOAT, "deg", "Direction of its trail, from north through east.", nullable=True),
            column("reliability", _FLOAT, "", "How far it is to be trusted, 0 to 1; of ZTF: drb, or rb.",
                   nullable=True),
            column("reliabilityVersion", _TEXT, "", "Model that says so.", nullable=True),
            column("diaObjectId", pa.int64(), "", "Object at rest that it is of.", nullable=True),
            column("objectName", _TEXT, "", "Its name; ZTF's objectId.", nullable=True),
            column("ssObjectId", pa.int64(), "", "Object of the Solar System that it is of.", nullable=True),
            column("designation", _TEXT, "", "Designation of that; of ZTF: within 5 arcsec.", nullable=True),
            column("earlierDetections", pa.int32(), "", "Earlier detections in the alert.", ucd="meta.number"),
            column("topicPartition", pa.int32(), "", "Partition of the message.", ucd="meta.id"),
            column("topicOffset", pa.int64(), "", "Its offset there.", ucd="meta.id"),
        ]
    ),
)  # fmt: skip
"""One row per alert, by visit, as published by `nightstride watch --content alerts`."""
