import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

import flows.nights.nightly
from flows.inputs.source import Source
from flows.nights import run as night_catalogues
from flows.nights.nightly import NightRun
from flows.nights.progress import Progress
from flows.nights.recorder import Recorder
from flows.nights.run import _search, nothing_to_search, with_catalogues, with_quality, with_reports
from flows.pipeline.outcome import Item, Plan, PublishedExposure
from flows.results.evaluation.recovery import read_recoveries
from flows.results.status import read_status
from flows.results.summary_table import show_night, show_summary, show_troubles
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from flows.storage.night_sums import published_digest
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.injection import INJECTION
from schemas.ledger import ExposureRecord, NightRecord
from schemas.settings import Settings
from schemas.summary import ExposureCounts, RunSummary, Trouble
from tests.flows.results.evaluation.test_recovery import injection
from tests.flows.results.page.conftest import NIGHT as QUALITY_NIGHT
from tests.flows.results.page.conftest import make_info, make_rows, make_summary
from tests.flows.results.page.conftest import publish as publish_for_quality
from tests.support.whole_night import NIGHT, PIPELINE, publish


def test_a_flow_that_ends_early_leaves_a_warning_and_every_exposure_an_outcome(tmp_path, monkeypatch):
    async def broken(night):
        raise ConnectionError("the server went away")

    monkeypatch.setattr(flows.nights.nightly, "nightly", broken)
    items = [Item(Source(str(n)), ExposureKey(night="20260101", visit=n, detector=0), None) for n in range(2)]
    night = night_of(items, tmp_path)
    assert _search(night) == ["the flow ended early: ConnectionError: the server went away"]
    assert (len(night.totals.finished), len(night.totals.failed)) == (2, 2)
    assert read_status(tmp_path).nights[0].exposures == {"failed": 2}


def night_of(items, out):
    settings = Settings()
    recorder = Recorder(out, settings, (), lambda source, settings: "")
    progress = Progress(Console(file=io.StringIO()), len(items))
    return NightRun(items, out, settings, recorder, progress, SimpleNamespace())


@pytest.mark.parametrize(("seconds", "recorded"), [(20.0, 3), (0.0, 0)])
def test_what_a_signal_leaves_has_a_record_as_far_as_there_is_time(tmp_path, monkeypatch, seconds, recorded):
    async def stopped(night):
        night.shutdown.ask()

    monkeypatch.setattr(flows.nights.nightly, "nightly", stopped)
    monkeypatch.setattr(night_catalogues, "RECORD_S", seconds)
    published = ExposureRecord(
        night="20260101", visit=0, detector=0, source_uri="0", source_sha256="s", digest="d", detections=3,
        software="0", finished_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    Ledger(tmp_path).put(published)
    items = [Item(Source(str(n)), ExposureKey(night="20260101", visit=n, detector=0), None) for n in range(3)]
    items[0] = replace(items[0], record=published)
    night = night_of(items, tmp_path)
    _search(night)
    assert [one.code for one in night.totals.failed] == ["stopped"] * 3
    (found,) = read_status(tmp_path).nights
    assert found.exposures == ({"failed": 2, "outdated": 1} if recorded else {"done": 1})
    assert [one.code for one in found.troubles] == ["stopped"] * recorded


def test_our_error_comes_out_of_a_group_as_it_is(tmp_path, monkeypatch):
    """On every Python: what is raised under ``except*`` is a group before 3.11.4, and itself since."""
    ours = Misconfigured("not_writable", "OUT", "cannot be written.", "mend it.")

    async def broken(night):
        raise ExceptionGroup("", [ValueError(), ExceptionGroup("", [ours])])

    monkeypatch.setattr(flows.nights.nightly, "nightly", broken)
    night = NightRun([], tmp_path, Settings(), None, Progress(Console(file=io.StringIO()), 0), SimpleNamespace())
    with pytest.raises(Misconfigured) as caught:
        _search(night)
    assert caught.value is ours


@pytest.mark.parametrize("bad", [0, 1])
def test_the_page_is_drawn_again_when_there_is_only_something_that_cannot_be_used(tmp_path, bad):
    record = PublishedExposure(ExposureKey(night="20260101", visit=1, detector=0), "a")
    page = tmp_path / "reports" / "20260101" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("old")
    troubles = (Trouble(uri="b", code="truncated", message="b: ends too early."),) * bad
    summary = nothing_to_search(Plan((), (record,), 1, troubles), tmp_path, Settings(), Console(file=io.StringIO()))
    assert (summary.report, summary.exit_code) == (str(page), 3 * bad)
    assert (page.read_text() == "old") is not bool(bad)


def test_a_page_that_a_killed_run_has_not_drawn_is_drawn_by_the_next(tmp_path):
    found = PublishedExposure(ExposureKey(night="20260101", visit=1, detector=0), "a")
    page, ledger = tmp_path / "reports" / "20260101" / "index.html", Ledger(tmp_path)

    def again():
        summary = nothing_to_search(Plan((), (found,), 1), tmp_path, Settings(), Console(file=io.StringIO()))
        assert summary.report == str(page)
        return page.read_text()

    drawn = again()
    assert "<html" in drawn
    page.write_text("old")
    assert again() == "old"
    made = {"night": "20260101", "exposures": 1, "software": "0", "finished_at": "now", "idle": {"x": ("d", "none")}}
    ledger.put_night(NightRecord(**made))
    assert again() == "old", "written before records told"
    ledger.put_night(NightRecord(**made, drawn=False))
    assert "<html" in again()
    assert ledger.night("20260101").drawn
    page.write_text("old")
    assert again() == "old"


COUNTS = ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0)
EMPTY = RunSummary(
    exposures=COUNTS, windows=0, unscored=0, detections=0, not_run={}, seconds={}, report=None, nights=(NIGHT,)
)


@pytest.fixture
def brought(tmp_path, monkeypatch):
    monkeypatch.setattr(night_catalogues, "PIPELINE", PIPELINE)

    def bring(*values):
        for visit, one in enumerate(values):
            publish(tmp_path, visit, one)
        return with_catalogues(EMPTY, tmp_path, Settings(), Progress(Console(file=io.StringIO()), 0))

    return bring


def test_a_night_knows_which_exposures_it_is_of_also_where_nothing_had_to_be_made(brought, tmp_path):
    def known():
        (published,) = Ledger(tmp_path).nights()
        whole = Ledger(tmp_path).night(published)
        assert whole.made_from == published_digest(Ledger(tmp_path).briefs(published))
        return whole

    brought([1.0, 2.0], [3.0])
    first = known()
    record = Ledger(tmp_path).get(ExposureKey(night=NIGHT, visit=1, detector=0))
    Ledger(tmp_path).put(record.model_copy(update={"finished_at": "later"}))  # searched again, with the same result
    assert Ledger(tmp_path).night(NIGHT) == first
    assert brought().seconds == {}
    again = known()
    assert again == first.model_copy(update={"made_from": again.made_from})
    assert again != first


def test_counts_what_is_published_now_and_what_is_kept(brought):
    first = brought([1.0, 2.0], [3.0])
    assert first.catalogues == {"thing": 3, "shapes": 3, "total": 1}
    assert first.seconds.keys() == {"objects"}
    again = brought()
    assert again.catalogues == first.catalogues
    assert again.seconds == {}
    assert (first.exit_code, again.exit_code) == (0, 0)


def test_a_failing_stage_makes_the_exit_code_1(brought):
    summary = brought([-1.0])
    assert [one.code for one in summary.night_failed] == ["ZeroDivisionError"]
    assert summary.exit_code == 1
    assert summary.catalogues == {"thing": 1, "shapes": 1}


def test_lists_what_does_not_run(brought):
    assert brought(None).not_run["gather"] == "no seen: stage see did not run"
    assert "nothing was seen" in brought([]).not_run["gather"]
    assert "nothing was seen" in brought().not_run["gather"]


def test_planning_loads_neither_torch_nor_dask_nor_zarr(tmp_path):
    publish(tmp_path, 1, None)
    code = (
        "import io, sys\nfrom pathlib import Path\nfrom flows.pipeline.night_plan import plan_nights\n"
        "from schemas.settings import Settings\nfrom stages import PIPELINE\n"
        f"(work,) = plan_nights(['{NIGHT}'], Path({str(tmp_path)!r}), Settings(), PIPELINE)\n"
        "print(work.outdated, sorted({'torch', 'dask', 'distributed', 'prefect', 'zarr'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.split() == ["False", "[]"]


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


LIMITS = {"all": {"seeing": [0, 1]}}


def judged(out, **settings) -> RunSummary:
    info = make_info((60, 70))
    publish_for_quality(out, info, make_rows(info, 4, 1), 1)
    return with_quality(make_summary(1, 0), QUALITY_NIGHT, out, Settings(quality=settings))


def test_a_failed_gate_is_told_and_fails_nothing(tmp_path):
    summary = judged(tmp_path, limits=LIMITS)
    assert summary.quality[QUALITY_NIGHT][0].verdict == "fail"
    assert (summary.quality_failed, summary.exit_code) == ((), 0)


def test_it_fails_the_night_where_the_settings_say_so(tmp_path):
    summary = judged(tmp_path, limits=LIMITS, fail_night=True)
    assert summary.exit_code == 1
    assert f"night {QUALITY_NIGHT}, ZTF r: fail seeing" in summary.quality_failed[0].message
    assert judged(tmp_path, fail_night=True).exit_code == 0


@pytest.mark.parametrize("show", [show_night, show_summary, show_troubles])
@pytest.mark.parametrize("fails", [True, False])
def test_what_a_night_fails_by_is_said_once(tmp_path, fails, show):
    summary = judged(tmp_path, limits=LIMITS, fail_night=fails)
    console = Console(file=io.StringIO(), width=400)
    show(summary, console)
    said = [line for line in console.file.getvalue().splitlines() if "fail seeing" in line]
    assert len(said) == int(fails or show is not show_troubles)
    assert all(line.startswith(f"failed: night {QUALITY_NIGHT}, ZTF r:" if fails else "quality of") for line in said)


def test_what_cannot_be_judged_is_a_warning(tmp_path):
    judged(tmp_path)
    (tmp_path / "ledger" / "index.sqlite").write_bytes(b"no database " * 99)
    summary = with_quality(make_summary(1, 0), QUALITY_NIGHT, tmp_path, Settings())
    assert summary.exit_code == 0
    assert summary.warnings[0].startswith(f"quality of night {QUALITY_NIGHT} not judged: ")
