"""End of a run that had nothing to search: its nights are associated, and their catalogues brought up to date."""

import io

from rich.console import Console

from flows.nights.progress import Progress
from flows.nights.run import with_catalogues
from schemas.settings import Settings
from schemas.summary import ExposureCounts, RunSummary


def finished(out, *nights, settings=None, console=None):
    """Return the summary of such a run of some nights; ``console`` receives its words."""
    counts = ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0)
    none = {"windows": 0, "unscored": 0, "detections": 0, "not_run": {}, "seconds": {}, "report": None}
    summary = RunSummary(exposures=counts, nights=nights, **none)
    return with_catalogues(summary, out, settings or Settings(), Progress(console or Console(file=io.StringIO()), 0))
