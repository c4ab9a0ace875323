import io
import os
import random
import shutil
import signal
import time
from dataclasses import replace

import psutil
import pytest
from rich.console import Console

from flows.inputs.source import Source
from flows.inputs.sources import list_sources
from flows.nights.run import planner
from flows.nights.stream.backfill import Archive, Backfill, as_json, forecast, show_forecast, survey
from flows.results.verify import verify_output
from flows.storage.lease import holder_of
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.injection import INJECTION
from schemas.settings import InjectSettings, Settings
from schemas.summary import ExposureCounts, RunSummary
from tests.support.night import DETECTORS, VISITS, catalogues, later, settings_of
from tests.support.wait import until

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = pytest.mark.slow


A_NIGHT = VISITS * DETECTORS
NIGHTS = 3


@pytest.fixture(scope="module")
def archive(raw_night, tmp_path_factory):
    """Three nights in nested folders, as archives keep them."""
    folder = tmp_path_factory.mktemp("archive")
    for days in range(NIGHTS):
        later(raw_night, folder / "2025" / f"part{days}" / "images", days)
    return folder


@pytest.fixture(scope="module")
def backfill(nightstride_run):
    return replace(nightstride_run, verb="backfill", arguments=("--nice", "0", "--pause", "0"))


@pytest.fixture(scope="module")
def undisturbed(backfill, archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    return backfill.here(archive, "--out", out), out


def test_all_nights_are_done_in_order_with_time_left(undisturbed):
    run, out = undisturbed
    assert run.code == 0, run.stderr
    assert run.counts == (NIGHTS * A_NIGHT, NIGHTS * A_NIGHT, 0, 0, 0)
    nights = run.summary["nights"]
    assert len(nights) == NIGHTS
    assert [run.stderr.index(f"night {night} done") for night in nights] == sorted(
        run.stderr.index(f"night {night} done") for night in nights
    )
    assert f"night {nights[0]} done; {2 * A_NIGHT} exposures left, about 0 h " in run.stderr
    assert all((out / "reports" / night / "index.html").exists() for night in nights)
    assert verify_output(out, {"dia_source": DIA_SOURCE, "injection": INJECTION}).problems == ()
    assert holder_of(out) is None


def test_a_second_run_has_nothing_to_do_and_starts_nothing(backfill, archive, undisturbed):
    _, out = undisturbed
    before = catalogues(out)
    again = backfill.here(archive, "--out", out, PREFECT_API_URL="http://127.0.0.1:9/none")
    assert again.counts == (NIGHTS * A_NIGHT, 0, NIGHTS * A_NIGHT, 0, 0), again.stderr
    assert catalogues(out) == before


def test_nights_out_of_range_are_left_alone(backfill, archive, undisturbed, tmp_path):
    nights = undisturbed[0].summary["nights"]
    run = backfill.here(archive, "--out", tmp_path / "out", "--from", nights[1], "--to", nights[1])
    assert run.counts == (A_NIGHT, A_NIGHT, 0, 0, 0), run.stderr
    assert run.summary["nights"] == [nights[1]]
    expected = {name: content for name, content in catalogues(undisturbed[1]).items() if nights[1] in name}
    assert catalogues(tmp_path / "out") == expected


@pytest.mark.faults
def test_stopped_again_and_again_it_ends_with_the_same_bytes(backfill, archive, undisturbed, tmp_path):
    """Five times, by SIGKILL and by SIGTERM in turn, each time somewhere in its work."""
    out, moments = tmp_path / "out", random.Random(5)
    for attempt, more in enumerate([0, 1, 0, 2, 1]):
        process = backfill.start(archive, "--out", out)
        before = len(Ledger(out).files())
        wanted = before + more

        def reached(wanted=wanted, process=process):
            there = len(Ledger(out).files()) >= wanted and (out / "lease.json").exists()
            return there or process.poll() is not None

        until(reached)
        time.sleep(moments.uniform(0, 0.5))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM if attempt % 2 else signal.SIGKILL)
        _, stderr = process.communicate(timeout=120)
        _, left = psutil.wait_procs(children, timeout=120)
        assert left == [], "workers must end with the command"
        # SIGTERM while exposures are on their way lets them finish, and counts the others as not begun.
        ended = (1, -signal.SIGTERM) if attempt % 2 else (-signal.SIGKILL,)
        assert process.returncode in ended, stderr
    last = backfill.here(archive, "--out", out)
    assert last.code == 0, last.stderr
    assert last.counts[0] == NIGHTS * A_NIGHT
    assert catalogues(out) == catalogues(undisturbed[1])
    assert verify_output(out, {"dia_source": DIA_SOURCE, "injection": INJECTION}).problems == ()


def test_the_archive_is_sorted_by_night_with_what_is_open(archive, night_models, undisturbed, tmp_path):
    settings = settings_of(night_models)
    nights = undisturbed[0].summary["nights"]
    (tmp_path / "bad.fits").write_text("no image")
    sources = [*list_sources([str(archive)], settings), Source(str(tmp_path / "bad.fits"))]
    found = survey(sources, tmp_path / "new", settings)
    assert list(found.nights) == nights
    assert found.open == dict.fromkeys(nights, A_NIGHT)
    assert [one.uri for one in found.nameless] == [str(tmp_path / "bad.fits")]
    assert [night for night, _ in found.portions] == ["unknown", *nights]
    assert not (tmp_path / "new").exists()
    done = survey(sources, undisturbed[1], settings, first=nights[1])
    assert list(done.nights) == nights[1:]
    assert sum(done.open.values()) == 0


@pytest.mark.parametrize(("wanted", "nameless"), [(None, 1), (lambda record: True, 0), (lambda record: False, 0)])
def test_what_says_no_night_is_kept_only_if_everything_is_wanted(night_models, tmp_path, wanted, nameless):
    (tmp_path / "bad.fits").write_text("no image")
    bad = Source(str(tmp_path / "bad.fits"))
    found = survey([bad], tmp_path / "out", settings_of(night_models), wanted=wanted)
    assert found == Archive({}, (bad,) * nameless, {})
    assert list(found.portions) == [("unknown", (bad,))] * nameless


def test_only_what_is_wanted_is_left_of_an_archive(archive, night_models, undisturbed, tmp_path):
    """Those of one visit; its copy that cannot be read is told as missing, others are not."""
    settings, (_, out) = settings_of(night_models), undisturbed
    asked = min(record.visit for record in Ledger(out).records())
    sources = list_sources([str(archive)], settings)
    found = survey(sources, out, settings, wanted=lambda record: record.visit == asked)
    assert sum(map(len, found.nights.values())) == len([one for one in Ledger(out).records() if one.visit == asked])
    assert found.missing == ()
    gone = survey([], out, settings, wanted=lambda record: record.visit == asked)
    assert sorted(one.uri for one in gone.missing) == sorted(
        one.source_uri for one in Ledger(out).records() if one.visit == asked
    )
    assert {one.code for one in gone.missing} == {"no_source"}
    assert survey(sources, tmp_path / "new", settings, wanted=lambda record: True).nights == {}


def test_a_range_without_exposures_names_what_there_is(archive, night_models, tmp_path, undisturbed):
    settings, nights = settings_of(night_models), undisturbed[0].summary["nights"]
    with pytest.raises(Misconfigured, match=f"it has {nights[0]} to {nights[-1]}"):
        survey(list_sources([str(archive)], settings), tmp_path, settings, first="20400101")


def test_between_nights_another_run_gets_the_folder(monkeypatch, tmp_path):
    """The lease is free in each pause, and held during the work."""
    held, summary = [], _summary()

    def work(sources, out, settings, console, meter):
        held.append(holder_of(out).pid)
        return summary

    monkeypatch.setattr("flows.nights.stream.backfill.search_exposures", work)
    archive = Archive({"20250101": (Source("a"),), "20250102": (Source("b"),)}, (), {"20250101": 1, "20250102": 1})
    free = []

    def pause(seconds):
        free.append((seconds, holder_of(tmp_path)))

    console = Console(file=io.StringIO(), width=200)
    total = Backfill(tmp_path, Settings(), console, 7.0, pause).run(archive)
    assert held == [os.getpid()] * 2
    assert free == [(7.0, None)]  # none after the last night
    assert total.exposures.done == 2
    assert "night 20250101 (1 of 2): 1 of 1 exposures to do" in console.file.getvalue()


def test_a_night_that_a_signal_ended_is_the_last(monkeypatch, tmp_path):
    done = []

    def work(sources, out, settings, console, meter):
        done.append(sources)
        return _summary(stopped=True)

    monkeypatch.setattr("flows.nights.stream.backfill.search_exposures", work)
    archive = Archive({"20250101": (Source("a"),), "20250102": (Source("b"),)}, (), {"20250101": 1, "20250102": 1})
    total = Backfill(tmp_path, Settings(), Console(file=io.StringIO()), 0.0).run(archive)
    assert len(done) == 1
    assert (total.stopped, total.exit_code) == (True, 1)


def _summary(**given):
    counts = ExposureCounts(seen=1, done=1, skipped=0, quarantined=0, failed=0)
    return RunSummary(
        exposures=counts, windows=1, unscored=0, detections=1, not_run={}, seconds={}, report=None, **given
    )


def test_what_says_no_night_is_quarantined_and_the_rest_goes_on(backfill, archive, undisturbed, tmp_path):
    mixed = shutil.copytree(archive / "2025" / "part0", tmp_path / "mixed")
    (mixed / "bad.fits").write_text("no image")
    run = backfill.here(mixed, "--out", tmp_path / "out")
    assert run.code == 1
    assert run.counts == (A_NIGHT + 1, A_NIGHT, 0, 1, 0), run.stderr
    assert run.summary["quarantined"][0]["code"] == "not_fits"


@pytest.fixture
def settings(night_models):
    return settings_of(night_models)


def files(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_each_exposure_has_its_action_and_reason(raw_night, uninterrupted, settings, tmp_path):
    _, done = uninterrupted
    out = shutil.copytree(done, tmp_path / "out")
    before = files(out)
    sources = list_sources([str(raw_night)], settings)
    assert {(one.action, one.code) for one in forecast(sources, out, settings)} == {("skip", "current")}
    changed = settings.model_copy(update={"inject": InjectSettings(streaks=7)})
    found = forecast(sources, out, changed)
    assert {(one.action, one.code) for one in found} == {("search", "outdated")}
    assert all("injection" in one.why and "dia_source" not in one.why for one in found)
    next(iter((out / "catalogs" / "dia_source").rglob("*.parquet"))).write_bytes(b"spoilt")
    codes = sorted(one.code for one in forecast(sources, out, settings))
    assert codes == ["current"] * (len(sources) - 1) + ["damaged"]
    assert set(files(out)) == set(before)


def test_nothing_is_written_of_what_cannot_be_used(raw_night, settings, tmp_path):
    (tmp_path / "bad.fits").write_text("no image")
    sources = [*list_sources([str(raw_night)], settings), Source(str(tmp_path / "bad.fits"))]
    found = forecast(sources, tmp_path / "out", settings)
    assert [(one.action, one.code) for one in found] == [
        ("quarantine", "not_fits"),
        *[("search", "new")] * (len(sources) - 1),
    ]
    assert not (tmp_path / "out").exists()


def test_the_forecast_is_what_a_run_would_do(raw_night, settings, tmp_path):
    sources = list_sources([str(raw_night)], settings)
    found = forecast(sources, tmp_path / "out", settings)
    todo = planner(tmp_path / "out", settings).plan(sources).todo
    assert [(one.night, one.visit, one.detector) for one in found] == [
        (item.key.night, item.key.visit, item.key.detector) for item in todo
    ]


def test_it_is_told_in_lines_and_counts(raw_night, settings, tmp_path):
    sources = list_sources([str(raw_night)], settings)
    found = forecast(sources, tmp_path, Settings())
    console = Console(file=io.StringIO(), width=500)
    show_forecast(found, console)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == len(sources) + 1
    assert lines[0].startswith("search")
    assert "not in the ledger yet" in lines[0]
    assert as_json(found)["counts"] == {"search": len(sources)}
