"""Association within an output folder: incremental, in both orders, with what fails; the catalogues and the command."""

import io
import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from flows.nights import association
from flows.nights.associate import associate_output
from flows.nights.association import associate
from flows.pipeline.graph import declared_tables
from flows.results.backup import backup_output, restore_output
from flows.results.explain import explain_detection
from flows.results.verify import verify_output
from flows.results.verify_association import with_store_checked
from flows.storage.association_store import AssociationStore, opened_association
from flows.storage.association_tables import FILE
from flows.storage.bucket_path import located
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger, unpublish
from kernels.sky.patches import pixels_at
from schemas.dia_object import DIA_OBJECT, DIA_OBJECT_SOURCE, DiaObjectFlag
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured, Retryable
from schemas.known_object import SS_SOURCE
from schemas.ledger import ExposureRecord
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.patch import COVER_ORDER
from schemas.settings import AssociationSettings, ExecutionSettings, Settings
from tests.support.association import detections, key
from tests.support.cli import nightstride
from tests.support.finished import finished
from tests.support.night import catalogues

SETTINGS = Settings()
ARCSEC = 1 / 3600
FIRST, SECOND, THIRD = "20260101", "20260102", "20260103"


def publish(out, visit, night, ra=(10.0, 10.1), dec=(0.0, 0.0), digest=None, status="done", **columns):
    """Put an exposure with its detections into an output folder, as its night's workers do."""
    store, table = CatalogStore(out), detections(visit, ra, dec, **columns)
    entry = store.record(store.publish(DIA_SOURCE, key(visit, night), table, digest or f"{visit}"))
    record = ExposureRecord(
        **key(visit, night).model_dump(), source_uri=str(visit), source_sha256="s", digest="d", status=status,
        datasets={"dia_source": entry} if status == "done" else {}, software="0", finished_at="now",
        sky=np.unique(pixels_at(np.asarray(ra), np.asarray(dec), COVER_ORDER)).tolist(),
    )  # fmt: skip
    Ledger(out).put(record)
    return record


def publish_known(out, record, identity):
    """Publish that a detection of an exposure is of a known object."""
    store, columns = CatalogStore(out), {}
    for field in SS_SOURCE.schema:
        value = "Ceres" if field.name == "designation" else identity
        columns[field.name] = pa.array([value]).cast(field.type)
    entry = store.record(store.publish(SS_SOURCE, record.key, pa.table(columns, schema=SS_SOURCE.schema), "orbits"))
    Ledger(out).put(record.model_copy(update={"datasets": {**record.datasets, "ss_source": entry}}))


def objects(out, night):
    return CatalogStore(out).read_night(DIA_OBJECT, night).to_pylist()


def links(out, night):
    rows = CatalogStore(out).read_night(DIA_OBJECT_SOURCE, night).to_pylist()
    return {row["diaSourceId"]: row["diaObjectId"] for row in rows}


def source_id(visit, rank=0):
    return (visit << 21) | (3 << 12) | rank


def test_a_detection_of_a_known_object_is_of_no_object_at_rest(tmp_path):
    record = publish(tmp_path, 1, FIRST)
    finished(tmp_path, FIRST)
    assert links(tmp_path, FIRST).keys() == {source_id(1, 0), source_id(1, 1)}
    publish_known(tmp_path, record, source_id(1, 1))
    finished(tmp_path, FIRST)
    assert links(tmp_path, FIRST).keys() == {source_id(1, 0)}


def test_two_nights_have_one_object_in_catalogues_that_the_ledger_knows(tmp_path):
    publish(tmp_path, 1, FIRST)
    publish(tmp_path, 2, SECOND, ra=(10.1, 10.2), dec=(0.1 * ARCSEC, 0.0), flux=3000.0)
    summary = finished(tmp_path, FIRST, SECOND)
    assert summary.exit_code == 0
    assert (summary.catalogues["dia_object"], summary.catalogues["dia_object_source"]) == (4, 4)
    assert "associate" in summary.seconds
    again = source_id(1, 1)
    assert links(tmp_path, SECOND) == {source_id(2, 0): again, source_id(2, 1): source_id(2, 1)}
    (row,) = [one for one in objects(tmp_path, SECOND) if one["diaObjectId"] == again]
    assert (row["nDiaSources"], row["firstDiaSourceMjdTai"], row["lastDiaSourceMjdTai"]) == (2, 61001, 61002)
    assert row["flags"] == DiaObjectFlag.STATIONARY
    assert (row["r_psfFluxNdata"], row["r_psfFluxMean"], row["r_psfFluxMin"], row["r_psfFluxMax"]) == (
        2,
        2000,
        1000,
        3000,
    )
    assert (row["g_psfFluxNdata"], row["g_psfFluxMean"]) == (0, None)
    assert row["dec"] == pytest.approx(0.05 * ARCSEC)
    assert {one["flags"] for one in objects(tmp_path, FIRST)} == {0}
    assert verify_output(tmp_path, declared_tables()).problems == ()


def test_a_second_run_does_nothing(tmp_path, monkeypatch):
    publish(tmp_path, 1, FIRST)
    finished(tmp_path, FIRST)
    before = (tmp_path / FILE).read_bytes()
    monkeypatch.setattr(CatalogStore, "publish", None)
    assert finished(tmp_path, FIRST).catalogues["dia_object"] == 2
    assert (tmp_path / FILE).read_bytes() == before


def test_a_night_that_is_caught_up_with_is_not_counted_as_one_of_the_run(tmp_path):
    publish(tmp_path, 1, FIRST)
    publish(tmp_path, 2, SECOND)
    assert finished(tmp_path, SECOND).catalogues["dia_object"] == 2
    assert len(objects(tmp_path, FIRST)) == len(objects(tmp_path, SECOND)) == 2


def test_an_earlier_night_that_comes_later_changes_no_id(tmp_path):
    publish(tmp_path, 5, SECOND)
    finished(tmp_path, SECOND)
    before = links(tmp_path, SECOND)
    publish(tmp_path, 1, FIRST)
    finished(tmp_path, FIRST)
    assert set(links(tmp_path, FIRST).values()) == set(before.values()) == {source_id(5, 0), source_id(5, 1)}
    assert [one["nDiaSources"] for one in objects(tmp_path, FIRST)] == [1, 1]
    finished(tmp_path, SECOND)  # its statistics have the earlier night now
    assert [one["nDiaSources"] for one in objects(tmp_path, SECOND)] == [2, 2]
    assert links(tmp_path, SECOND) == before


def test_only_what_is_new_or_has_changed_is_read(tmp_path, monkeypatch):
    publish(tmp_path, 1, FIRST)
    publish(tmp_path, 2, FIRST)
    associate(tmp_path, SETTINGS.association, [FIRST])
    read, seen = CatalogStore.read, []
    monkeypatch.setattr(CatalogStore, "read", lambda self, table, one: seen.append(one.visit) or read(self, table, one))
    publish(tmp_path, 2, FIRST, ra=(10.0,), dec=(0.0,), digest="another")
    publish(tmp_path, 3, FIRST)
    found = associate(tmp_path, SETTINGS.association, [FIRST])
    assert (seen, found.summary.exposures) == ([2, 3], 2)


def test_what_is_not_published_any_more_is_taken_out(tmp_path):
    publish(tmp_path, 1, FIRST)
    finished(tmp_path, FIRST)
    record = publish(tmp_path, 2, FIRST, ra=(10.0, 12.0))
    finished(tmp_path, FIRST)
    assert len(objects(tmp_path, FIRST)) == 3
    unpublish(record, tmp_path)
    finished(tmp_path, FIRST)
    assert sorted(links(tmp_path, FIRST)) == [source_id(1, 0), source_id(1, 1)]
    with opened_association(tmp_path, SETTINGS.association) as store:
        assert store.events() == [("removed", source_id(2, 1))]


def test_a_store_that_fails_fails_no_night_and_the_next_run_catches_up(tmp_path, monkeypatch):
    publish(tmp_path, 1, FIRST)
    finished(tmp_path, FIRST)
    down = AssociationSettings(store="postgresql+psycopg://nobody@127.0.0.1:9/none")
    down = Settings(association=down, execution=ExecutionSettings(retries=0))
    publish(tmp_path, 2, SECOND)
    kept = objects(tmp_path, FIRST)
    summary = finished(tmp_path, FIRST, SECOND, settings=down)
    assert (summary.exit_code, [one.code for one in summary.night_failed]) == (1, ["association_down"])
    assert objects(tmp_path, FIRST) == kept  # what is there stays
    assert verify_output(tmp_path, declared_tables()).problems == ()
    publish(tmp_path, 3, THIRD)
    assert finished(tmp_path, THIRD).exit_code == 0
    assert set(links(tmp_path, SECOND).values()) == {source_id(1, 0), source_id(1, 1)}


def test_a_store_that_is_restarted_goes_on_where_it_stopped(tmp_path, monkeypatch):
    publish(tmp_path, 1, FIRST)
    for visit in (2, 3):
        record = publish(tmp_path, visit, FIRST)
    publish_known(tmp_path, record, source_id(3, 1))
    CatalogStore(tmp_path).path(DIA_SOURCE, key(1, FIRST)).write_bytes(b"no Parquet")
    really, tried, waits = AssociationStore.associate, [], []
    monkeypatch.setattr(association, "sleep", waits.append)

    def shaky(store, exposure, *given):
        tried.append(exposure.visit)
        if len(tried) in (2, 3):
            raise Retryable("association_down", "a database", "does not answer.", "see to it.")
        return really(store, exposure, *given)

    monkeypatch.setattr(AssociationStore, "associate", shaky)
    found = associate(tmp_path, SETTINGS.association, [FIRST], retries=2).summary
    assert (tried, waits) == ([2, 3, 3, 3], [0.5, 1.0])
    assert (found.exposures, found.new, found.known, found.left_out, found.nights) == (2, 2, 1, 1, (FIRST,))
    assert [one.code for one in found.failed] == ["unreadable_catalogue"]  # told once, tried three times


def test_a_store_that_stays_down_is_told(tmp_path, monkeypatch):
    publish(tmp_path, 1, FIRST)
    waits = []
    monkeypatch.setattr(association, "sleep", waits.append)
    down = AssociationSettings(store="postgresql+psycopg://nobody@127.0.0.1:9/none")
    found = associate(tmp_path, down, [FIRST], retries=3).summary
    assert [one.code for one in found.failed] == ["association_down"]
    assert waits == [0.5, 1.0, 2.0]


def test_a_defect_is_told_and_nothing_else_is_lost(tmp_path, monkeypatch):
    publish(tmp_path, 1, FIRST)
    monkeypatch.setattr(association, "_cumulated", lambda digests: 1 / 0)
    assert [one.code for one in finished(tmp_path, FIRST).night_failed] == ["ZeroDivisionError"]


def test_an_unreadable_catalogue_is_told_and_the_others_go_on(tmp_path):
    path = CatalogStore(tmp_path).path(DIA_SOURCE, key(1, FIRST))
    publish(tmp_path, 1, FIRST)
    publish(tmp_path, 2, FIRST)
    content = path.read_bytes()
    path.write_bytes(b"no Parquet")
    found = associate(tmp_path, SETTINGS.association, [FIRST]).summary
    assert (found.exposures, [one.code for one in found.failed]) == (1, ["unreadable_catalogue"])
    publish(tmp_path, 3, SECOND)
    for _ in range(2):  # runs for another night, by which it was told before
        found = associate(tmp_path, SETTINGS.association, [SECOND]).summary
        assert (FIRST in found.nights, found.failed) == (True, ())
    for nights in ([FIRST], None):
        assert len(associate(tmp_path, SETTINGS.association, nights).summary.failed) == 1
    path.write_bytes(content)
    assert associate(tmp_path, SETTINGS.association, [SECOND]).summary.exposures == 1
    assert FIRST not in associate(tmp_path, SETTINGS.association, [SECOND]).summary.nights


def test_a_visit_of_two_nights_is_associated_in_the_first_and_told_of_the_other(tmp_path):
    publish(tmp_path, 1, FIRST)
    finished(tmp_path, FIRST)
    publish(tmp_path, 1, SECOND)
    for rebuild in (False, False, True):
        told = []
        found = associate(tmp_path, SETTINGS.association, None, rebuild=rebuild, tell=told.append).summary
        assert told == [f"Associated night {FIRST}: 1 exposure."] * rebuild
        assert (found.exposures, [one.code for one in found.failed]) == (int(rebuild), ["two_nights"])
        assert f"nights {FIRST} and {SECOND}" in found.failed[0].message
    verified = with_store_checked(
        tmp_path, SETTINGS.association, verify_output(tmp_path, declared_tables()), EVERY_NIGHT
    )
    assert verified.problems == ()
    unpublish(Ledger(tmp_path).get(key(1, FIRST)), tmp_path)  # by a corrected header it is of the second alone
    found = associate(tmp_path, SETTINGS.association, [SECOND]).summary
    assert (found.exposures, found.failed) == (1, ())


def test_it_can_be_switched_off_and_is_off_in_buckets(tmp_path):
    publish(tmp_path, 1, FIRST)
    none = Settings(association=AssociationSettings(store="none"))
    summary = finished(tmp_path, FIRST, settings=none)
    assert (summary.exit_code, (tmp_path / FILE).exists()) == (0, False)
    assert summary.not_run["gather_dia_objects"] == "association.store is none"
    assert associate(located("s3://bucket/out"), SETTINGS.association, [FIRST]).off.startswith("the output folder")


def test_many_nights_of_before_are_left_to_the_command(tmp_path, monkeypatch):
    for visit, night in enumerate((FIRST, SECOND, THIRD)):
        publish(tmp_path, visit, night)
    found = associate(tmp_path, SETTINGS.association, [THIRD], others=1)
    assert (found.summary.nights, found.left) == ((THIRD,), (FIRST, SECOND))
    assert associate(tmp_path, SETTINGS.association, [THIRD], others=2).summary.nights == (FIRST, SECOND)


def test_a_night_in_which_a_backfill_was_killed_has_the_bytes_of_an_undisturbed_one(tmp_path):
    """The second visit was published before the first; begun again, the backfill looks at the night before first."""
    places = {1: (10.0, 0.0), 2: (10.0, 0.1 * ARCSEC), 3: (10.0, 0.3 * ARCSEC), 4: (10.0, 0.6 * ARCSEC)}
    nights = {1: FIRST, 2: FIRST, 3: SECOND, 4: SECOND}

    def searched(out, *visits):
        for visit in visits:
            ra, dec = places[visit]
            publish(out, visit, nights[visit], (ra, 20.0), (dec, 0.0001 * visit))

    for out, before_the_kill, after in ((tmp_path / "killed", [4], [3]), (tmp_path / "undisturbed", [], [3, 4])):
        searched(out, 1, 2)
        finished(out, FIRST)
        searched(out, *before_the_kill)
        finished(out, FIRST)
        searched(out, *after)
        finished(out, SECOND)
    killed, undisturbed = (catalogues(tmp_path / name) for name in ("killed", "undisturbed"))
    assert killed == undisturbed
    assert len(objects(tmp_path / "killed", SECOND)) == 2


def test_the_command_catches_up_and_associates_again_in_order_of_time(tmp_path):
    publish(tmp_path, 5, SECOND)
    finished(tmp_path, SECOND)
    publish(tmp_path, 1, FIRST)
    finished(tmp_path, FIRST, settings=Settings(association=AssociationSettings(store="none")))
    done = nightstride("associate", tmp_path, "--night", FIRST, "--json")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["nights"], found["published"], found["known"], found["objects"]) == ([FIRST], [FIRST], 2, 2)
    assert set(links(tmp_path, FIRST).values()) == {source_id(5, 0), source_id(5, 1)}
    (tmp_path / FILE).write_bytes(b"no database")
    assert nightstride("associate", tmp_path).code == 1
    done = nightstride("associate", tmp_path, "--rebuild")
    assert done.code == 0, done.stderr
    assert "2 exposures associated: 2 detections of known objects, 2 of new ones" in done.stdout
    assert set(links(tmp_path, SECOND).values()) == {source_id(1, 0), source_id(1, 1)}
    assert verify_output(tmp_path, declared_tables()).problems == ()


def test_the_command_refuses_what_it_cannot_do(tmp_path):
    assert nightstride("associate", tmp_path).code == 2
    publish(tmp_path, 1, FIRST)
    assert "holds nothing of night 20300101" in nightstride("associate", tmp_path, "--night", "20300101").stderr
    assert nightstride("associate", tmp_path, "--night", FIRST, "--rebuild").code == 2
    off = nightstride("associate", tmp_path, NIGHTSTRIDE_ASSOCIATION__STORE="none")
    assert (off.code, "association.store is none" in off.stderr) == (2, True)


def test_a_detection_and_its_object_are_explained_over_nights(tmp_path):
    publish(tmp_path, 1, FIRST)
    publish(tmp_path, 2, SECOND)
    finished(tmp_path, FIRST, SECOND)
    found = explain_detection(tmp_path, source_id(2, 1), SETTINGS.association)
    assert found.detection["diaSourceId"] == source_id(2, 1)
    assert (found.history.diaObjectId, found.history.nights) == (source_id(1, 1), [FIRST, SECOND])
    assert found.values()["history"]["detections"][1]["diaSourceId"] == source_id(2, 1)
    publish(tmp_path, 1, FIRST, ra=(50.0,), dec=(0.0,), digest="another")
    finished(tmp_path, FIRST)  # the detection that began the object is gone, and the object is still there
    assert explain_detection(tmp_path, source_id(1, 1), SETTINGS.association).detection["diaSourceId"] == source_id(
        2, 1
    )
    text = nightstride("explain", tmp_path, source_id(2, 1)).stdout
    assert f"diaObjectId {source_id(1, 1)}, 1 detection in 1 night" in text
    assert f"seen {source_id(2, 1)}" in text
    publish(tmp_path, 3, THIRD, ra=(10.1, 10.1), dec=(0.0, 0.5 * ARCSEC))
    finished(tmp_path, THIRD)
    text = nightstride("explain", tmp_path, source_id(3, 1)).stdout
    assert re.search(rf"^beside +{source_id(1, 1)}: so near that both may be one object$", text, re.MULTILINE)
    found = explain_detection(tmp_path, source_id(2, 1), SETTINGS.association)
    assert found.values()["history"]["beside"] == [source_id(3, 1)]


def test_a_backup_holds_the_objects(tmp_path):
    publish(tmp_path / "out", 1, FIRST)
    finished(tmp_path / "out", FIRST)
    backup_output(tmp_path / "out", tmp_path / "to")
    publish(tmp_path / "out", 2, SECOND)
    finished(tmp_path / "out", SECOND)
    expected = links(tmp_path / "out", SECOND)
    backup_output(tmp_path / "out", tmp_path / "to")
    assert backup_output(tmp_path / "out", tmp_path / "to").files == 0
    shutil.rmtree(tmp_path / "out")
    _, verified = restore_output(tmp_path / "to", tmp_path / "new", declared_tables())
    assert verified.problems == ()
    publish(tmp_path / "new", 3, THIRD)
    finished(tmp_path / "new", THIRD)
    assert set(links(tmp_path / "new", THIRD).values()) == set(expected.values())


def test_a_night_of_many_visits_has_as_many_objects_as_there_are(tmp_path):
    rng = np.random.default_rng(4)
    ra, dec = 10 + rng.uniform(0, 0.3, 80), rng.uniform(-0.1, 0.1, 80)
    for visit in range(8):
        seen = rng.random(80) < 0.7
        noise = rng.normal(0, 0.1 * ARCSEC, (2, seen.sum()))
        publish(tmp_path, visit, FIRST, ra=ra[seen] + noise[0], dec=dec[seen] + noise[1])
    finished(tmp_path, FIRST)
    assert len(objects(tmp_path, FIRST)) == 80


def test_the_command_refuses_a_night_that_is_not_there_and_a_folder_without_association(tmp_path):
    publish(tmp_path, 1, FIRST)
    with pytest.raises(Misconfigured, match=rf"holds nothing of night 20250101.*{FIRST}") as caught:
        associate_output(tmp_path, Settings(), NightRange.of("20250101"), False, print)
    assert caught.value.code == "no_night"
    without = Settings(association=AssociationSettings(store="none"))
    with pytest.raises(Misconfigured, match=r"association\.store is none") as caught:
        associate_output(tmp_path, without, EVERY_NIGHT, False, print)
    assert caught.value.code == "no_association"


def test_a_visit_alone_is_associated_without_a_look_at_the_rest_of_its_night(tmp_path, monkeypatch):
    for visit in (1, 2, 3):
        publish(tmp_path, visit, FIRST)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "records", lambda *_: pytest.fail("the whole night was read"))
        patch.setattr(AssociationStore, "counts", lambda *_: pytest.fail("all was counted"))
        found = associate(tmp_path, SETTINGS.association, {FIRST}, visit=2).summary
        assert (found.exposures, found.new, found.failed) == (1, 2, ())
        assert associate(tmp_path, SETTINGS.association, {FIRST}, visit=2).summary.exposures == 0
        publish(tmp_path, 2, FIRST, ra=(10.0,), dec=(0.0,), digest="again")
        assert associate(tmp_path, SETTINGS.association, {FIRST}, visit=2).summary.known == 1
        unpublish(Ledger(tmp_path).get(key(2, FIRST)), tmp_path)
        assert associate(tmp_path, SETTINGS.association, {FIRST}, visit=2).summary.withdrawn == 1
        assert associate(tmp_path, SETTINGS.association, {FIRST}, visit=9).summary.exposures == 0
    whole = associate(tmp_path, SETTINGS.association, {FIRST}).summary
    assert (whole.exposures, whole.nights) == (2, (FIRST,))
    assert verify_output(tmp_path, declared_tables()).problems == ()


def test_visits_one_by_one_give_the_catalogues_of_a_whole_night(tmp_path):
    rng = np.random.default_rng(6)
    places = [(10 + rng.uniform(0, 0.01, 30), rng.uniform(0, 0.01, 30)) for _ in range(5)]
    for name in ("one by one", "at once"):
        for visit, (ra, dec) in enumerate(places):
            publish(tmp_path / name, visit, FIRST, ra, dec)
            if name == "one by one":
                associate(tmp_path / name, SETTINGS.association, {FIRST}, others=0, visit=visit)
        assert finished(tmp_path / name, FIRST).night_failed == ()
    assert objects(tmp_path / "one by one", FIRST) == objects(tmp_path / "at once", FIRST)
    assert links(tmp_path / "one by one", FIRST) == links(tmp_path / "at once", FIRST)


def test_other_settings_than_those_that_objects_were_matched_with_are_told(tmp_path):
    def run(night, text=None, **association):
        given, said = Settings(association=AssociationSettings(**association)), io.StringIO()
        summary = finished(tmp_path, night, settings=given, console=Console(file=said))
        assert summary.exit_code == 0
        assert summary.warnings == (() if text is None else (text,))
        return said.getvalue().count("warning: association.")

    publish(tmp_path, 1, FIRST)
    assert run(FIRST) == 0
    assert run(FIRST, max_arcsec=2.0, min_arcsec=1.0) == 0  # nothing is matched with them
    publish(tmp_path, 2, SECOND)
    told = (
        "association.max_arcsec was 1.5, and is 2 since night 20260102 was associated: objects of before were matched "
        "by other rules. To match all by the same ones, in the order of time: `nightstride associate OUT --rebuild`"
    )
    assert run(SECOND, told, max_arcsec=2.0) == 1
    assert run(SECOND, told, max_arcsec=2.0) == 0  # in the summary of the night, and not again as news
    publish(tmp_path, 3, THIRD)
    assert run(THIRD, max_arcsec=2.0) == 0
    assert f"warning: {told}" in nightstride("associate", tmp_path, "--night", SECOND).stderr
    seen = nightstride("verify", tmp_path, "--json")
    assert (seen.code, seen.summary["problems"], seen.summary["notes"]) == (0, [], [told])
    assert f"note: {told}." in nightstride("verify", tmp_path).stdout
    done = nightstride("associate", tmp_path, "--rebuild", "--json", NIGHTSTRIDE_ASSOCIATION__MAX_ARCSEC="2")
    assert (done.code, done.summary["warnings"]) == (0, [])
    assert nightstride("verify", tmp_path, "--json").summary["notes"] == []
    assert run(SECOND, max_arcsec=2.0) == 0
