import asyncio
import io
import time
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from distributed import Client, KilledWorker, LocalCluster
from distributed.client import FutureCancelledError
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from flows.inputs.source import Source
from flows.inputs.source_state import sha256_of
from flows.nights import exposure_run, exposure_work
from flows.nights.cluster.cluster import Cluster
from flows.nights.exposure_run import ExposureRun, begun_ahead, shared_out
from flows.nights.exposure_work import Published, Searched
from flows.nights.nightly import NightRun
from flows.nights.progress import Progress
from flows.nights.recorder import Recorder
from flows.pipeline.lineage import Stored, trace
from flows.pipeline.models import model_digests
from flows.pipeline.outcome import Item
from flows.storage.digest import file_digest
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE, HIT, SearchCounts
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureInfo, ExposureKey, PsfModel
from schemas.ledger import DatasetRecord, ExposureRecord
from schemas.negative import NEGATED
from schemas.pixels import SearchGrid
from schemas.settings import ExecutionSettings, Settings
from schemas.stage import Result
from stages import PIPELINE

KEY = ExposureKey(night="20260101", visit=7, detector=3)
SETTINGS = Settings(execution=ExecutionSettings(retries=2))
PROBLEM = ("where", "is wrong.", "mend it.")


def attempts(log, task):
    """Count, in a file that tasks share, how often a task has begun."""
    with (log / task).open("a") as file:
        file.write("x")
    return len((log / task).read_text())


def store(log, fails, source, key, sha256, out, settings):
    number = attempts(log, "store")
    if "store" in fails and number <= fails["store"][0]:
        raise fails["store"][1]
    info = ExposureInfo(
        **KEY.model_dump(), instrument="test", band="g", midpoint_mjd_tai=6e4, exposure_time_s=30, shape=(60, 60),
        psf=PsfModel(fwhm_px=2), background=0, noise=1, source_uri=source.uri, source_sha256="bytes",
    )  # fmt: skip
    lineage = trace(source, "bytes", PIPELINE, model_digests(PIPELINE, settings), settings)
    return Stored(info, lineage, {"read": 1.0})


def search(log, fails, path, tiles, settings):
    number = attempts(log, "search")
    if "search" in fails and number <= fails["search"][0]:
        raise fails["search"][1]
    return Searched({"hit": Result(HIT.empty(), SearchCounts(25, 1, SearchGrid(26, 7, 0, 26)))}, {"detect": 2.0})


def beside(log, fails, path, settings, kept, out, wanted):
    assert wanted == {"injected", "negated"}
    number = attempts(log, "beside")
    if "beside" in fails and number <= fails["beside"][0]:
        raise fails["beside"][1]
    return Searched({"negated": Result(NEGATED.empty())}, {"negate": 3.0}, of_tiles=False)


def measure(log, fails, path, tiles, settings, kept, out):
    number = attempts(log, "measure")
    if "measure" in fails and number <= fails["measure"][0]:
        raise fails["measure"][1]
    assert all(isinstance(tile.results["hit"].rows, pa.Table) for tile in tiles)
    return Searched({"dia_source": Result(DIA_SOURCE.empty())}, {"measure": 4.0}, of_tiles=False)


def finish(log, fails, path, tiles, lineage, out, settings, kept, later):
    number = attempts(log, "finish")
    if "finish" in fails and number <= fails["finish"][0]:
        raise fails["finish"][1]
    whole = [name for one in tiles if not one.of_tiles for name in one.results]
    assert whole in ([], ["dia_source", "negated"])
    assert whole or all(isinstance(tile.results["hit"].rows, pa.Table) for tile in tiles)
    assert later == ()
    return Published({"dia_source": entry("d", 4), "injection": entry("i", 9), **kept}, {"publish": 0.5})


TASKS = {
    "store_exposure": store, "search_tiles": search, "run_beside": beside, "measure_exposure": measure,
    "finish_exposure": finish,
}  # fmt: skip


def entry(digest, rows, path="x", sha256="0" * 64):
    return DatasetRecord(path=path, digest=digest, rows=rows, sha256=sha256)


@pytest.fixture(params=[1, 2], ids=["alone", "shared"])
def drive(tmp_path, monkeypatch, request):
    """Drive one exposure whose steps fail as told: step -> (how often, with what)."""

    def run(record=None, ahead=None, searched=lambda: None, **fails):
        for name, task in TASKS.items():
            for module in (exposure_run, exposure_work):
                monkeypatch.setattr(module, name, partial(task, tmp_path, fails))
        monkeypatch.setattr(exposure_run, "BACKOFF_S", 0.001)
        (tmp_path / "a.fits").write_text("content")
        item = Item(Source(str(tmp_path / "a.fits")), KEY, None, sha256="bytes", record=record)

        async def one():
            async with Client(
                processes=False, asynchronous=True, set_as_default=False, dashboard_address="127.0.0.1:0"
            ) as client:
                recorder = Recorder(tmp_path / "out", SETTINGS, PIPELINE, sha256_of)
                progress = Progress(Console(file=io.StringIO()), 1)
                place = client, tmp_path / "out", SETTINGS, recorder, progress, request.param
                return await ExposureRun(*place, ahead=ahead or {}, searched=searched)(item)

        return asyncio.run(one())

    run.alone = request.param == 1
    return run


def item_of(folder, key=KEY, **given):
    (folder / "a.fits").write_text("content")
    return Item(Source(str(folder / "a.fits")), key, None, sha256="bytes", **given)


def ahead_of(item, out, times=1, **fails):
    """Return what becomes of an exposure that is searched ahead, by tasks that fail as told."""
    folder = out.parent
    with pytest.MonkeyPatch.context() as patch:
        for name, task in TASKS.items():
            patch.setattr(exposure_run, name, partial(task, folder, fails))
        with (
            LocalCluster(n_workers=2, processes=False, dashboard_address="127.0.0.1:0") as local,
            begun_ahead(Cluster(local.scheduler_address, 2, 2**30), [item] * times, out, SETTINGS) as ahead,
        ):
            assert ahead[item.key].exception(60) is None or fails
            return ahead


def test_what_was_searched_ahead_is_taken(drive, tmp_path):
    told = []
    ahead = ahead_of(item_of(tmp_path), tmp_path / "out")
    outcome = drive(ahead=ahead, searched=lambda: told.append(1))
    assert (outcome.status, outcome.detections, outcome.windows, ahead) == ("done", 4, 25, {})
    assert outcome.seconds == {"read": 1.0, "detect": 2.0, "negate": 3.0, "measure": 4.0, "publish": 0.5}
    assert [begun(tmp_path, task) for task in ("store", "search", "beside", "measure", "finish")] == [1] * 5
    assert told == [1]
    record = Ledger(tmp_path / "out").get(KEY)
    assert (record.status, record.windows, set(record.datasets)) == (
        "done",
        25,
        {"dia_source", "injection"},
    )


def test_what_failed_ahead_and_may_succeed_later_is_done_again(drive, tmp_path):
    ahead = ahead_of(item_of(tmp_path), tmp_path / "out", search=(1, Retryable("down", *PROBLEM)))
    assert drive(ahead=ahead).status == "done"
    assert begun(tmp_path, "store") == 2


@pytest.mark.parametrize(
    ("error", "status"),
    [(BadInput("bad", *PROBLEM), "quarantined"), (ZeroDivisionError("oops"), "failed"), (None, "quarantined")],
)
def test_a_verdict_on_an_exposure_that_was_searched_ahead_holds(drive, tmp_path, error, status):
    killed = KilledWorker("store-1", SimpleNamespace(address="tcp://there:1"), 3)
    ahead = {KEY: Future()}
    ahead[KEY].set_exception(error or killed)
    fails = {} if error else {"store": (9, killed)}
    outcome = drive(ahead=ahead, **fails)
    assert outcome.status == status
    assert begun(tmp_path, "store") == int(error is None)  # what kills workers is tried once more


def test_the_first_exposures_are_searched_before_the_flow_begins(tmp_path, monkeypatch):
    for name, task in TASKS.items():
        monkeypatch.setattr(exposure_run, name, partial(task, tmp_path, {}))
    items = [item_of(tmp_path, KEY.model_copy(update={"detector": place})) for place in range(3)]
    told = []
    with LocalCluster(n_workers=2, processes=False, dashboard_address="127.0.0.1:0") as local:
        for left, times in ((items, 0), (items[:2], 2)):
            told.clear()
            workers = Cluster(local.scheduler_address, 2, 2**30)
            with begun_ahead(workers, left, tmp_path / "out", SETTINGS, None, lambda: told.append(1)) as ahead:
                assert list(ahead) == [one.key for one in items[:2]]
                assert [one.result(60).datasets["dia_source"].rows for one in ahead.values()] == [4, 4]
            assert len(told) == times  # those that are left follow without a pause
    assert begun(tmp_path, "store") == 4


@pytest.mark.parametrize("why", ["many", "followed", "elsewhere", "late"])
def test_nothing_is_searched_ahead_where_it_would_gain_nothing_or_be_missed(tmp_path, monkeypatch, why):
    items = [Item(Source("a.fits"), KEY, None, sha256="bytes")] * (32 if why == "many" else 2)
    monkeypatch.setattr(exposure_run, "origin", lambda: object() if why == "followed" else None)
    cluster = {"kind": "address", "address": "tcp://127.0.0.1:1"} if why == "elsewhere" else {}
    late = ExecutionSettings(visit_deadline_s=100) if why == "late" else ExecutionSettings()
    settings = Settings(cluster=cluster, execution=late)
    with begun_ahead(Cluster("tcp://127.0.0.1:1", 2, 2**30), items, tmp_path, settings) as ahead:
        assert ahead == {}


def held_up(until, *given):
    while not until.exists():
        time.sleep(0.01)


def test_what_is_on_its_way_ahead_when_a_run_ends_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(exposure_run, "store_exposure", partial(held_up, tmp_path / "go"))
    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as local:
        workers = Cluster(local.scheduler_address, 1, 2**30)
        with begun_ahead(workers, [item_of(tmp_path)], tmp_path / "out", SETTINGS) as ahead:
            pass
        with pytest.raises(FutureCancelledError):
            ahead[KEY].result(0)
        (tmp_path / "go").touch()


@given(tiles=st.integers(0, 40), tasks=st.integers(1, 50))
def test_every_tile_is_searched_by_one_task_and_the_tasks_are_alike(tiles, tasks):
    parts = shared_out(range(tiles), tasks)
    assert [tile for part in parts for tile in part] == list(range(tiles))
    assert len(parts) == min(tiles, tasks)
    assert not parts or max(map(len, parts)) - min(map(len, parts)) <= 1


def begun(folder, task):
    path = Path(folder) / task
    return len(path.read_text()) if path.exists() else 0


def test_adds_up_and_records_what_was_done(drive, tmp_path):
    outcome = drive()
    assert (outcome.status, outcome.searched, outcome.windows, outcome.unscored) == ("done", True, 25, 1)
    assert outcome.detections == 4  # what was put into copies is not one
    apart = {} if drive.alone else {"negate": 3.0, "measure": 4.0}
    assert outcome.seconds == {"read": 1.0, "detect": 2.0, "publish": 0.5} | apart
    record = Ledger(tmp_path / "out").get(KEY)
    assert (record.status, record.windows, record.source_sha256) == ("done", 25, "bytes")


@pytest.fixture
def published(tmp_path):
    """Record of an exposure whose detections are published and up to date, and its synthetic streaks are not."""
    path = tmp_path / "out" / "catalogue"
    path.parent.mkdir()
    path.write_text("detections")
    digest = trace(Source("a"), "bytes", PIPELINE, model_digests(PIPELINE, SETTINGS), SETTINGS).datasets["dia_source"]
    return ExposureRecord(
        **KEY.model_dump(), source_uri="a", source_sha256="bytes", digest="old", windows=77, windows_unscored=5,
        datasets={"dia_source": entry(digest, 3, "catalogue", file_digest(path)), "injection": entry("old", 2)},
        software="0", finished_at="now",
    )  # fmt: skip


def test_what_is_published_and_up_to_date_is_not_searched_for_again(drive, published, tmp_path):
    outcome = drive(published)
    assert begun(tmp_path, "search") == 0
    assert (outcome.status, outcome.searched, outcome.windows, outcome.detections) == ("done", False, 0, 3)
    record = Ledger(tmp_path / "out").get(KEY)
    assert (record.windows, record.windows_unscored, record.detections) == (77, 5, 3)
    assert record.datasets["dia_source"] == published.datasets["dia_source"]


def test_a_published_file_that_turns_out_to_be_damaged_is_made_again(drive, published, tmp_path):
    outcome = drive(published, finish=(1, BadInput("unreadable_catalogue", *PROBLEM)))
    assert outcome.status == "done"
    assert begun(tmp_path, "finish") == 2


@pytest.mark.parametrize("task", ["store", "search", "beside", "measure", "finish"])
def test_what_may_succeed_later_is_tried_again(drive, tmp_path, task):
    if drive.alone and task in ("beside", "measure"):
        return  # parts of one task there
    assert drive(**{task: (2, Retryable("io_error", *PROBLEM))}).status == "done"
    assert begun(tmp_path, task) == 3


def test_nothing_is_published_of_what_fails_beside_the_measurement(drive, tmp_path):
    if drive.alone:
        return  # one task does both
    assert drive(beside=(1, BadInput("bad_wcs", *PROBLEM))).status == "quarantined"
    assert begun(tmp_path, "finish") == 0


def test_each_step_has_its_own_retries(drive):
    trouble = Retryable("io_error", *PROBLEM)
    assert drive(store=(2, trouble), search=(2, trouble), finish=(2, trouble)).status == "done"


def test_a_visit_that_may_be_late_is_done_step_by_step(drive, tmp_path, monkeypatch):
    """What runs in a worker cannot be stopped: with a deadline, no more than one step goes on after it."""
    late = ExecutionSettings(retries=2, visit_deadline_s=1000)
    monkeypatch.setattr(f"{__name__}.SETTINGS", Settings(execution=late))
    monkeypatch.setattr(exposure_run, "search_exposure", None)
    assert drive().status == "done"


def test_what_goes_on_failing_fails_and_is_recorded_as_such(drive, tmp_path):
    outcome = drive(store=(9, Retryable("disk_full", *PROBLEM)))
    assert (outcome.status, outcome.trouble.code) == ("failed", "disk_full")
    # What fails in one task is tried step by step.
    assert begun(tmp_path, "store") == drive.alone + 1 + SETTINGS.execution.retries
    record = Ledger(tmp_path / "out").get(KEY)
    assert (record.status, record.reason.partition(":")[0], record.datasets) == ("failed", "disk_full", {})


def test_a_bad_exposure_is_quarantined_once_and_for_all(drive, tmp_path):
    outcome = drive(store=(9, BadInput("all_nan", *PROBLEM)))
    assert (outcome.status, outcome.trouble.code) == ("quarantined", "all_nan")
    assert begun(tmp_path, "store") == 1
    assert Ledger(tmp_path / "out").get(KEY).status == "quarantined"
    assert len(list((tmp_path / "out" / "quarantine").iterdir())) == 1


def test_damaged_tiles_are_made_again_once(drive, tmp_path):
    damage = BadInput("damaged_tiles", *PROBLEM)
    assert drive(search=(1, damage)).status == "done"
    assert (begun(tmp_path, "store"), begun(tmp_path, "search")) == (2, 2)


def test_tiles_that_stay_damaged_are_no_verdict_on_the_file(drive, tmp_path):
    assert drive(search=(9, BadInput("damaged_tiles", *PROBLEM))).status == "quarantined"
    assert Ledger(tmp_path / "out").get(KEY) is None


def test_what_kills_each_worker_is_quarantined_and_not_tried_every_night(drive, tmp_path):
    outcome = drive(store=(9, KilledWorker("store-1", SimpleNamespace(address="tcp://there:1"), 3)))
    assert (outcome.status, outcome.trouble.code) == ("quarantined", "killed_workers")
    assert f"{tmp_path / 'a.fits'}: 8 workers in turn have died" in outcome.trouble.message
    assert Ledger(tmp_path / "out").get(KEY).status == "quarantined"


@pytest.mark.parametrize("error", [KilledWorker("a", SimpleNamespace(address="b"), 3), BadInput("memory", *PROBLEM)])
def test_what_workers_cannot_bear_takes_back_nothing_that_is_published(drive, published, tmp_path, error):
    outcome = drive(published.model_copy(update={"digest": "old"}), store=(9, error))
    assert outcome.status == "failed"
    record = Ledger(tmp_path / "out").get(KEY)
    assert (record.status, record.datasets) == ("done", published.datasets)
    assert record.reason.partition(":")[0] in ("memory", "killed_workers")


def test_a_lost_scheduler_is_named_and_leaves_the_night_to_the_next_run(drive, tmp_path):
    lost = FutureCancelledError("store-1", "scheduler-connection-lost", "Client lost the connection")
    outcome = drive(store=(9, lost))
    assert (outcome.status, outcome.trouble.code) == ("failed", "cluster_lost")
    assert outcome.trouble.message.endswith("run again: that run completes the night.")
    night = NightRun([], tmp_path, Settings(), None, Progress(Console(quiet=True), 0), lambda: None)
    assert not night.cut_short
    night.finished(replace(outcome, trouble=outcome.trouble.model_copy(update={"code": "ZeroDivisionError"})))
    assert not night.cut_short
    night.finished(outcome)
    assert night.cut_short


def test_a_defect_fails_the_exposure_alone(drive, tmp_path):
    outcome = drive(search=(9, ZeroDivisionError("oops")))
    message = f"{tmp_path / 'a.fits'}: ZeroDivisionError: oops"
    assert (outcome.status, outcome.trouble.message) == ("failed", message)


def test_a_mistake_in_the_configuration_stops_the_run(drive):
    with pytest.raises(Misconfigured, match="is wrong"):
        drive(store=(9, Misconfigured("not_writable", *PROBLEM)))


def test_a_reason_that_cannot_be_written_fails_the_exposure_alone(drive, monkeypatch):
    def full(*_):
        raise Retryable("disk_full", *PROBLEM)

    monkeypatch.setattr(Recorder, "quarantined", full)
    outcome = drive(store=(9, BadInput("all_nan", *PROBLEM)))
    assert (outcome.status, outcome.trouble.code) == ("failed", "disk_full")
