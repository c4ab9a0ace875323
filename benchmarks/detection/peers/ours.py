"""Our own way, in this process: the search of a run, merge, measure, all settings at their defaults."""

from flows.pipeline.search_pixels import search_pixels
from flows.results.evaluation.published import evaluated
from schemas.settings import Settings

SETTINGS = Settings()


def ours(exposure):
    """Return the streaks on one exposure."""
    return evaluated(search_pixels(exposure.planes, exposure.info, SETTINGS)["dia_source"].rows)
