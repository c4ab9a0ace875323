"""Results of searching ZTF alert packets: a row for each packet."""

from enum import IntFlag

import pyarrow as pa

from schemas.dataset import TableOf, column, ucd_of
from schemas.dia_source import DIA_SOURCE


class PacketFlag(IntFlag):
    """Bits of ``packetFlags`` in `ztf_packet_source`."""

    TRUNCATED = 1  # the edge of the image cuts the stamp
    FAINTER = 2  # fainter than the reference: the packet's stamp was negated, and holds a hole
    NOMINAL_WCS = 4  # position of the packet plus the offset on the stamp, assuming south up and west right
    ASSUMED_EXPOSURE_TIME = 8  # not in the packet: 30 s is assumed, also for the middle of the exposure
    NO_SCIENCE = 16  # the packet has no science stamp of the shape of the difference stamp
    EMPTY = 32  # the stamp has no usable pixels, or no noise: it was not searched


FOUND = (
    "xErr", "yErr", "ra", "dec", "raErr", "decErr", "psfFlux", "psfFluxErr", "apFlux", "apFluxErr", "trailFlux",
    "trailFluxErr", "magAB", "magABErr", "snr", "trailLength", "trailLengthErr", "trailAngle", "trailAngleErr",
    "trailLengthPx", "trailLengthPxErr", "trailAnglePx", "trailAnglePxErr", "trailClass", "reliability",
    "reliabilityVersion", "pTrail", "pPoint", "pSatellite", "pArtefact", "flags",
)  # fmt: skip
"""Columns of the detection, as in `dia_source`; null if there is none."""


_BITS = ", ".join(f"{flag.value} {flag.name}" for flag in PacketFlag)


def _number(name: str, unit: str, doc: str, ucd: str = "") -> pa.Field:
    return column(name, pa.float32(), unit, doc, nullable=True, ucd=ucd)


def _place(name: str, unit: str, doc: str, ucd: str = "") -> pa.Field:
    return column(name, pa.float64(), unit, doc, nullable=True, ucd=ucd)


def _of_detection(name: str) -> pa.Field:
    field = DIA_SOURCE.schema.field(name)
    said = {key.decode(): value.decode() for key, value in field.metadata.items()}
    return column(name, field.type, said["unit"], said["doc"], nullable=True, ucd=said["ucd"])


ZTF_PACKET_SOURCE = TableOf(
    "ztf_packet_source",
    pa.schema(
        [
            column("candid", pa.int64(), "", "Identity of the alert.", ucd="meta.id;meta.main"),
            column("objectId", pa.string(), "", "Name of the object; empty if there is none.", ucd="meta.id.assoc"),
            column("visit", pa.int64(), "", "Exposure: ZTF's expid."),
            column("detector", pa.int32(), "", "Readout channel: ZTF's rcid."),
            column("band", pa.string(), "", "Filter band: g, r or i."),
            column("jd", pa.float64(), "d", "Start of the exposure, JD UTC, of the packet.", ucd="time.start"),
            column("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
            column("exposureTime", pa.float32(), "s", "Length of the exposure."),
            _place("packetRa", "deg", "Right ascension of the alert, of the packet.", "pos.eq.ra"),
            _place("packetDec", "deg", "Declination of the alert, of the packet.", "pos.eq.dec"),
            column("packetX", pa.float64(), "pix", "Column of the alert on the image, 0-based: the packet's xpos - 1."),
            column("packetY", pa.float64(), "pix", "Row of the alert on the image, 0-based: the packet's ypos - 1."),
            column("brighter", pa.bool_(), "", "Than the reference: the packet's isdiffpos."),
            _number("packetMag", "mag(AB)", "Magnitude of the alert, of the packet (magpsf).", "phot.mag;em.opt"),
            _number("packetMagErr", "mag", "Its standard error, of the packet.", "stat.error;phot.mag;em.opt"),
            _number("zeroPoint", "mag(AB)", "Magnitude of 1 DN, of the packet (magzpsci).", "phot.mag;arith.zp"),
            _number("rb", "", "Real-bogus score of the packet.", "stat.value"),
            _number("drb", "", "Real-bogus score of the packet, by a deep network.", "stat.value"),
            _number("ssDistance", "arcsec", "To the nearest known asteroid; below 0: none.", "pos.angDistance"),
            column("ssName", pa.string(), "", "Name of that asteroid.", nullable=True, ucd="meta.id.assoc"),
            column("psfFwhm", pa.float32(), "pix", "Width of the PSF of the search.", ucd=ucd_of("fwhm")),
            column("packetFlags", pa.int32(), "", f"Bits: {_BITS}.", ucd="meta.code"),
            column("nCandidates", pa.int32(), "", "Detections anywhere on the stamp, however reliable."),
            column("detected", pa.bool_(), "", "Whether the detection is as reliable as a published one must be."),
            _number("alertDistance", "pix", "From the alert to the detection: the most reliable within 5 px.", ""),
            _place("x", "pix", "Centre of the detection, 0-based column coordinate on the image."),
            _place("y", "pix", "Centre of the detection, 0-based row coordinate on the image."),
            *map(_of_detection, FOUND),
            column("digest", pa.string(), "", "SHA-256 of what the row was made from: packet, models, settings."),
        ]
    ),
    product=True,
    ids="candid",
)  # fmt: skip
