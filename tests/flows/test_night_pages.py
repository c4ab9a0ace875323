import io

from rich.console import Console

from flows.adapters.catalog_store import CatalogStore
from flows.adapters.ledger import Ledger
from flows.evaluation.recovery import read_recoveries
from flows.night_pages import with_reports
from flows.progress import Progress
from schemas.exposure import ExposureKey
from schemas.injection import INJECTION
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from schemas.summary import ExposureCounts, RunSummary
from tests.flows.evaluation.test_recovery import injection

SUMMARY = RunSummary(
    exposures=ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0), windows=0, unscored=0, detections=0,
    not_run={}, seconds={}, report=None, nights=("20260101",),
)  # fmt: skip


def progress():
    return Progress(Console(file=io.StringIO()), 1)


def test_page_of_each_night_is_made(tmp_path):
    summary = with_reports(SUMMARY, tmp_path, Settings(), progress())
    assert summary.warnings == ()
    assert summary.report == str(tmp_path / "reports/20260101/index.html")
    assert "<html" in (tmp_path / "reports/20260101/index.html").read_text()


def test_what_came_back_is_added_up_in_the_summary(tmp_path):
    store, key = CatalogStore(tmp_path), ExposureKey(night="20260101", visit=101, detector=3)
    path = store.publish(INJECTION, key, injection(25), "d" * 64)
    record = ExposureRecord(
        **key.model_dump(), source_uri="a", source_sha256="0", digest="d", datasets={"injection": store.record(path)},
        software="0", finished_at="now",
    )  # fmt: skip
    Ledger(tmp_path).put(record)
    summary = with_reports(SUMMARY, tmp_path, Settings(), progress())
    assert summary.warnings == ()
    assert summary.injection == read_recoveries(tmp_path, "20260101") != ()


def test_page_that_cannot_be_written_is_a_warning_and_no_failed_night(tmp_path):
    (tmp_path / "reports").write_text("a file where the folder should be")
    summary = with_reports(SUMMARY, tmp_path, Settings(), progress())
    assert summary.report is None
    assert summary.warnings[0].startswith("no page of night 20260101: ")
    assert summary.exit_code == 0
