"""The store of the association, damaged in known ways, beside a night that is whole."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from flows.nights.association import associate
from flows.results.verify import Verification
from flows.results.verify_association import _differences, _forced_names, with_store_checked
from flows.storage.association_store import association_as_it_is, object_of, opened_association
from flows.storage.association_tables import FILE
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.forced import FORCED_SOURCE
from schemas.night_range import NightRange
from schemas.settings import AssociationSettings
from tests.flows.publish.test_history import forced_rows
from tests.support.alert_night import NIGHT, info_of, make_night, places, put, rows_of, visit_of
from tests.support.cli import nightstride
from tests.support.forced import record_of

SETTINGS = AssociationSettings()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_night(tmp_path_factory.mktemp("whole") / "out", visits=3, count=5)


@pytest.fixture
def out(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


def change(out, statement, *values):
    with closing(sqlite3.connect(out / FILE)) as connection, connection:
        connection.execute(statement, values)


def problems(out, *more):
    before = (out / FILE).read_bytes() if (out / FILE).exists() else None
    done = nightstride("verify", out, *more, "--json")
    assert before is None or (out / FILE).read_bytes() == before
    assert done.code == int(bool(done.summary["problems"]))
    return [one for one in done.summary["problems"] if FILE in one["where"]]


def test_what_is_whole_has_no_problem(out):
    assert problems(out) == []
    assert nightstride("verify", out, "--night", NIGHT).code == 0


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "UPDATE dia_object SET nDiaSources = 7 WHERE diaObjectId % 4096 = 1",
            "1 objects do not have as many detections",
        ),
        ("DELETE FROM dia_object WHERE diaObjectId % 4096 = 1", "3 detections are of no object"),
        ("DELETE FROM dia_source", "5 objects do not have as many detections"),
    ],
)
def test_tables_that_contradict_each_other_are_told(out, statement, says):
    change(out, statement)
    (found,) = problems(out)
    assert (found["code"], says in found["problem"]) == ("damaged_association", True)
    assert "--rebuild" in found["remedy"]
    assert problems(out, "--night", NIGHT) == []  # the tables by themselves are of no night


def test_an_exposure_that_the_store_lacks_or_has_too_many_is_told_and_made_again(out):
    change(out, "DELETE FROM visit WHERE visit = ?", visit_of(1))
    change(out, "UPDATE visit SET digest = 'another' WHERE visit = ?", visit_of(2))
    change(out, "INSERT INTO visit VALUES (999, 0, ?, 'd', 'now')", NIGHT)
    missing, gone = problems(out, "--night", NIGHT)
    assert "2 exposures of night 20260101 are published and not associated: 101-0" in missing["problem"]
    assert "1 exposures of night 20260101 are associated and not published: 999-0" in gone["problem"]
    assert {one["code"] for one in (missing, gone)} == {"not_as_recorded"}
    assert not associate(out, SETTINGS, None, rebuild=True).summary.failed
    assert problems(out) == []


def test_other_settings_are_noted_of_their_night(tmp_path):
    for night, sigmas in ((NIGHT, 4.0), ("20260103", 5.0)):
        given = SETTINGS.model_copy(update={"sigmas": sigmas})
        with opened_association(tmp_path, SETTINGS) as store, store.matching(given, night):
            pass
    none = Verification(0, 0, 0, 0, 0, None, ())
    found = [with_store_checked(tmp_path, SETTINGS, none, NightRange.of(one)).notes for one in (NIGHT, "20260103")]
    assert [len(one) for one in found] == [0, 1]
    assert found[1][0].startswith("association.sigmas was 4, and is 5 since night 20260103")


def test_what_has_changed_since_waits_for_the_next_run(out):
    Ledger(out).put(record_of(info_of(9)))
    change(out, "DELETE FROM visit WHERE visit = ?", visit_of(1))
    assert problems(out) == []


def test_a_damaged_file_or_one_of_a_later_version_is_told(out):
    change(out, "UPDATE association_meta SET version = 99")
    assert [one["code"] for one in problems(out)] == ["other_version"]
    content = bytearray((out / FILE).read_bytes())
    content[: 1 << 12] = b"x" * (1 << 12)
    (out / FILE).write_bytes(content)
    assert [one["code"] for one in problems(out)] == ["damaged_association"]


def test_one_of_an_earlier_version_or_none_is_left_alone(out):
    change(out, "UPDATE association_meta SET version = 1")
    assert problems(out) == []
    assert object_of(out, 5, SETTINGS) is None
    for left in (True, False):
        with association_as_it_is(out, SETTINGS) as store:
            assert store is None
        (out / FILE).unlink(missing_ok=not left)
    assert problems(out) == []
    assert not (out / FILE).exists()


def test_a_night_that_was_pruned_stays_in_the_history_of_its_objects(out):
    """Objects keep ids and statistics when the catalogues of a night have gone, and the store is whole."""
    x, y = places(5, (280, 300))
    later = info_of(40, night="20260105")
    put(out, later, rows_of(later, x, y))
    assert associate(out, SETTINGS, None).summary.known == 5
    pruned = nightstride("prune", out, "--keep", "1", "--irreplaceable", "--yes-really")
    assert pruned.code == 0, pruned.stderr
    assert Ledger(out).nights() == ["20260105"]
    assert problems(out) == []
    again = associate(out, SETTINGS, None).summary
    assert (again.failed, again.withdrawn) == ((), 0)
    with association_as_it_is(out, SETTINGS) as store:
        history = store.of_exposure(later)
    assert len(history) == 4 * 5
    assert set(history["night"].to_pylist()) == {NIGHT, "20260105"}


def test_exposures_that_have_no_detections_to_associate_are_not_missing(out):
    ledger = Ledger(out)
    ledger.put(record_of(info_of(7), status="quarantined", reason="flood: too many"))
    ledger.put(record_of(info_of(8)))  # searched for something else: it has no catalogue of detections
    with association_as_it_is(out, SETTINGS) as store:
        assert _differences(ledger, store, NIGHT) == ([], [])
        ledger.remove(info_of(1))
        assert _differences(ledger, store, NIGHT) == ([], [info_of(1).name])


def test_names_of_forced_photometry_that_may_be_ids_are_counted(out):
    ledger, names = Ledger(out), ["m31", "12", "12", "012", "0", "-5", str(2**63 - 1), str(2**63), "9" * 20]
    assert _forced_names(out, ledger, NIGHT) == {}
    for n in (0, 1, 2):
        rows = forced_rows(info_of(n), names, [150.0] * 9, [20.0] * 9, [0.0] * 9)
        path = CatalogStore(out).publish(FORCED_SOURCE, info_of(n), rows, "d")
        record = ledger.get(info_of(n))
        entry = CatalogStore(out).record(path)
        ledger.put(record.model_copy(update={"datasets": record.datasets | {FORCED_SOURCE.name: entry}}))
    path.write_bytes(b"damaged")  # which is told of the file
    assert _forced_names(out, ledger, NIGHT) == {12: 4, 2**63 - 1: 2}
    ledger.put(record)  # which does not name that of exposure 2 any more
    path.unlink()
    put(out, info_of(3), rows_of(info_of(3), *places(5, (280, 300))))
    CatalogStore(out).publish(FORCED_SOURCE, info_of(3), forced_rows(info_of(3), ["13"], [1.0], [1.0], [0.0]), "d")
    assert _forced_names(out, ledger, NIGHT) == {12: 4, 2**63 - 1: 2}
