"""The pipeline: one file per stage."""

from stages import detect, inject, measure, merge

PIPELINE = (
    detect.STAGE,
    merge.STAGE,
    measure.STAGE,
    inject.STAGE,
)
