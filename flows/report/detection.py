"""One detection, with what the page says of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flows.report.words import NOTHING, flag_words, grade, number

COLUMNS = (
    "diaSourceId", "x", "y", "ra", "dec", "band", "magAB", "magABErr", "snr", "trailLength", "trailAngle",
    "trailLengthPx", "trailAnglePx", "reliability", "reliabilityVersion",
    "flags", "bboxSize",
)  # fmt: skip
"""Columns of `dia_source` that the page reads."""


@dataclass(frozen=True)
class Detection:
    """A row of `dia_source`, in words.

    Attributes
    ----------
    rank
        1 for the most reliable of its exposure.
    x, y, length, angle
        Fitted trail, px and deg in pixels.
    side
        Side of the square that holds it, px.
    facts
        What to print beneath it: pairs of a name and a value with its unit.
    """

    id: int
    rank: int
    x: float
    y: float
    length: float
    angle: float
    side: int
    snr: float
    reliability: float
    grade: str
    flags: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]

    @property
    def anchor(self) -> str:
        """Name of its cutout on the page."""
        return f"d{self.id}"

    @property
    def summary(self) -> str:
        """One line of text: for a tooltip, and for who cannot see the picture."""
        return (
            f"Detection {self.rank}: reliability {self.reliability:.2f}, S/N {number(self.snr)}, "
            f"length {number(self.length)} px at ({number(self.x)}, {number(self.y)})"
        )


def detections(table: pa.Table) -> tuple[Detection, ...]:
    """Rows of a `dia_source` table of one exposure, the most reliable first, then by S/N, then by id."""
    rows = table.select(COLUMNS).to_pylist()
    rows.sort(key=lambda row: (-row["reliability"], -row["snr"], row["diaSourceId"]))
    return tuple(_detection(row, rank) for rank, row in enumerate(rows, start=1))


def _detection(row: Mapping[str, Any], rank: int) -> Detection:
    return Detection(
        id=row["diaSourceId"],
        rank=rank,
        x=row["x"],
        y=row["y"],
        length=_finite(row["trailLengthPx"]),
        angle=_finite(row["trailAnglePx"]),
        side=row["bboxSize"],
        snr=row["snr"],
        reliability=row["reliability"],
        grade=grade(row["reliability"]),
        flags=flag_words(row["flags"]),
        facts=_facts(row),
    )


def _facts(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    magnitude = number(row["magAB"], 2)
    if magnitude != NOTHING and row["magABErr"] is not None:
        magnitude += f" ± {number(row['magABErr'], 2)}"
    length, angle = number(row["trailLengthPx"], 1, " px"), number(row["trailAnglePx"], 0, "°")
    if row["trailLength"] is not None:
        length += f", {number(row['trailLength'], 1, '″')}"
    if row["trailAngle"] is not None:
        angle += f", PA {number(row['trailAngle'], 0, '°')}"
    return (
        ("S/N", number(row["snr"])),
        (f"mag {row['band']}", magnitude),
        ("Length", length),
        ("Angle", angle),
        ("RA", number(row["ra"], 5, "°")),
        ("Dec", number(row["dec"], 5, "°")),
        ("x, y", f"{number(row['x'])}, {number(row['y'])}"),
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
