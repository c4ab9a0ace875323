"""Human verdicts on detections: records, and the labels made from them."""

from enum import StrEnum
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from schemas.dataset import TableOf, column
from schemas.summary import Record


class Verdict(StrEnum):
    """Human classification of a detection."""

    REAL = "real"
    BOGUS = "bogus"
    SATELLITE = "satellite"
    ARTEFACT = "artefact"
    UNSURE = "unsure"


KEYS = {
    "r": Verdict.REAL,
    "b": Verdict.BOGUS,
    "s": Verdict.SATELLITE,
    "a": Verdict.ARTEFACT,
    "u": Verdict.UNSURE,
}
"""Keys of the scanning page."""

SAME_PX = 2.0
"""Distance, px, within which a detection of the exposure is the one judged: a later search may give other ids."""


class VerdictRecord(Record):
    """Line of the record: a verdict or, with ``undoes``, the withdrawal of an earlier one."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="Id of this line, random.")]
    at: Annotated[str, Field(description="UTC, ISO 8601.")]
    user: Annotated[str, Field(min_length=1, max_length=40)]
    night: Annotated[str, Field(pattern=r"^\d{8}$")]
    diaSourceId: Annotated[int, Field(ge=0)]
    x: Annotated[float, Field(description="Place of the detection when it was judged, px, 0-based.")]
    y: float
    verdict: Verdict
    blind: Annotated[bool, Field(description="Whether the user's earlier verdict was hidden: a re-check.")] = False
    undoes: Annotated[str | None, Field(description="Id of the line that is taken back.")] = None


LABEL = TableOf(
    "label",
    pa.schema(
        [
            column("diaSourceId", pa.int64(), "", "Detection, by its id when it was judged."),
            column("visit", pa.int64(), "", "Visit."),
            column("detector", pa.int32(), "", "Detector."),
            column("x", pa.float64(), "pix", "Centre when it was judged, 0-based column coordinate."),
            column("y", pa.float64(), "pix", "Centre when it was judged, 0-based row coordinate."),
            column("label", pa.string(), "", f"{', '.join(Verdict)}."),
            column("user", pa.string(), "", "Who said so."),
            column("time", pa.timestamp("us", "UTC"), "", "When."),
        ]
    ),
    ids="diaSourceId",
)
"""Labels: the last verdict of each user on each detection, re-checks left out."""
