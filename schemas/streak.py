"""Candidates: what a group of hits and the pixels beneath it agree on."""

import pyarrow as pa

from schemas.dataset import TableOf, column

STREAK = TableOf(
    "streak",
    pa.schema(
        [
            column("x", pa.float64(), "pix", "Centre, 0-based column coordinate."),
            column("y", pa.float64(), "pix", "Centre, 0-based row coordinate."),
            column("length", pa.float32(), "pix", "First estimate of the trail's length; 0 for a point."),
            column("angle", pa.float32(), "deg", "First estimate of its angle, from +x towards +y, modulo 180."),
            column("snr", pa.float32(), "", "Matched-filter signal to noise of the best template."),
            column("logitSum", pa.float32(), "", "Sum of the logits of its windows above the floor."),
            column("logitPeak", pa.float32(), "", "Largest logit among them."),
            column("nHits", pa.int32(), "", "Number of those windows."),
            column(
                "trailClass",
                pa.string(),
                "",
                "satellite: too long for an asteroid, or across the image; glint_trail: flashes in line; else empty.",
            ),
            column(
                "halfWidth", pa.float32(), "pix", "How far from it its light spoils other detections; 0 if no class."
            ),
        ]
    ),
)
