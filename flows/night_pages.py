"""What the nights that a run touched came to: recovered streaks, and their pages."""

from pathlib import Path

from flows.progress import Progress
from schemas.summary import RunSummary


def with_reports(summary: RunSummary, out: Path, progress: Progress) -> RunSummary:
    """Add up what came back of each night, and make its page; one that fails is a warning, not a failed night."""
    from flows.evaluation.recovery import read_recoveries
    from flows.report.page import write_report

    for night in summary.nights:
        progress.say(f"Drawing the page of night {night}.")
        try:
            injection = (*summary.injection, *read_recoveries(out, night))
            summary = summary.model_copy(update={"injection": injection})
            page = write_report(out, night, summary)
        except Exception as error:
            warning = f"no page of night {night}: {type(error).__name__}: {error}"
            summary = summary.model_copy(update={"warnings": (*summary.warnings, warning)})
        else:
            summary = summary.model_copy(update={"report": str(page)})
    return summary
