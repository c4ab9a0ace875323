"""Alert packet for a sink."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Packet:
    """Serialised alert.

    Attributes
    ----------
    source_id
        diaSourceId of the detection that triggered it; of ZTF: candid.
    night, visit, detector
        Exposure of the detection.
    schema
        Version of Rubin's schema ("11.1", "11.0", "10.0"), or "ztf".
    body
        Avro, without header.
    made_from
        Digest of the inputs of the detection; empty if not known.
    """

    source_id: int
    night: str
    visit: int
    detector: int
    schema: str
    body: bytes
    made_from: str = ""
