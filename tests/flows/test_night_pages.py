import io

from rich.console import Console

from flows.night_pages import with_reports
from flows.progress import Progress
from schemas.summary import ExposureCounts, RunSummary

SUMMARY = RunSummary(
    exposures=ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0), windows=0, unscored=0, detections=0,
    not_run={}, seconds={}, report=None, nights=("20260101",),
)  # fmt: skip


def progress():
    return Progress(Console(file=io.StringIO()), 1)


def test_page_of_each_night_is_made(tmp_path):
    summary = with_reports(SUMMARY, tmp_path, progress())
    assert summary.warnings == ()
    assert summary.report == str(tmp_path / "reports/20260101/index.html")
    assert "<html" in (tmp_path / "reports/20260101/index.html").read_text()


def test_page_that_cannot_be_written_is_a_warning_and_no_failed_night(tmp_path):
    (tmp_path / "reports").write_text("a file where the folder should be")
    summary = with_reports(SUMMARY, tmp_path, progress())
    assert summary.report is None
    assert summary.warnings[0].startswith("no page of night 20260101: ")
    assert summary.exit_code == 0
