import asyncio
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from flows.inputs.source import Source
from flows.nights import nightly
from flows.nights.association import Association, AssociationSummary
from flows.nights.cluster.cluster import Cluster
from flows.nights.nightly import NightRun, Shutdown
from flows.nights.progress import Progress
from flows.pipeline.outcome import Item
from flows.results.verify import verify_output
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.injection import INJECTION
from schemas.negative import NEGATIVE
from schemas.settings import Settings
from schemas.summary import ELAPSED, RunSummary, Trouble
from tests.support.night import DETECTORS, VISITS, Command, catalogues, of_exposures

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = pytest.mark.slow


ALL = VISITS * DETECTORS


@pytest.fixture
def out(uninterrupted, tmp_path):
    """A copy of a finished night, to be spoilt."""
    return shutil.copytree(uninterrupted[1], tmp_path / "out")


def windows_of(height, width):
    return (1 + (height - 26) // 7) * (1 + (width - 26) // 7)


def test_every_exposure_is_searched_measured_and_published(uninterrupted):
    run, out = uninterrupted
    assert run.code == 0, run.stderr
    assert run.counts == (ALL, ALL, 0, 0, 0)
    assert run.summary["windows"] == ALL * windows_of(200, 210)
    assert 0 <= run.summary["unscored"] < run.summary["windows"]
    assert run.summary["not_run"] == {}
    summary = RunSummary.model_validate(run.summary)
    assert set(summary.worker_seconds) == {
        "read", "inspect", "write tiles", "read tiles", "detect", "merge", "measure", "inject", "find_sources",
        "choose_injected", "negate", "count_negated", "publish", "other", "waiting",
    }  # fmt: skip
    assert set(summary.seconds) - set(summary.worker_seconds) == {*ELAPSED} - {"forced"}  # which is off
    assert sum(summary.worker_seconds.values()) == pytest.approx(2 * summary.seconds["search"], abs=0.01)
    assert len(of_exposures(out)) == 4 * ALL
    folders = {name.partition("/dataset/")[0] for name in catalogues(out) if "/dataset/Norder=5/" in name}
    night = f"night={run.summary['nights'][0]}"
    assert {f"{name}/{night}" for name in ("object", "object_margin", "dia_link", "star_galaxy")} <= folders
    assert summary.catalogues["object"] == summary.catalogues["cutouts"] > 0
    assert summary.catalogues["dia_link"] == summary.catalogues["tracklet_source"] == run.summary["detections"]
    tables = [pq.read_table(path, partitioning=None) for path in (out / "catalogs/dia_source").rglob("*.parquet")]
    assert all(table.schema.equals(DIA_SOURCE.schema) for table in tables)
    assert sum(map(len, tables)) == run.summary["detections"] > 0
    assert (out / "reports" / run.summary["nights"][0] / "index.html").samefile(run.summary["report"])
    assert verify_output(out, {"dia_source": DIA_SOURCE, "injection": INJECTION, "negative": NEGATIVE}).problems == ()
    assert list((out / "staging").iterdir()) == []
    assert not (out / "lease.json").exists()


def test_the_last_line_is_the_summary_and_nothing_else_is_on_stdout(uninterrupted):
    run, _ = uninterrupted
    assert len(run.stdout.splitlines()) == 1
    assert RunSummary.model_validate_json(run.stdout).exit_code == run.code
    assert f"[{ALL}/{ALL}] exposure" in run.stderr
    assert "--verbose shows all figures." in run.stderr


def test_a_rerun_has_nothing_to_do(nightstride_run, raw_night, uninterrupted, out):
    before = catalogues(out)
    again = nightstride_run.here(raw_night, "--out", out)
    assert again.code == 0, again.stderr
    assert "Nothing to do" in again.stderr
    assert again.counts == (ALL, 0, ALL, 0, 0)
    assert (again.summary["windows"], again.summary["detections"]) == (0, uninterrupted[0].summary["detections"])
    assert catalogues(out) == before


def test_a_rerun_starts_nothing(night_models, raw_night, out, monkeypatch):
    for name in ("DETECT", "MEASURE"):
        monkeypatch.setenv(f"NIGHTSTRIDE_{name}__MODEL", str(night_models))
    monkeypatch.setenv("NIGHTSTRIDE_TILES__TILE", "112")
    monkeypatch.setenv("NIGHTSTRIDE_TILES__CHUNK", "28")
    monkeypatch.setenv("NIGHTSTRIDE_INJECT__SHARE", "1")
    monkeypatch.setenv("NIGHTSTRIDE_INJECT__STREAKS", "64")
    code = (
        "import sys\nfrom flows.cli.app import app\n"
        f"try:\n    app(['run', {str(raw_night)!r}, '--out', {str(out)!r}])\nexcept SystemExit as end:\n"
        "    print(end.code, sorted({'prefect', 'dask', 'distributed', 'torch', 'zarr'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.splitlines()[-1] == "0 []", run.stderr


def test_a_changed_setting_redoes_the_stages_behind_it_only(nightstride_run, raw_night, out):
    tiles = {path: path.stat().st_mtime_ns for path in (out / "tiles").rglob("zarr.json")}
    before = catalogues(out)
    again = nightstride_run.here(raw_night, "--out", out, NIGHTSTRIDE_MERGE__MIN_SNR="6")
    assert again.counts == (ALL, ALL, 0, 0, 0), again.stderr
    assert {path: path.stat().st_mtime_ns for path in (out / "tiles").rglob("zarr.json")} == tiles
    assert catalogues(out).keys() == before.keys()
    assert catalogues(out) != before


def test_synthetic_streaks_leave_no_trace_in_what_was_seen(nightstride_run, raw_night, uninterrupted, tmp_path):
    run, with_streaks = uninterrupted
    without = tmp_path / "out"
    plain = nightstride_run.here(raw_night, "--out", without, NIGHTSTRIDE_INJECT__SHARE="0")
    assert plain.counts == (ALL, ALL, 0, 0, 0), plain.stderr
    assert plain.summary["injection"] == []
    assert plain.summary["detections"] == run.summary["detections"]
    night, *rest = run.summary["injection"]
    assert 0 < night["n"] + night["hidden"] <= 3 * ALL  # images of a 24th of a tile, and full of detections
    assert [one["detector"] for one in rest if one["detector"] is not None]
    put_in = [
        pq.read_table(path, partitioning=None) for path in (with_streaks / "catalogs/injection").rglob("*.parquet")
    ]
    assert sum(map(len, put_in)) == night["n"] + night["hidden"]
    # Detections, tiles and all: the same bytes.
    for folder in ("catalogs/dia_source", "tiles"):
        files = [path for path in (with_streaks / folder).rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert (without / path.relative_to(with_streaks)).read_bytes() == path.read_bytes()


def test_other_synthetic_streaks_do_not_repeat_the_search(nightstride_run, raw_night, uninterrupted, out):
    before = catalogues(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "catalogs/dia_source").rglob("*.parquet")}
    windows = [record.windows for record in Ledger(out).records()]
    again = nightstride_run.here(raw_night, "--out", out, NIGHTSTRIDE_INJECT__SNR="[9.0, 12.0]")
    assert again.counts == (ALL, ALL, 0, 0, 0), again.stderr
    assert (again.summary["windows"], again.summary["detections"]) == (0, uninterrupted[0].summary["detections"])
    assert {"detect", "merge", "measure"}.isdisjoint(again.summary["seconds"])
    assert {path: path.stat().st_mtime_ns for path in times} == times
    after = catalogues(out)
    assert after.keys() == before.keys()
    assert {name.split("/")[0] for name in after if after[name] != before[name]} == {"injection"}
    assert [record.windows for record in Ledger(out).records()] == windows
    assert verify_output(out, {"dia_source": DIA_SOURCE, "injection": INJECTION, "negative": NEGATIVE}).problems == ()


@pytest.mark.parametrize("tile", [1008])
def test_the_tiling_changes_no_number(nightstride_run, raw_night, uninterrupted, tmp_path, tile):
    environment = {"NIGHTSTRIDE_TILES__TILE": str(tile), "NIGHTSTRIDE_TILES__CHUNK": str(tile // 4)}
    one = nightstride_run.here(raw_night, "--out", tmp_path / "out", "--workers", "1", **environment)
    assert one.summary["windows"] == uninterrupted[0].summary["windows"], one.stderr
    for path in (uninterrupted[1] / "catalogs").rglob("*.parquet"):
        other = tmp_path / "out" / path.relative_to(uninterrupted[1])
        assert pq.read_table(other, partitioning=None).equals(pq.read_table(path, partitioning=None))


def test_a_spoilt_or_missing_catalogue_is_made_again(nightstride_run, raw_night, out):
    before = catalogues(out)
    first, second, *_ = sorted((out / "catalogs/dia_source").rglob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-9])
    second.unlink()
    again = nightstride_run.here(raw_night, "--out", out)
    assert again.counts == (ALL, 2, ALL - 2, 0, 0), again.stderr
    assert catalogues(out) == before


def test_spoilt_tiles_are_made_again(nightstride_run, raw_night, out):
    before = catalogues(out)
    for store in (out / "tiles").rglob("*.zarr"):
        shard = max((store / "difference" / "c").rglob("*"))
        content = bytearray(shard.read_bytes())
        content[len(content) // 3] ^= 255
        shard.write_bytes(content)
    next((out / "ledger").glob("2*")).unlink()
    again = nightstride_run.here(raw_night, "--out", out)
    assert again.counts == (ALL, ALL, 0, 0, 0), again.stderr
    assert catalogues(out) == before


def test_a_night_that_moved_is_not_done_again_and_what_changed_is(nightstride_run, raw_night, tmp_path, out):
    raw = shutil.move(shutil.copytree(raw_night, tmp_path / "raw"), tmp_path / "moved")
    moved = nightstride_run.here(raw, "--out", out)
    assert moved.counts == (ALL, 0, ALL, 0, 0), moved.stderr
    # The PSF stamp belongs to the exposure: without it, all of it is measured again.
    max(Path(raw).glob("*diffimgpsf*")).unlink()
    assert nightstride_run.here(raw, "--out", out).counts[1:3] == (0, ALL)
    records = list(Ledger(out).records())
    for record in records:
        Ledger(out).put(record.model_copy(update={"source_uri": record.source_uri.replace(str(raw_night), str(raw))}))
    assert nightstride_run.here(raw, "--out", out).counts == (ALL, 1, ALL - 1, 0, 0)


def test_the_models_that_are_shipped_find_what_was_put_in(nightstride_run, raw_night, prefect_api, tmp_path):
    shipped = Command(None, prefect_api)
    run = shipped.here(raw_night, "--out", tmp_path / "out")
    assert run.counts == (ALL, ALL, 0, 0, 0), run.stderr
    truth = pq.read_table(raw_night.parent / "truth.parquet").to_pandas()
    bright = truth[(truth.kind == "streak") & (truth.snr > 15) & (truth.visible > 0.9)]
    found = pq.read_table(tmp_path / "out" / "catalogs" / "dia_source", partitioning=None).to_pandas()
    near = [
        np.hypot(found.x - one.x, found.y - one.y)[(found.visit == one.visit) & (found.detector == one.detector)].min()
        for one in bright.itertuples()
    ]
    assert len(bright) > 0
    assert sum(distance < 5 for distance in near) > len(bright) / 2


def night_of_nobody(**given):
    """Return a night on a cluster that nobody asks for anything."""
    return SimpleNamespace(
        settings=Settings(),
        out=None,
        recorder=None,
        progress=None,
        outcomes=[],
        cluster=SimpleNamespace(client=lambda **_: contextlib.nullcontext(), terms=None),
        fence=None,
        tasks=1,
        outlet=None,
        **given,
    )


def test_the_first_visit_of_a_night_and_those_after_a_failure_associate_all_that_waits(tmp_path, monkeypatch):
    asked, failed = [], []

    def associate(out, settings, nights, *, others, visit):
        asked.append((*nights, visit))
        trouble = Trouble(uri=failed[0], code="c", message="m") if failed else None
        changed = ("other settings",) if len(asked) == 2 else ()
        return Association(AssociationSummary(failed=() if trouble is None else (trouble,)), changed=changed)

    monkeypatch.setattr(nightly, "associate", associate)
    said = io.StringIO()
    night = NightRun((), tmp_path, Settings(), None, Progress(Console(file=said), 0), lambda: None)
    for label, visit, trouble in (
        ("a", 1, ""), ("a", 2, ""), ("b", 3, ""), ("a", 4, "exposure 4-0 of night a"), ("a", 5, "association"),
        ("a", 6, ""), ("a", 7, ""),
    ):  # fmt: skip
        failed[:] = [trouble] if trouble else []
        night.send_alerts(SimpleNamespace(night=label, visit=visit), None)
    assert asked == [("a", None), ("a", 2), ("b", None), ("a", 4), ("a", 5), ("a", None), ("a", 7)]
    assert said.getvalue() == "warning: other settings\n"


@pytest.mark.parametrize(("each", "times"), [(True, 1), (False, 0)])
def test_without_alerts_a_visit_is_associated_if_that_is_asked_for(monkeypatch, each, times):
    async def done(item):
        return SimpleNamespace(status="done", item=item)

    monkeypatch.setattr(nightly, "ExposureRun", lambda *_: done)
    visits = []
    night = night_of_nobody(
        leaves_out=lambda item: False, finished=lambda outcome: None, ahead={}, searched=None,
        visit_done=lambda key, outcomes: visits.append((key.visit, len(outcomes))),
    )  # fmt: skip
    night.settings = Settings(association={"each_visit": each})
    asyncio.run(nightly.visit.fn(night, NOT_BEGUN, asyncio.Semaphore(3), asyncio.Event(), None))
    assert visits == [(1, 3)] * times


NOT_BEGUN = [Item(Source(str(n)), ExposureKey(night="20260101", visit=1, detector=n), None) for n in range(3)]


def test_an_exposure_that_is_cancelled_before_it_begins_gives_its_slot_back(monkeypatch):
    async def fails(item):
        await asyncio.sleep(0)
        raise Misconfigured("not_writable", "where", "is wrong.", "mend it.")

    monkeypatch.setattr(nightly, "ExposureRun", lambda *_: fails)
    night = night_of_nobody(leaves_out=lambda item: False)

    async def one_slot():
        slots = asyncio.Semaphore(1)
        with pytest.raises(ExceptionGroup):
            await nightly.visit.fn(night, NOT_BEGUN, slots, asyncio.Event(), None)
        await asyncio.sleep(0)
        return slots.locked()

    assert asyncio.run(one_slot()) is False


def test_a_night_that_stops_waits_for_no_slot_of_what_it_leaves_out():
    night = night_of_nobody(leaves_out=lambda item: True)
    handed_out = asyncio.Event()
    visit = nightly.visit.fn(night, NOT_BEGUN, asyncio.Semaphore(0), handed_out, None)
    asyncio.run(asyncio.wait_for(visit, 60))
    assert handed_out.is_set()


def test_a_night_that_stops_begins_nothing_but_what_is_searched_already(tmp_path):
    ahead = {NOT_BEGUN[0].key: object()}
    night = NightRun(NOT_BEGUN, tmp_path, Settings(), None, None, None, ahead=ahead)
    assert not any(map(night.leaves_out, NOT_BEGUN))
    night.shutdown.ask()
    assert [night.leaves_out(item) for item in NOT_BEGUN] == [False, True, True]


@pytest.mark.parametrize("error", [None, Misconfigured("model", "detect.model", "is not there.", "mend it.")])
def test_no_exposure_is_handed_out_before_the_workers_are_ready(monkeypatch, error):
    told = []

    def ready():
        told.append("ready")
        if error is not None:
            raise error
        return Cluster("tcp://here", 1, 2**30)

    async def visits(night, slots):
        told.append("visits")

    async def flow():
        nightly._NIGHT.set(night)
        await nightly._nightly.fn()

    monkeypatch.setattr(nightly, "_visits", visits)
    progress = SimpleNamespace(begin=lambda: told.append("begin"))
    night = NightRun([], Path("no/where"), Settings(), None, progress, ready)
    with contextlib.nullcontext() if error is None else pytest.raises(Misconfigured) as caught:
        asyncio.run(flow())
    assert told == (["ready", "begin", "visits"] if error is None else ["ready"])
    assert error is None or caught.value is error


def test_holds_a_tally_and_nothing_that_was_not_declared():
    night = NightRun([], Path("no/where"), None, None, None, None)
    assert not night.totals.finished
    assert not hasattr(night, "__dict__")  # Prefect would store a copy of all of it
    with pytest.raises(AttributeError):
        night.surprise = 1


@pytest.mark.parametrize(
    ("workers", "exposures", "tasks"), [(2, 6, 4), (64, 6, 11), (16, 1, 16), (1, 0, 4), (2, 31, 4), (2, 32, 1)]
)
def test_few_tasks_search_an_exposure_unless_workers_would_have_nothing_to_do(workers, exposures, tasks):
    cluster = Cluster("tcp://here", workers, 2**30)
    assert NightRun([None] * exposures, Path("no/where"), None, None, None, lambda: cluster).tasks == tasks


def test_the_last_exposures_of_a_long_night_are_shared_out_again():
    night = NightRun([None] * 100, Path("no/where"), None, None, None, lambda: Cluster("tcp://here", 4, 2**30))
    assert night.tasks == 1
    night.totals.finished |= set(range(37))
    assert night.tasks == 4
    night.totals.finished |= set(range(99))
    assert night.tasks == 4


def test_a_signal_asks_and_ends_the_sleep():
    async def run():
        shutdown = Shutdown()
        with shutdown.on_signals():
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(shutdown.sleep(600), 60)
        return shutdown.asked

    before = signal.getsignal(signal.SIGTERM)
    assert asyncio.run(run())
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_a_signal_it_sleeps():
    async def run():
        shutdown = Shutdown()
        await shutdown.sleep(0.01)
        return shutdown.asked

    assert not asyncio.run(run())


def test_the_second_signal_ends_the_process():
    code = """
import asyncio, os, signal
from flows.nights.nightly import Shutdown

async def run():
    shutdown = Shutdown()
    with shutdown.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        await shutdown.sleep(600)
        print("asked", shutdown.asked, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(600)

asyncio.run(run())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert ended.stdout == "asked True\n"
    assert ended.returncode == -signal.SIGTERM


def test_in_another_thread_nothing_is_listened_to():
    found = []

    async def run():
        shutdown = Shutdown()
        with shutdown.on_signals():
            found.append(shutdown.asked)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join(60)
    assert found == [False]
