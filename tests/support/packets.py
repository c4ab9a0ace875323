"""Packets of alerts that are as small as Rubin's schema allows."""

from flows.publish.packet import Packet
from flows.publish.rubin_schema import serialise

NIGHT, VISIT, DETECTOR = "20260102", 77, 3


def record(source, **fields):
    """Return an alert with the fields of a detection that must not be null."""
    required = {
        "diaSourceId": source, "visit": VISIT, "detector": DETECTOR, "midpointMjdTai": 61042.1, "ra": 10.0, "dec": -3.0,
        "x": 5.0, "y": 6.0, "psfNdata": 0, "trailNdata": 0, "dipoleNdata": 0, "timeProcessedMjdTai": 61042.2,
        "bboxSize": 30,
    }  # fmt: skip
    return {"diaSourceId": source, "diaSource": {**required, **fields}}


def packet(source, version="11.1", made_from="search", **fields):
    """Return the packet of a detection."""
    return Packet(source, NIGHT, VISIT, DETECTOR, version, serialise(record(source, **fields), version), made_from)


def packets(count, first=1 << 40, **options):
    """Yield packets with diaSourceIds one after the other."""
    for source in range(first, first + count):
        yield packet(source, **options)
