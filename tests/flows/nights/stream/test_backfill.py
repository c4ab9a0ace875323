import io
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rich.console import Console

from flows.inputs.source import Source
from flows.inputs.sources import list_sources
from flows.nights.run import planner
from flows.nights.stream.backfill import Archive, Backfill, as_json, forecast, show_forecast, survey
from flows.pipeline.outcome import NEW, Item, Plan
from flows.results.verify import verify_output
from flows.storage.lease import holder_of
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.injection import INJECTION
from schemas.ledger import ExposureRecord
from schemas.negative import NEGATIVE
from schemas.settings import InjectSettings, Settings
from schemas.summary import ExposureCounts, RunSummary, Trouble
from tests.support.night import DETECTORS, TWO_WORKERS, VISITS, catalogues, later, settings_of, without_objects
from tests.support.wait import until

pytest_plugins = ("tests.support.night_fixture",)

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


@pytest.mark.slow
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
    assert verify_output(out, {"dia_source": DIA_SOURCE, "injection": INJECTION, "negative": NEGATIVE}).problems == ()
    assert holder_of(out) is None


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do_and_starts_nothing(backfill, archive, undisturbed):
    _, out = undisturbed
    before = catalogues(out)
    again = backfill.here(archive, "--out", out, PREFECT_API_URL="http://127.0.0.1:9/none")
    assert again.counts == (NIGHTS * A_NIGHT, 0, NIGHTS * A_NIGHT, 0, 0), again.stderr
    assert catalogues(out) == before


@pytest.mark.slow
def test_nights_out_of_range_are_left_alone(backfill, archive, undisturbed, tmp_path):
    nights = undisturbed[0].summary["nights"]
    run = backfill.here(archive, "--out", tmp_path / "out", "--from", nights[1], "--to", nights[1])
    assert run.counts == (A_NIGHT, A_NIGHT, 0, 0, 0), run.stderr
    assert run.summary["nights"] == [nights[1]]
    expected = {name: content for name, content in catalogues(undisturbed[1]).items() if nights[1] in name}
    assert without_objects(catalogues(tmp_path / "out")) == without_objects(expected)


@pytest.mark.slow
@pytest.mark.faults
def test_stopped_again_and_again_it_ends_with_the_same_bytes(backfill, archive, undisturbed, tmp_path):
    """Three times, by SIGKILL and by SIGTERM in turn, each time somewhere in its work."""
    out, moments = tmp_path / "out", random.Random(5)
    for attempt, more in enumerate([0, 1, 2]):
        process = backfill.start(archive, "--out", out, **TWO_WORKERS)
        before = Ledger(out).count()
        wanted = before + more

        def reached(wanted=wanted, process=process):
            there = Ledger(out).count() >= wanted and (out / "lease.json").exists()
            return there or process.poll() is not None

        until(reached)
        time.sleep(moments.uniform(0, 0.5))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM if attempt % 2 else signal.SIGKILL)
        _, stderr = process.communicate(timeout=120)
        _, left = psutil.wait_procs(children, timeout=120)
        assert left == [], "workers must end with the command"
        # SIGTERM while exposures are on their way lets them finish, and counts the others as not begun.
        ended = (1, 128 + signal.SIGTERM) if attempt % 2 else (-signal.SIGKILL,)
        assert process.returncode in ended, stderr
    last = backfill.here(archive, "--out", out)
    assert last.code == 0, last.stderr
    assert last.counts[0] == NIGHTS * A_NIGHT
    assert catalogues(out) == catalogues(undisturbed[1])
    assert verify_output(out, {"dia_source": DIA_SOURCE, "injection": INJECTION, "negative": NEGATIVE}).problems == ()


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "nameless"), [(None, 1), (lambda record: True, 0), (lambda record: False, 0)])
def test_what_says_no_night_is_kept_only_if_everything_is_wanted(night_models, tmp_path, wanted, nameless):
    (tmp_path / "bad.fits").write_text("no image")
    bad = Source(str(tmp_path / "bad.fits"))
    found = survey([bad], tmp_path / "out", settings_of(night_models), wanted=wanted)
    assert found == Archive({}, (bad,) * nameless, {})
    assert list(found.portions) == [("unknown", (bad,))] * nameless


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_range_without_exposures_names_what_there_is(archive, night_models, tmp_path, undisturbed):
    settings, nights = settings_of(night_models), undisturbed[0].summary["nights"]
    with pytest.raises(Misconfigured, match=f"it has {nights[0]} to {nights[-1]}"):
        survey(list_sources([str(archive)], settings), tmp_path, settings, first="20400101")


def test_between_nights_another_run_gets_the_folder(monkeypatch, tmp_path):
    """The lease is free in each pause, and held during the work."""
    held, summary = [], _summary()

    def work(sources, out, settings, console, meter, outlet):
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


@pytest.mark.parametrize(
    ("is_open", "counts", "seconds", "pauses"),
    [
        (1, {"failed": 1}, {}, 2),
        (1, {"quarantined": 1}, {}, 2),
        (0, {"skipped": 1}, {"objects": 60.0}, 2),  # other settings of what is made of whole nights
        (0, {"skipped": 1}, {}, 0),
    ],
)
def test_another_run_gets_in_after_each_night_that_took_its_time(
    monkeypatch, tmp_path, is_open, counts, seconds, pauses
):
    made = _summary(seconds=seconds, counts={"done": 0, **counts})
    monkeypatch.setattr("flows.nights.stream.backfill.search_exposures", lambda *_: made)
    nights = {f"2025010{day}": (Source(f"{day}"),) for day in (1, 2, 3)}
    archive, rests = Archive(nights, (), dict.fromkeys(nights, is_open)), []
    Backfill(tmp_path, Settings(), Console(file=io.StringIO()), 7.0, rests.append).run(archive)
    assert rests == [7.0] * pauses


def test_a_night_that_a_signal_ended_is_the_last(monkeypatch, tmp_path):
    done = []

    def work(sources, out, settings, console, meter, outlet):
        done.append(sources)
        return _summary(stopped=True)

    monkeypatch.setattr("flows.nights.stream.backfill.search_exposures", work)
    archive = Archive({"20250101": (Source("a"),), "20250102": (Source("b"),)}, (), {"20250101": 1, "20250102": 1})
    total = Backfill(tmp_path, Settings(), Console(file=io.StringIO()), 0.0).run(archive)
    assert len(done) == 1
    assert (total.stopped, total.exit_code) == (True, 1)


def _summary(counts=None, **given):
    counts = {"seen": 1, "done": 1, "skipped": 0, "quarantined": 0, "failed": 0} | (counts or {})
    given = {"seconds": {}, **given}
    return RunSummary(
        exposures=ExposureCounts(**counts), windows=1, unscored=0, detections=1, not_run={}, report=None, **given
    )


class Known:
    """A planner that finds night and visit in the name; it has an up to date record of those in ``published``."""

    def __init__(self, published=()):
        self.published = set(published)

    def identify(self, source):
        if not source.uri[0].isdigit():
            error = Retryable if source.uri.startswith("away") else BadInput
            raise error("unreadable_file", source.uri, "cannot be read.", "mend it.")
        night, visit = source.uri.split("-")
        known = recorded(night, int(visit)) if source.uri in self.published else None
        return Item(source, ExposureKey(night=night, visit=int(visit), detector=0), None, record=known)

    def outdated(self, item):
        return None if item.record is not None else NEW


def recorded(night, visit):
    return ExposureRecord(
        night=night, visit=visit, detector=0, source_uri=f"{night}-{visit}", source_sha256="s", digest="d",
        software="0", finished_at="now",
    )  # fmt: skip


def surveyed(planned, uris, out=Path("nowhere"), **given):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.nights.stream.backfill.planner", lambda out, settings, *, dry: planned if dry else None)
        return survey([Source(uri) for uri in uris], out, Settings(), **given)


DAYS = st.sampled_from([f"202501{day:02d}" for day in range(1, 6)])


@given(st.dictionaries(st.tuples(DAYS, st.integers(1, 3)), st.booleans()), st.none() | DAYS, st.none() | DAYS)
@example({("20250102", 1): True, ("20250103", 1): False}, "20250102", "20250102")
@hypothesis_settings(max_examples=50, deadline=None)
def test_a_survey_has_every_exposure_of_the_range_with_its_ends_and_counts_what_is_open(exposures, first, last):
    uris = {f"{night}-{visit}": (night, is_open) for (night, visit), is_open in exposures.items()}
    planned = Known(uri for uri, (_, is_open) in uris.items() if not is_open)
    inside = {
        uri: given
        for uri, given in uris.items()
        if (first is None or given[0] >= first) and (last is None or given[0] <= last)
    }
    if uris and not inside:
        days = [night for night, _ in uris.values()]
        with pytest.raises(Misconfigured, match=f"it has {min(days)} to {max(days)}"):
            surveyed(planned, uris, first=first, last=last)
        return
    found = surveyed(planned, [*uris, "bad"], first=first, last=last)
    assert list(found.nights) == sorted({night for night, _ in inside.values()})
    for night, sources in found.nights.items():
        assert [one.uri for one in sources] == [uri for uri, (day, _) in inside.items() if day == night]
        assert found.open[night] == sum(is_open for day, is_open in inside.values() if day == night)
    assert ([one.uri for one in found.nameless], found.missing) == (["bad"], ())


def test_what_is_asked_for_and_not_there_is_missing_within_the_range_alone(tmp_path):
    for night in ("20250101", "20250102", "20250103", "20250104"):
        for visit in (1, 2):
            Ledger(tmp_path).put(recorded(night, visit))
    Ledger(tmp_path).put(recorded("20250102", 3).model_copy(update={"source_uri": "away"}))
    there = ["20250102-1", "20250103-2", "20250103-9", "away"]
    given = {"first": "20250102", "last": "20250103"}
    found = surveyed(Known(there[:2]), there, tmp_path, wanted=lambda record: True, **given)
    assert {night: [one.uri for one in sources] for night, sources in found.nights.items()} == {
        "20250102": ["20250102-1"], "20250103": ["20250103-2"],
    }  # fmt: skip
    assert sorted((one.uri, one.code) for one in found.missing) == [
        ("20250102-2", "no_source"), ("20250103-1", "no_source"), ("away", "unreadable_file"),
    ]  # fmt: skip
    assert found.nameless == ()
    some = surveyed(Known(there[:2]), there, tmp_path, wanted=lambda record: record.visit == 1, **given)
    assert list(some.nights) == ["20250102"]
    assert [one.uri for one in some.missing] == ["20250103-1"]


def test_after_each_night_worked_on_it_rests_and_says_how_long_the_rest_takes(monkeypatch, tmp_path):
    """20 s an exposure: 183 exposures take 1 h 1 min. A night of which nothing was done is passed by in silence."""
    now = [100.0]

    def work(sources, out, settings, console, meter, outlet):
        done = sum(source.uri != "current" for source in sources)
        now[0] += 20.0 * done
        counts = ExposureCounts(seen=len(sources), done=done, skipped=len(sources) - done, quarantined=0, failed=0)
        return _summary().model_copy(update={"exposures": counts})

    monkeypatch.setattr("flows.nights.stream.backfill.search_exposures", work)
    monkeypatch.setattr("flows.nights.stream.backfill.perf_counter", lambda: now[0])
    nights = {
        "20250101": (Source("a"), Source("b"), Source("current")),
        "20250102": (Source("current"),),
        "20250103": (Source("c"),),
        "20250104": tuple(Source(f"d{number}") for number in range(183)),
    }
    gone = Trouble(uri="gone", code="no_source", message="nothing holds it")
    archive = Archive(nights, (), dict(zip(nights, (2, 0, 1, 183), strict=True)), (gone,))
    console, rests = Console(file=io.StringIO(), width=200), []
    total = Backfill(tmp_path, Settings(), console, 7.0, rests.append).run(archive)
    told = [line[line.index("night 2") :] for line in console.file.getvalue().splitlines() if "night 2" in line]
    assert told == [
        "night 20250101 (1 of 4): 2 of 3 exposures to do",
        "night 20250101 done; 184 exposures left, about 1 h 1 min 20 s",
        "night 20250103 (3 of 4): 1 of 1 exposures to do",
        "night 20250103 done; 183 exposures left, about 1 h 1 min 0 s",
        "night 20250104 (4 of 4): 183 of 183 exposures to do",
        "night 20250104 done; 0 exposures left, about 0 h 0 min 0 s",
    ]
    assert rests == [7.0, 7.0]
    assert (total.exposures.done, total.exposures.skipped, total.failed) == (186, 2, (gone,))


def test_forecasts_are_in_order_of_night_visit_and_detector_with_those_of_no_night_first(monkeypatch, tmp_path):
    names = [("20250102", 1, 1), ("20250101", 2, 1), ("20250101", 1, 2), ("20250101", 1, 0), ("20250101", 3, 0)]
    keys = [ExposureKey(night=night, visit=visit, detector=detector) for night, visit, detector in names]
    todo = [Item(Source(f"s{number}"), key, None) for number, key in enumerate(keys[:4])]
    todo[3] = replace(todo[3], superseded=(recorded("20241231", 7),))
    known = recorded("20250101", 3).model_copy(update={"source_uri": "old"})
    unusable = Trouble(uri="unusable", code="unusable", message="unusable: is not FITS.")
    away = Trouble(uri="away", code="away", message="is away")
    plan = Plan(tuple(todo), (known,), 1, (unusable,), (away,))
    planned = type("Planned", (), {"plan": lambda self, sources: plan})()
    monkeypatch.setattr("flows.nights.stream.backfill.planner", lambda out, settings, *, dry: planned if dry else None)
    found = forecast([], tmp_path, Settings())
    assert [(one.action, one.uri) for one in found] == [
        ("fail", "away"), ("quarantine", "unusable"), ("search", "s3"), ("search", "s2"), ("search", "s1"),
        ("skip", "old"), ("search", "s0"),
    ]  # fmt: skip
    assert [(one.night, one.visit, one.detector) for one in found[2:]] == sorted(names)
    assert found[0].line == "fail       unknown exposure  is away  (away)"
    assert found[1].line == "quarantine unknown exposure  unusable: is not FITS."
    assert found[2].line.startswith("search     20250101 1-0  ")
    assert "withdraws 20241231 7-0" in found[2].why
    assert "withdraws" not in found[3].why
    console = Console(file=io.StringIO(), width=500)
    show_forecast([], console)
    show_forecast(found, console)
    told = console.file.getvalue().splitlines()
    assert told[0] == "Dry run, nothing was changed: nothing found."
    assert told[1:-1] == [one.line for one in found]
    assert told[-1].endswith(": fail 1, quarantine 1, search 4, skip 1.")


@pytest.mark.slow
def test_what_says_no_night_is_quarantined_and_the_rest_goes_on(backfill, archive, undisturbed, tmp_path):
    mixed = shutil.copytree(archive / "2025" / "part0", tmp_path / "mixed")
    (mixed / "bad.fits").write_text("no image")
    run = backfill.here(mixed, "--out", tmp_path / "out")
    assert run.code == 3
    assert run.counts == (A_NIGHT + 1, A_NIGHT, 0, 1, 0), run.stderr
    assert run.summary["quarantined"][0]["code"] == "not_fits"


@pytest.fixture
def settings(night_models):
    return settings_of(night_models)


def files(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*")}


@pytest.mark.slow
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


@pytest.mark.slow
def test_nothing_is_written_of_what_cannot_be_used(raw_night, settings, tmp_path):
    (tmp_path / "bad.fits").write_text("no image")
    sources = [*list_sources([str(raw_night)], settings), Source(str(tmp_path / "bad.fits"))]
    found = forecast(sources, tmp_path / "out", settings)
    assert [(one.action, one.code) for one in found] == [
        ("quarantine", "not_fits"),
        *[("search", "new")] * (len(sources) - 1),
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_forecast_is_what_a_run_would_do(raw_night, settings, tmp_path):
    sources = list_sources([str(raw_night)], settings)
    found = forecast(sources, tmp_path / "out", settings)
    todo = planner(tmp_path / "out", settings).plan(sources).todo
    assert [(one.night, one.visit, one.detector) for one in found] == [
        (item.key.night, item.key.visit, item.key.detector) for item in todo
    ]


@pytest.mark.slow
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
