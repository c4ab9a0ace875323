"""Forced photometry night by night, against the command that measures all objects on all exposures."""

import io
import re
import shutil
import sqlite3
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from flows.nights import associate, forced_history, joined_catalogues
from flows.nights.association import Association, AssociationSummary
from flows.nights.progress import Progress
from flows.nights.run import with_catalogues
from flows.pipeline.graph import declared_tables
from flows.publish.history import ForcedPlaces
from flows.publish.published import PublishedExposures
from flows.results.forced import objects as forced_objects
from flows.results.forced.objects import object_targets
from flows.results.forced.run import forced_exposures, measure_night
from flows.results.forced.target_file import read_target_file
from flows.results.forced.targets import forced_targets, sorted_targets
from flows.results.verify import verify_output
from flows.storage.association_tables import FILE
from flows.storage.catalog_parts import is_part
from flows.storage.catalog_store import CatalogStore
from flows.storage.compaction import compact
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger, unpublish
from flows.storage.zarr_tiles import write_exposure
from kernels.sky.patches import cover
from schemas.dia_object import DIA_OBJECT
from schemas.dia_source import DIA_SOURCE, exposure_of
from schemas.errors import Misconfigured, Retryable
from schemas.forced import FORCED_SOURCE
from schemas.night_range import EVERY_NIGHT
from schemas.settings import AssociationSettings, CatalogSettings, ExecutionSettings, ForcedSettings, Settings
from schemas.summary import ExposureCounts, RunSummary, Trouble
from tests.support.association import detections, key, source_id
from tests.support.cli import nightstride
from tests.support.forced import MJD, SETTINGS, SHAPE, WCS_HEADER, at_pixel, plain_info, plain_planes, record_of
from tests.support.night import later

pytest_plugins = ("tests.support.night_fixture",)

FIRST, SECOND, THIRD = NIGHTS = ("20260101", "20260102", "20260103")
A, NEAR_A, B, EDGE = (100.0, 60.0), (103.0, 63.0), (200.0, 200.0), (290.0, 5.0)
SEEN = {1: (FIRST, [A]), 2: (FIRST, []), 3: (SECOND, [B]), 4: (SECOND, [A]), 5: (THIRD, [NEAR_A, B, EDGE])}
"""Visit -> its night, and the places in px of its detections."""

GIVEN = Settings(forced=ForcedSettings(history_days=5))


def publish(out, visit, night=None, places=None, **changes):
    """Put an exposure into an output folder as a run does; places that it detects are bright, others of them not."""
    night, places = SEEN[visit] if night is None else (night, places)
    mjd = MJD + NIGHTS.index(night) + visit / 100
    info = plain_info(visit=visit, night=night, detector=3, midpoint_mjd_tai=mjd, **changes)
    planes = plain_planes(*((*place, 0.0, 0.0, 3000.0) for place in places), seed=visit)
    write_exposure(tile_path(out, info), info, planes, SETTINGS.tiles, f"d{visit}")
    ra, dec = np.array([at_pixel(*place) for place in places]).reshape(-1, 2).T
    store, rows = CatalogStore(out), detections(visit, ra, dec, mjd=mjd)
    found = {DIA_SOURCE.name: store.record(store.publish(DIA_SOURCE, key(visit, night), rows, f"{visit}"))}
    more = {"datasets": found, "sky": cover(WCS_HEADER, SHAPE), "finished_at": f"2026-11-28T00:00:0{visit}Z"}
    Ledger(out).put(record_of(info, **more))


def finished(out, *nights, settings=GIVEN, **more):
    """End a run of some nights that had nothing to search."""
    counts = ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0)
    none = {"windows": 0, "unscored": 0, "detections": 0, "not_run": {}, "seconds": {}, "report": None}
    summary = RunSummary(exposures=counts, nights=nights, **none)
    return with_catalogues(summary, out, settings, Progress(Console(file=io.StringIO()), 0), **more)


def make(out, *visits):
    """Search visits, each night at a time."""
    for night in sorted({SEEN[visit][0] for visit in visits}):
        for visit in (one for one in visits if SEEN[one][0] == night):
            publish(out, visit)
        assert finished(out, night).exit_code == 0
    return out


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return make(tmp_path_factory.mktemp("three") / "out", *SEEN)


@pytest.fixture
def out(three, tmp_path):
    return shutil.copytree(three, tmp_path / "out")


def rows(out):
    """Rows of forced_source by visit and target."""
    found = (CatalogStore(out).read_path(path, FORCED_SOURCE) for path in CatalogStore(out).list(FORCED_SOURCE))
    return {(one["visit"], one["targetName"]): one for table in found for one in table.to_pylist()}


def measured(out):
    """Visit -> numbers of the objects that are measured there."""
    objects = {source_id(1): "A", source_id(3): "B", source_id(5): "near A", source_id(5, 2): "edge"}
    found = {}
    for visit, name in rows(out):
        found.setdefault(visit, set()).add(objects.get(int(name), name) if name.isdigit() else name)
    return found


def state(out):
    """Bytes of all files but those of the association, which counts its openings."""
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and FILE not in path.name}


EVERY = {"A", "B", "near A", "edge"}


def test_new_objects_are_measured_on_earlier_visits_and_known_ones_on_those_of_the_night(three):
    assert measured(three) == dict.fromkeys(SEEN, EVERY)
    new = rows(three)[1, str(source_id(3))]
    assert abs(new["snr"]) < 5
    assert rows(three)[3, str(source_id(3))]["snr"] > 20
    assert verify_output(three, declared_tables()).problems == ()


def test_rows_are_those_of_the_command_but_for_objects_that_have_begun_beside_them_since(out):
    before = rows(out)
    tuple(measure_night(out, object_targets(out), forced_exposures(out), forced_objects.SIGMA))
    after = rows(out)
    assert before.keys() == after.keys()
    beside = {one for one in after if one[1] == str(source_id(1)) and one[0] < 5}  # A: the object near it came later
    assert {one for one in after if after[one] != before[one]} <= beside
    assert len(beside) == 4


def test_a_rerun_with_nothing_new_does_no_work_and_changes_no_bytes(out, monkeypatch):
    before = state(out)
    monkeypatch.setattr(forced_objects, "measure_objects", None)
    summary = finished(out, *NIGHTS)
    assert (summary.exit_code, "forced" in summary.seconds, "associate" in summary.seconds) == (0, False, False)
    assert state(out) == before


def test_nothing_is_measured_unless_it_is_asked_for(tmp_path):
    publish(tmp_path, 1)
    finished(tmp_path, FIRST, settings=Settings())
    assert (rows(tmp_path), Ledger(tmp_path).night(FIRST).forced) == ({}, "")
    assert finished(tmp_path, FIRST).exit_code == 0
    assert measured(tmp_path) == {1: {"A"}}


def test_history_ends_some_days_before_the_night(tmp_path):
    short = Settings(forced=ForcedSettings(history_days=1))
    for visit in SEEN:
        publish(tmp_path, visit)
    for night in NIGHTS:
        finished(tmp_path, night, settings=short)
    found = measured(tmp_path)
    assert found[1] == found[2] == {"A", "B"}
    assert found[3] == found[4] == EVERY
    assert found[5] == EVERY


def test_a_night_that_is_searched_later_has_the_objects_of_those_after_it(tmp_path):
    for visit in (3, 4, 5, 1, 2):
        publish(tmp_path, visit)
        finished(tmp_path, SEEN[visit][0])
    assert {visit: len(found) for visit, found in measured(tmp_path).items()} == dict.fromkeys(SEEN, 4)


def test_objects_that_a_new_association_knows_no_more_are_forgotten(three, tmp_path, monkeypatch):
    for visit in (3, 4, 5, 1, 2):
        publish(tmp_path, visit)
        if visit == 3:
            mine = sorted_targets({"mine": ("mine", *at_pixel(*A), 0.0, 0.0, 0.0)})
            tuple(measure_night(tmp_path, mine, forced_exposures(tmp_path), 5.0))
        finished(tmp_path, SEEN[visit][0])
    old, told = {one for _, one in rows(tmp_path)}, []

    def again():
        return associate.associate_output(tmp_path, GIVEN, EVERY_NIGHT, True, told.append)

    with monkeypatch.context() as patch:
        patch.setattr(associate, "forget_objects", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            again()
        down = Trouble(uri="store", code="association_down", message="does not answer.")
        patch.setattr(associate, "associate", lambda *_, **__: Association(AssociationSummary(failed=(down,))))
        assert again().failed == (down,)
    assert "stays: --rebuild again" in told[-1]
    assert {one for _, one in rows(tmp_path)} == old
    again()
    assert "5 rows of objects that are no more left out" in told[-1]
    assert finished(tmp_path, *NIGHTS).exit_code == 0
    now = {one for _, one in rows(tmp_path)}
    assert now == {one for _, one in rows(three)} | {"mine"} != old
    assert verify_output(tmp_path, declared_tables()).problems == ()


def search_again(out, visit, places):
    """Search a visit again, as runs do: its forced photometry goes, and its night is associated and measured anew."""
    night, ledger, store = SEEN[visit][0], Ledger(out), CatalogStore(out)
    (out / ledger.get(key(visit, night)).datasets[FORCED_SOURCE.name].path).unlink()
    publish(out, visit, night, places)
    record, found = ledger.get(key(visit, night)), store.read(DIA_SOURCE, key(visit, night))
    entry = store.record(store.publish(DIA_SOURCE, record.key, found, f"{visit} again"))
    ledger.put(record.model_copy(update={"datasets": {DIA_SOURCE.name: entry}, "finished_at": "2026-11-29T00:00:00Z"}))
    assert finished(out, *NIGHTS).exit_code == 0


def verified(out):
    done = nightstride("verify", out, "--json")
    assert done.code == int(bool(done.summary["problems"]))
    former = {one["diaObjectId"]: one for one in done.summary["former"]}
    return former, [(one["code"], one["where"].rpartition("=")[2], one["problem"]) for one in done.summary["problems"]]


def test_rows_of_an_object_that_has_ended_are_its_history_until_all_is_associated_anew(out):
    assert verified(out) == ({}, [])
    search_again(out, 5, [NEAR_A, EDGE])
    assert verified(out) == ({}, [])
    search_again(out, 3, [])
    (former,), problems = verified(out)[0].values(), verified(out)[1]
    assert problems == []
    assert (former["diaObjectId"], former["rows"], former["nights"]) == (source_id(3), 4, list(NIGHTS))
    assert re.fullmatch(r"ended at 20[-0-9T:+]+, when exposure 3-3 was searched again", former["why"])
    text = nightstride("verify", out).stdout
    assert f"4 rows of forced photometry, {FIRST} to {THIRD}, of {source_id(3)}, which {former['why']}." in text
    assert "`nightstride forced OUT --dia-objects`" in text
    assert "1 former object: all is well" in text
    of_night = nightstride("verify", out, "--night", FIRST, "--json").summary["former"]
    assert of_night == [{**former, "rows": 2, "nights": [FIRST]}]
    gone = nightstride("explain", out, source_id(3))
    assert (gone.code, f"has no object {source_id(3)} any more: it {former['why']}." in gone.stderr) == (2, True)
    told = []
    assert associate.associate_output(out, GIVEN, EVERY_NIGHT, True, told.append).failed == ()
    assert "9 rows of objects that are no more left out" in told[-1]  # with those of one that is named otherwise now
    assert verified(out) == ({}, [])


def test_an_exposure_that_is_withdrawn_ends_objects_and_the_command_measures_those_of_now(out):
    unpublish(Ledger(out).get(key(1, FIRST)), out)
    unpublish(Ledger(out).get(key(4, SECOND)), out)
    search_again(out, 5, [B, EDGE])
    why = verified(out)[0][source_id(1)]["why"]
    assert why.endswith(("when exposure 1-3 was withdrawn", "when exposure 4-3 was withdrawn"))
    tuple(measure_night(out, object_targets(out), forced_exposures(out), forced_objects.SIGMA))
    assert verified(out) == ({}, [])


def test_ids_that_never_were_are_problems_and_names_of_lists_are_none(out, tmp_path):
    never, detection, elsewhere = source_id(2, 7), source_id(4), source_id(77)
    names = [never, detection, elsewhere, f"0{never}", "9" * 5000, 2**63, "mine", source_id(3)]
    path = tmp_path / "targets.csv"
    path.write_text("name,ra,dec\n" + "".join(f"{one},{a},{b}\n" for one in names for a, b in [at_pixel(*B)]))
    known, _ = forced_targets(read_target_file(path))
    of_night = [one for one in forced_exposures(out) if one.night == SECOND]
    tuple(measure_night(out, known, of_night, 3.0))
    former, ((code, night, problem),) = verified(out)
    assert {one: (row["rows"], row["why"][:14]) for one, row in former.items()} == {detection: (2, "is a detection")}
    assert (code, night) == ("unknown_object", SECOND)
    assert problem == f"holds 2 rows of diaObjectIds that no object has, nor had: {never} ..."
    with closing(sqlite3.connect(out / FILE)) as connection, connection:
        connection.execute("DELETE FROM visit WHERE visit = 2")  # the next run may begin it
        connection.execute("UPDATE night SET stamp = ''")
    assert verified(out)[1] == []


def test_ids_of_exposures_that_cannot_be_associated_anew_keep_their_rows(out):
    search_again(out, 5, [NEAR_A, B])  # what began at the edge has ended
    CatalogStore(out).path(DIA_SOURCE, key(3, SECOND)).write_bytes(b"no Parquet")
    before = rows(out)
    found = associate.associate_output(out, GIVEN, EVERY_NIGHT, True, lambda _: None)
    assert [one.code for one in found.failed] == ["unreadable_catalogue"]
    lost = {name for _, name in before.keys() - rows(out).keys()}
    assert lost == {str(source_id(5, 2))}  # B, which visit 3 began, may have its id again


def test_a_list_of_targets_stays_and_alerts_take_the_object(out, tmp_path):
    ra, dec = at_pixel(*A)
    path = tmp_path / "targets.csv"
    path.write_text(f"name,ra,dec\nmine,{ra},{dec}\n")
    known, _ = forced_targets(read_target_file(path))
    tuple(measure_night(out, known, forced_exposures(out), 5.0))
    assert measured(out) == {visit: {"mine"} for visit in SEEN}
    mine = rows(out)
    publish(out, 6, THIRD, [A, (50.0, 200.0)])
    assert finished(out, THIRD).exit_code == 0
    after = rows(out)
    assert {one: row for one, row in after.items() if one[1] == "mine"} == mine
    assert {one[0] for one in after if one[1] == str(source_id(6, 1))} == {1, 2, 3, 4, 5, 6}
    own = str(source_id(1))
    assert {one[0] for one in after if one[1] == own} == {5, 6}
    places = ForcedPlaces.of(PublishedExposures(out), 0.75, pytest.fail)
    near = places.near(CatalogStore(out).read_night(DIA_OBJECT, THIRD), -np.inf, np.inf)[source_id(1)]
    names = {one["visit"]: own if one["visit"] > 4 else "mine" for one in near}
    assert len(near) == len(names) == 6
    assert {one["visit"]: one["psfFlux"] for one in near} == {n: after[n, names[n]]["psfFlux"] for n in names}


def test_the_name_of_an_object_is_not_taken_for_another_target(out, tmp_path):
    ra, dec = at_pixel(20, 20)
    path = tmp_path / "targets.csv"
    path.write_text(f"name,ra,dec\n{source_id(1)},{ra},{dec}\n")
    known, _ = forced_targets(read_target_file(path))
    tuple(measure_night(out, known, forced_exposures(out), 3.0))
    before = rows(out)
    publish(out, 6, THIRD, [(50.0, 200.0)])
    summary = finished(out, THIRD)
    assert {one.code for one in summary.night_failed} == {"name_taken"}
    assert "exposure 1-3 of night 20260101" in summary.night_failed[0].message
    assert {one: row for one, row in rows(out).items() if one[0] < 6} == before
    assert Ledger(out).night(THIRD).forced == ""


def test_exposures_without_tiles_are_counted_and_are_no_failure(tmp_path):
    make(tmp_path, 1, 2)
    shutil.rmtree(tile_path(tmp_path, key(2, FIRST)))
    publish(tmp_path, 3)
    summary = finished(tmp_path, SECOND)
    assert (summary.exit_code, measured(tmp_path)[2], measured(tmp_path)[1]) == (0, {"A"}, {"A", "B"})
    assert summary.warnings == ("night 20260102: 1 exposure without tiles: objects are not measured there",)
    assert "forced" not in finished(tmp_path, SECOND).seconds


def test_damaged_tiles_are_a_trouble_of_the_night_and_the_rest_goes_on(tmp_path):
    make(tmp_path, 1, 2)
    tiles = tile_path(tmp_path, key(1, FIRST)) / "difference" / "zarr.json"
    content = tiles.read_bytes()
    tiles.unlink()
    publish(tmp_path, 3)
    summary = finished(tmp_path, SECOND)
    assert (summary.exit_code, [one.code for one in summary.night_failed]) == (1, ["damaged_tiles"])
    assert "forced photometry on exposure 1-3 of night 20260101" in summary.night_failed[0].message
    assert measured(tmp_path) == {1: {"A"}, 2: {"A", "B"}, 3: {"A", "B"}}
    tiles.write_bytes(content)
    assert finished(tmp_path, SECOND).exit_code == 0
    assert measured(tmp_path)[1] == {"A", "B"}


def test_what_was_published_and_not_recorded_is_recorded_by_the_next_run(out):
    ledger, lost = Ledger(out), key(1, FIRST)
    whole = ledger.get(lost)
    (again := out.parent / "again").mkdir()
    make(again, 1)
    former = Ledger(again).get(lost).datasets[FORCED_SOURCE.name]
    ledger.put(whole.model_copy(update={"datasets": {**whole.datasets, FORCED_SOURCE.name: former}}))
    ledger.put_night(ledger.night(SECOND).model_copy(update={"forced": ""}))
    assert [one.code for one in verify_output(out, declared_tables()).problems]
    before = rows(out)
    assert finished(out, SECOND).exit_code == 0
    assert (rows(out), verify_output(out, declared_tables()).problems) == (before, ())
    assert ledger.get(lost) == whole


def test_a_folder_that_may_not_be_written_ends_the_run(out, monkeypatch):
    written = CatalogStore.publish

    def refuse(store, dataset, *more):
        if dataset is FORCED_SOURCE:
            raise Misconfigured("not_writable", "out", "may not be written.", "let it.")
        return written(store, dataset, *more)

    publish(out, 6, THIRD, [(50.0, 200.0)])
    monkeypatch.setattr(CatalogStore, "publish", refuse)
    with pytest.raises(Misconfigured, match="may not be written"):
        finished(out, THIRD)


def test_without_an_association_it_is_said_that_nothing_is_measured(tmp_path):
    publish(tmp_path, 1)
    off = Settings(association=AssociationSettings(store="none"), forced=GIVEN.forced)
    summary = finished(tmp_path, FIRST, settings=off)
    assert summary.warnings == ("forced.history_days: nothing is measured, association.store is none",)
    assert summary.exit_code == 0


def test_what_was_interrupted_is_taken_up_by_the_next_run(tmp_path):
    """The process beside dies with the third exposure; what was measured by then is published."""
    make(tmp_path, 1, 2)
    for visit in (3, 4):
        publish(tmp_path, visit)
    seen = []

    def dying(function, *arguments):
        if isinstance(function, forced_history._OnExposure):
            seen.append(function.key)
            if len(seen) == 3:
                raise BrokenProcessPool("killed")
        return function(*arguments)

    summary = finished(tmp_path, SECOND, call=dying)
    assert (summary.exit_code, [one.code for one in summary.night_failed]) == (1, ["BrokenProcessPool"])
    assert len(seen) == 3
    assert measured(tmp_path).keys() == {1, 2}
    assert finished(tmp_path, SECOND).exit_code == 0
    assert measured(tmp_path) == {visit: {"A", "B"} for visit in (1, 2, 3, 4)}


@pytest.mark.slow
def test_workers_give_the_same_bytes(tmp_path, monkeypatch):
    given = GIVEN.model_copy(update={"execution": ExecutionSettings(workers=2)})
    other = tmp_path / "other"
    for folder, here in ((tmp_path / "out", 0), (other, 100)):
        monkeypatch.setattr(forced_history, "HERE", here)
        for visit in SEEN:
            publish(folder, visit)
        assert finished(folder, *NIGHTS, settings=given).exit_code == 0
    found = CatalogStore(other).list(FORCED_SOURCE)
    assert len(found) == len(SEEN)
    for path in found:
        assert (tmp_path / "out" / path.relative_to(other)).read_bytes() == path.read_bytes()


def test_catalogues_of_earlier_nights_that_were_joined_are_joined_again(tmp_path, monkeypatch):
    make(tmp_path, 1, 2)
    monkeypatch.setattr(joined_catalogues, "_in_a_process", lambda function, *given: function(*given))
    assert compact(tmp_path, FIRST, 2, lambda function, *given: function(*given)) > 0
    publish(tmp_path, 3)
    summary = finished(
        tmp_path, SECOND, settings=GIVEN.model_copy(update={"catalogs": CatalogSettings(compact_from=2)})
    )
    assert (summary.exit_code, summary.warnings) == (0, ())
    (part,) = CatalogStore(tmp_path).list(FORCED_SOURCE, FIRST)
    assert is_part(part.name)
    found = [(one["visit"], one["targetName"]) for one in pq.read_table(part).to_pylist()]
    assert found == [(visit, str(source_id(one))) for visit in (1, 2) for one in (1, 3)]
    places = ForcedPlaces.of(PublishedExposures(tmp_path), 0.75, pytest.fail)
    assert sorted(zip(places.rows["visit"], places.targets, strict=True)) == sorted(
        (visit, str(source_id(one))) for visit in (1, 2, 3) for one in (1, 3)
    )
    assert verify_output(tmp_path, declared_tables()).problems == ()


@pytest.mark.slow
def test_runs_measure_new_objects_on_the_night_before_as_the_command_does(nightstride_run, raw_night, tmp_path):
    given, out = {"NIGHTSTRIDE_FORCED__HISTORY_DAYS": "3"}, tmp_path / "out"
    second = later(raw_night, tmp_path / "second", 1)
    files = sorted(raw_night.glob("*scimrefdiffimg*"))
    runs = [nightstride_run.here(files[0], "--out", out, **given), nightstride_run.here(second, "--out", out, **given)]
    assert [run.code for run in runs] == [0, 0], runs[1].stderr
    assert runs[1].summary["seconds"]["forced"] > 0
    first, night = (run.summary["nights"][0] for run in runs)
    before = rows(out)
    earlier = {one.visit for one in Ledger(out).records(first)}
    began = {
        str(one)
        for one in CatalogStore(out).read_night(DIA_OBJECT, night)["diaObjectId"].to_pylist()
        if exposure_of(one)[0] not in earlier
    }
    found = {(visit, name) for visit, name in before if visit in earlier and name in began}
    assert found
    assert nightstride("forced", out, "--dia-objects", "--json").code == 0
    after = rows(out)
    assert after.keys() == before.keys()
    assert {one: after[one] for one in found} == {one: before[one] for one in found}
    again = nightstride_run.here(second, "--out", out, **given)
    assert (again.code, "forced" in again.summary["seconds"], rows(out) == after) == (0, False, True)
    assert nightstride("verify", out, "--json").code == 0


def test_a_ledger_that_does_not_answer_is_a_trouble_of_the_night(out, monkeypatch):
    def fails(*_):
        raise Retryable("slow_store", "ledger", "does not answer.", "run again.")

    monkeypatch.setattr(forced_history._Work, "_patches", fails)
    summary = finished(out, THIRD)
    assert (summary.exit_code, [one.code for one in summary.night_failed]) == (1, ["slow_store"])
