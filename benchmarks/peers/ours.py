"""Our own way, in this process: the search of a run, merge, measure, all settings as they come."""

from flows.pipeline.stage_run import CopySearch
from flows.results.evaluation.published import detections_of
from schemas.settings import Settings

SEARCH = CopySearch(Settings())


def ours(exposure):
    """Streaks on one exposure."""
    return detections_of(SEARCH({"difference": exposure.difference, "mask": exposure.mask}, exposure.info))
