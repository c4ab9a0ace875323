"""Stores of version 1 on both databases: converted with all rows, or left as they were."""

import threading

import numpy as np
import pytest
import sqlalchemy as sa

from flows.storage import association_database, association_links, association_versions
from flows.storage.association_store import association_as_it_is, opened_association
from flows.storage.association_tables import (
    EVENT,
    MATCHING,
    OBJECT,
    REFUSAL,
    SEEN,
    SETTING,
    STATIC,
    STATIC_EVENT,
    STATIC_NIGHT,
    TABLES,
)
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.settings import AssociationSettings
from tests.support.association import ARCSEC, SETTINGS, detections, follow, key, links, put, source_id
from tests.support.static import see

FIRST = """
CREATE TABLE dia_object (
    "diaObjectId" BIGINT NOT NULL PRIMARY KEY, cell BIGINT NOT NULL, ra DOUBLE PRECISION NOT NULL,
    dec DOUBLE PRECISION NOT NULL, x DOUBLE PRECISION NOT NULL, y DOUBLE PRECISION NOT NULL,
    z DOUBLE PRECISION NOT NULL, weight DOUBLE PRECISION NOT NULL, "nDiaSources" INTEGER NOT NULL,
    "firstDiaSourceMjdTai" DOUBLE PRECISION NOT NULL, "lastDiaSourceMjdTai" DOUBLE PRECISION NOT NULL,
    "createdBy" BIGINT NOT NULL
)
"""
"""Objects as version 1 had them; its other tables are those of version 2, without the refusals at first."""

DAYS = np.arange(0, 400, 20)


def contents(store):
    """Rows of all tables but that of the settings by their keys, as column -> value."""
    with store._engine.connect() as connection:
        return {
            table.name: [
                dict(row._mapping) for row in connection.execute(sa.select(table).order_by(*table.primary_key))
            ]
            for table in TABLES.sorted_tables
            if table is not SETTING  # which earlier ones had not
        }


def make_third(store):
    """Make a store what version 3 would have made it."""
    with store._engine.begin() as connection:
        TABLES.drop_all(connection, (STATIC, SEEN, STATIC_NIGHT, STATIC_EVENT, SETTING))
        connection.execute(sa.text("UPDATE association_meta SET version = 3"))


def make_second(store):
    """Make a store what version 2 would have made it."""
    make_third(store)
    with store._engine.begin() as connection:
        for index in EVENT.indexes:
            index.drop(connection)
        connection.execute(sa.text('ALTER TABLE event DROP COLUMN "otherId"'))
        connection.execute(sa.text("UPDATE association_meta SET version = 2"))


def make_first(store):
    """Make a store what version 1 would have made it."""
    make_second(store)
    with store._engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE dia_object RENAME TO later"))
        for index in OBJECT.indexes:
            index.drop(connection)
        connection.execute(sa.text(FIRST))
        names = [f'"{one["name"]}"' for one in sa.inspect(connection).get_columns("dia_object")]
        columns = ", ".join(names)
        connection.execute(sa.text(f"INSERT INTO dia_object ({columns}) SELECT {columns} FROM later"))
        connection.execute(sa.text("CREATE INDEX ix_dia_object_cell ON dia_object (cell)"))
        for table in ("later", "refusal"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
        connection.execute(sa.text("UPDATE association_meta SET version = 1"))


@pytest.fixture
def filled(store):
    """A store of a star that moves, one that does not, and an object that has lost its detection."""
    follow(store, DAYS, 3.0)
    put(store, 700, [50.0], [0.0], mjd=61200)
    put(store, 700, [60.0], [0.0], mjd=61200, digest="e")
    return store


def same(found, expected):
    assert {name: len(rows) for name, rows in found.items()} == {name: len(rows) for name, rows in expected.items()}
    for name, rows in expected.items():
        for ours, theirs in zip(found[name], rows, strict=True):
            assert ours == {
                column: value if not isinstance(value, float) else pytest.approx(value, rel=1e-12, abs=1e-12)
                for column, value in theirs.items()
            }


def test_a_store_of_version_1_is_converted_with_all_rows(tmp_path, given_settings, filled):
    expected = contents(filled)
    assert [row["nDiaSources"] for row in expected["dia_object"]] == [20, 20, 0, 1]
    make_first(filled)
    with opened_association(tmp_path, given_settings) as store:
        same(contents(store), expected)
        assert store.events()[-1] == ("removed", source_id(700))
        put(store, 800, [10.0, 50.0], [3.0 * ARCSEC * 500 / 365.25, 0.0], mjd=61500, night="20270501")
        assert store.of_object(source_id(800, 0))[0] == source_id(0)  # followed
        assert store.of_object(source_id(800, 1))[0] == source_id(700)  # brought back
    with opened_association(tmp_path, given_settings) as store:
        assert contents(store)["association_meta"] == [{"version": 4}]


def test_refusals_of_later_stores_of_version_1_are_kept(tmp_path, given_settings, filled):
    make_first(filled)
    refusal = {"visit": 5, "detector": 3, "digest": "d", "code": "c", "where": "w", "problem": "p", "remedy": "r"}
    with filled._engine.begin() as connection:
        REFUSAL.create(connection)
        connection.execute(REFUSAL.insert().values(refusal))
    with opened_association(tmp_path, given_settings) as store:
        assert contents(store)["refusal"] == [refusal]


def test_a_store_of_version_2_is_converted_with_all_rows(tmp_path, given_settings, filled):
    expected = contents(filled)
    make_second(filled)
    with opened_association(tmp_path, given_settings) as store:
        same(contents(store), expected)
        assert {one["name"] for one in sa.inspect(store._engine).get_indexes("event")} == {
            one.name for one in EVENT.indexes
        }
        put(store, 800, [70.0, 70.0], [0.0, 0.5 * ARCSEC], mjd=61500, night="20270501")
        assert store.beside(source_id(800, 0)) == [source_id(800, 1)]


def test_a_store_of_version_3_is_converted_and_its_nights_are_looked_at_again(tmp_path, given_settings, filled):
    filled.settle("20260101", "stamp")
    expected = contents(filled)
    make_third(filled)
    with opened_association(tmp_path, given_settings) as store:
        assert contents(store)["association_meta"] == [{"version": 4}]
        assert {night: stamp for night, (stamp, _) in store.nights().items()} == {"20260101": ""}
        same({**contents(store), "night": []}, {**expected, "night": []})
        assert see(store, "20260101", [10.0], [0.0]) == (0, 1)


def test_a_conversion_that_fails_leaves_the_store_as_it_was(tmp_path, given_settings, filled, monkeypatch):
    make_first(filled)

    def state():
        with filled._engine.connect() as connection:
            inspector = sa.inspect(connection)
            columns = {
                name: [one["name"] for one in inspector.get_columns(name)] for name in inspector.get_table_names()
            }
            return columns, connection.execute(sa.text("SELECT * FROM dia_object ORDER BY 1")).all()

    before = state()
    monkeypatch.setattr(association_versions, "recount", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), opened_association(tmp_path, given_settings):
        pass
    assert state() == before
    monkeypatch.undo()
    with opened_association(tmp_path, given_settings) as store:
        assert store.counts() == (3, 41)


def test_two_that_open_a_store_at_once_convert_it_once(tmp_path, given_settings, filled):
    expected = contents(filled)
    make_first(filled)
    errors = []

    def opened():
        try:
            with opened_association(tmp_path, given_settings):
                pass
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=opened) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    same(contents(filled), expected)


def test_settings_that_objects_are_matched_with_are_noted_and_each_change_of_them(tmp_path, given_settings, filled):
    wide = given_settings.model_copy(update={"max_arcsec": 2.0, "each_visit": True})
    with filled._engine.begin() as connection:
        SETTING.drop(connection)  # as stores were that noted nothing
    with opened_association(tmp_path, given_settings) as store:
        assert store.setting_changes() == store.changed == []
        put(store, 800, [10.0], [0.0], night="20270501")
        assert store.setting_changes() == store.changed == []
        noted = store.rows(sa.select(SETTING))
        assert {one.name: one.value for one in noted} == {name: getattr(SETTINGS, name) for name in MATCHING}
    change = ("max_arcsec", 1.5, 2.0, "20270502")
    with opened_association(tmp_path, wide) as store:
        with pytest.raises(ZeroDivisionError), store.matching(wide, "20270502"):
            raise ZeroDivisionError
        assert store.setting_changes() == store.changed == []  # nothing was matched
        for visit in (801, 802):
            found = detections(visit, [10.0], [0.0])
            store.associate(key(visit, "20270502"), "d", found, wide)
        assert store.setting_changes() == store.changed == [change]
    with opened_association(tmp_path, given_settings) as store:
        assert see(store, "20270503", [10.0], [0.0]) == (0, 1)
        assert store.changed == [("max_arcsec", 2.0, 1.5, "20270503")]
        assert store.setting_changes() == [change, *store.changed]
    with opened_association(tmp_path, wide, rebuild=True) as store:
        put(store, 800, [10.0], [0.0])
        assert store.setting_changes() == store.changed == []


@pytest.mark.parametrize(
    ("kind", "state", "code", "error"),
    [
        ("SQLITE_CORRUPT_INDEX", None, "damaged_association", Misconfigured),
        ("SQLITE_NOTADB", None, "damaged_association", Misconfigured),
        ("SQLITE_READONLY_DIRECTORY", None, "not_writable", Misconfigured),
        ("SQLITE_CANTOPEN", None, "not_writable", Misconfigured),
        ("SQLITE_BUSY", None, "lock_held", Retryable), ("SQLITE_LOCKED_SHAREDCACHE", None, "lock_held", Retryable),
        (None, "55P03", "lock_held", Retryable), (None, "57P01", "association_down", Retryable),
        ("SQLITE_FULL", None, "association_down", Retryable), (None, None, "association_down", Retryable),
    ],
)  # fmt: skip
def test_each_failure_of_a_database_has_its_code(tmp_path, kind, state, code, error):
    raised = Exception("why")
    raised.__dict__.update({"sqlite_errorname": kind} if kind else {}, **({"sqlstate": state} if state else {}))
    for path in (None, tmp_path / "association.sqlite"):
        found = association_database._translated("the store", path, raised)
        assert (type(found), found.code, found.where) == (error, code, "the store")
        assert ("why" in found.problem) == (code != "lock_held")


def test_where_nothing_is_associated_no_store_is_opened(tmp_path):
    off = AssociationSettings(store="none")
    with pytest.raises(Misconfigured, match=r"association\.store is none") as caught, opened_association(tmp_path, off):
        pass
    assert caught.value.code == "no_association"
    for settings in (off, AssociationSettings()):
        with association_as_it_is(tmp_path, settings) as store:
            assert store is None
    assert list(tmp_path.iterdir()) == []


def test_an_exposure_that_was_searched_again_too_often_is_refused_and_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(association_links, "source_ids", lambda key: (source_id(key.visit), source_id(key.visit, 2)))
    with opened_association(tmp_path, AssociationSettings()) as store:
        for n, ra in enumerate((10.0, 12.0, 14.0)):  # each time elsewhere, by the same diaSourceId
            put(store, 1, [ra], [0.0], digest=f"d{n}")
            put(store, 2 + n, [ra], [0.0])
        before = links(store)
        assert sorted({before[source_id(n)] for n in (2, 3, 4)}) == [source_id(1, rank) for rank in (0, 1, 2)]
        with pytest.raises(BadInput, match="no id is left") as caught:
            put(store, 1, [16.0], [0.0], digest="e")
        assert (caught.value.code, links(store)) == ("no_id_left", before)
