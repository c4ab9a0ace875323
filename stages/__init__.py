"""The pipeline: one file per stage."""

from stages import detect, measure, merge

PIPELINE = (
    detect.STAGE,
    merge.STAGE,
    measure.STAGE,
)
