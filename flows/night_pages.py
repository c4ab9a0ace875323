"""What the nights that a run touched came to: recovered streaks, quality, and their pages."""

from pathlib import Path

from flows.night_quality import with_quality
from flows.observe.traces import span
from flows.progress import Progress
from schemas.settings import Settings
from schemas.summary import RunSummary


def with_reports(summary: RunSummary, out: Path, settings: Settings, progress: Progress) -> RunSummary:
    """Add up what came back of each night, judge it, and make its page; what fails is a warning, no failed night."""
    from flows.evaluation.recovery import read_recoveries
    from flows.report.page import write_report

    for night in summary.nights:
        progress.say(f"Drawing the page of night {night}.")
        try:
            found = read_recoveries(out, night)
            summary = summary.model_copy(update={"injection": (*summary.injection, *found)})
            summary = with_quality(summary, night, out, settings, found)
            with span("report", {"night": night}):
                page = write_report(out, night, summary)
        except Exception as error:
            warning = f"no page of night {night}: {type(error).__name__}: {error}"
            summary = summary.model_copy(update={"warnings": (*summary.warnings, warning)})
        else:
            summary = summary.model_copy(update={"report": str(page)})
    return summary
