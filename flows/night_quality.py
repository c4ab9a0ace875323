"""How good the nights are that a run touched."""

from pathlib import Path

from flows.quality.assess import assess, told
from schemas.recovery import Recovery
from schemas.settings import Settings
from schemas.summary import RunSummary, Trouble


def with_quality(
    summary: RunSummary, night: str, out: Path, settings: Settings, recoveries: tuple[Recovery, ...] | None = None
) -> RunSummary:
    """Add the verdicts on a night; that it cannot be judged is a warning, and withholds nothing.

    Parameters
    ----------
    summary
        Of the run.
    night, out, settings
        Which night, and where.
    recoveries
        What came back of its synthetic streaks, if that is added up already.
    """
    try:
        record = assess(out, night, settings.quality, recoveries)
    except Exception as error:
        warning = f"quality of night {night} not judged: {type(error).__name__}: {error}"
        return summary.model_copy(update={"warnings": (*summary.warnings, warning)})
    if record is None:
        return summary
    failed = [
        Trouble(uri=f"night {night}", code="quality", message=f"night {night}, {one.instrument} {one.band}: {line}")
        for one in record.judged
        if settings.quality.fail_night and one.verdict == "fail"
        for line in told(one)
    ]
    quality = {**summary.quality, night: record.judged}
    return summary.model_copy(update={"quality": quality, "quality_failed": (*summary.quality_failed, *failed)})
