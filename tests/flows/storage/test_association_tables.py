"""Tables of the store of the association, and objects by their rows; the store itself: test_association_store.py."""

import re

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from flows.storage import association_tables
from flows.storage.association_tables import (
    MATCHING,
    OBJECT,
    SETTING,
    STATE,
    STATIC_NIGHT,
    SUMS,
    TABLES,
    VERSION,
    PlacedObjects,
    SettingChange,
    note_settings,
    objects_near,
    selected,
    update_objects,
)
from kernels.linking.association import cells_of, wide_cells_of
from kernels.linking.proper_motion import ORIGIN, motion_sums
from kernels.sky.positions import unit_vectors

OF_VERSION_4 = """
association_meta: version*
association_setting: setting* name value before? night at
dia_object: diaObjectId* cell ra dec x y z weight tx ty tz t tt nDiaSources nights movingCell? firstDiaSourceMjdTai
    lastDiaSourceMjdTai createdBy; by cell, by movingCell
dia_source: diaSourceId* diaObjectId night x y z weight separation midpointMjdTai band psfFlux? psfFluxErr?;
    by diaObjectId, by night
event: event* kind diaObjectId otherId? visit detector at; by diaObjectId, by otherId
night: night* stamp digest
refusal: visit* detector* digest code where problem remedy
static_event: event* kind staticObjectId otherId? night at; by otherId, by staticObjectId
static_night: night* madeFrom digest
static_object: staticObjectId* cell x y z weight tx ty tz t tt nNights movingCell? firstMjd lastMjd;
    by cell, by movingCell
static_seen: staticObjectId* night* objectId mjd x y z weight u_psfFlux? u_psfFluxErr? g_psfFlux? g_psfFluxErr?
    r_psfFlux? r_psfFluxErr? i_psfFlux? i_psfFluxErr? z_psfFlux? z_psfFluxErr? y_psfFlux? y_psfFluxErr?;
    by night objectId; without rowid
visit: visit* detector* night digest associatedAt; by night
"""
"""Columns (*: of the primary key, ?: may be null) and indices, of stores that are on disks."""


@pytest.fixture
def connection():
    engine = sa.create_engine("sqlite://")
    with engine.connect() as found:
        TABLES.create_all(found)
        yield found
    engine.dispose()


def told(connection, table):
    """A table, as SQLite itself tells it."""
    columns = connection.execute(sa.text(f"PRAGMA table_info({table})")).all()
    parts = [" ".join(f"{one.name}{'*' if one.pk else '' if one.notnull else '?'}" for one in columns)]
    indices = [one.name for one in connection.execute(sa.text(f"PRAGMA index_list({table})")) if one.origin == "c"]
    fields = [connection.execute(sa.text(f'PRAGMA index_info("{one}")')).all() for one in indices]
    parts.append(", ".join(sorted(f"by {' '.join(one.name for one in field)}" for field in fields)))
    text = connection.execute(sa.text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": table}).scalar()
    parts.append("without rowid" if "WITHOUT ROWID" in text else "")
    return f"{table}: {'; '.join(filter(None, parts))}"


def test_tables_of_version_4_are_those_that_stores_have(connection):
    """What differs needs another version, and a conversion of the stores that there are."""
    assert VERSION == 4
    expected = re.sub(r"\n +", " ", OF_VERSION_4).strip().splitlines()
    assert [told(connection, table) for table in sorted(TABLES.tables)] == expected


def test_only_events_and_settings_are_numbered_by_the_database():
    dialect = postgresql.dialect()
    serial = {name for name, one in TABLES.tables.items() if "SERIAL" in str(CreateTable(one).compile(dialect=dialect))}
    assert serial == {"association_meta", "association_setting", "event", "static_event"}


def rows_of(places):
    """Rows of `STATE`: objects with lists of (ra, dec, weight, mjd, night)."""
    rows = []
    for number, seen in places.items():
        ra, dec, weight, mjd, night = (np.array(one) for one in zip(*seen, strict=True))
        sums = motion_sums(unit_vectors(ra, dec), weight, mjd).sum(axis=0)
        rows.append((number, *sums, len(seen), len(set(night)), mjd.min(), mjd.max()))
    return rows


SEEN = {
    (1 << 60) + 1: [(10.0, 20.0, 4.0, 61000.1, "a"), (10.0, 20.0, 4.0, 61000.2, "a")],
    7: [(200.0, -45.0, 1.0, 61003.0, "b")],
}


def test_objects_are_read_from_rows_and_written_as_such():
    found = PlacedObjects.read(rows_of(SEEN))
    assert found.ids.tolist() == list(SEEN)
    assert (found.number.tolist(), found.nights.tolist()) == ([2, 1], [1, 1])
    values = found.values()
    np.testing.assert_allclose([[one["ra"], one["dec"]] for one in values], [[10, 20], [200, -45]], atol=1e-9)
    assert [one["cell"] for one in values] == cells_of(np.array([10.0, 200]), np.array([20.0, -45])).tolist()
    assert [one["movingCell"] for one in values] == [None, None]
    assert [tuple(one[name] for name in STATE) for one in values] == [pytest.approx(row) for row in rows_of(SEEN)]
    assert PlacedObjects.read([]).values() == []
    assert PlacedObjects.read([]).sums.shape == (0, len(SUMS))


def mover(ra, dec):
    """10 arcsec a year over three, from a place."""
    return [(ra, dec + n / 3600, 1e4, ORIGIN + 36.5 * n, str(n)) for n in range(30)]


def test_what_moves_has_a_wide_cell():
    still = [(30.0, 20.0, 1e4, ORIGIN + 36.5 * n, str(n)) for n in range(30)]
    found = PlacedObjects.read(rows_of({1: mover(10.0, 20.0), 2: still, 3: mover(45.0, 0.02)}))
    assert found.motions()[1].tolist() == [True, False, True]
    moving, resting, first = found.values()
    assert moving["movingCell"] == wide_cells_of(np.array([moving["ra"]]), np.array([moving["dec"]]))[0]
    assert (resting["movingCell"], first["movingCell"]) == (None, 0)


def kept(connection, places):
    """Keep objects in their table."""
    values = PlacedObjects.read(rows_of(places)).values()
    connection.execute(OBJECT.insert(), [one | {"createdBy": 1} for one in values])


def test_objects_near_are_those_of_the_cells_about_and_those_that_move_not_far_away(connection):
    kept(connection, {1: SEEN[7], 2: [(200.0, -45.0 + 60 / 3600, 1.0, 61003.0, "b")], 3: mover(10.0, 20.0)})
    state = [OBJECT.c[name] for name in STATE]

    def near(*places):
        ra, dec = np.array(places).reshape(-1, 2).T
        return objects_near(connection, state, ra, dec, 1.0).ids.tolist()

    assert near((200.0, -45.0)) == near((200.0, -45.0), (0.0, 0.0)) == [1]
    assert near((200.0, -45.0 + 60 / 3600), (200.0, -45.0)) == [1, 2]
    assert near((10.0, 20.0 + 100 / 3600)) == [3]  # which moves
    assert near((100.0, 20.0)) == near() == []


def test_an_object_is_changed_and_no_other(connection):
    kept(connection, {1: SEEN[7], 2: SEEN[(1 << 60) + 1]})
    (row,) = PlacedObjects.read(rows_of({1: mover(10.0, 20.0)})).values()
    update_objects(connection, [{"of": row.pop("diaObjectId"), **row}])
    update_objects(connection, [])
    found = connection.execute(sa.select(OBJECT.c.diaObjectId, OBJECT.c.nDiaSources).order_by(OBJECT.c.diaObjectId))
    assert [tuple(one) for one in found] == [(1, 30), (2, 2)]


@pytest.mark.parametrize(
    ("mjd", "nights", "first", "last"),
    [
        (61000.3, 1, 61000.1, 61000.3), (61000.7, 1, 61000.1, 61000.7), (61000.75, 2, 61000.1, 61000.75),
        (60999.75, 1, 60999.75, 61000.2), (60999.5, 2, 60999.5, 61000.2), (61000.15, 1, 61000.1, 61000.2),
    ],
)  # fmt: skip
def test_a_further_detection_half_a_day_away_is_of_another_night(mjd, nights, first, last):
    found = PlacedObjects.read(rows_of(SEEN))
    sums = motion_sums(unit_vectors(np.array([10.0]), np.array([20.0])), np.array([2.0]), np.array([mjd]))
    one = found.joined(np.array([0]), sums, np.array([mjd]))
    assert (one.ids.tolist(), one.number.tolist(), one.nights.tolist()) == ([(1 << 60) + 1], [3], [nights])
    assert (one.first.tolist(), one.last.tolist()) == ([first], [last])
    np.testing.assert_allclose(one.sums[0], found.sums[0] + sums[0])


def test_half_a_day_exactly_is_the_same_night():
    ends = np.array([[61000.0, 61000.0]])
    base = PlacedObjects(np.array([1]), np.zeros((1, 9)), np.array([1]), np.array([1]), ends[:, 0], ends[:, 1])
    for mjd in (60999.5, 61000.5):
        assert base.joined(np.array([0]), np.zeros((1, 9)), np.array([mjd])).nights.tolist() == [1]


def test_an_object_without_detections_begins_again():
    none = PlacedObjects(
        np.array([5]), np.full((1, 9), 3.0), np.array([0]), np.array([4]), np.array([1.0]), np.array([2.0])
    )
    one = none.joined(np.array([0]), np.ones((1, 9)), np.array([61000.0]))
    assert (one.number.tolist(), one.nights.tolist(), one.sums.tolist()) == ([1], [1], [[1.0] * 9])
    assert (one.first.tolist(), one.last.tolist()) == ([61000.0], [61000.0])


def test_settings_are_noted_when_they_change(connection):
    first = dict.fromkeys(MATCHING, 1.0)
    assert note_settings(connection, first, "20260101") == []
    assert note_settings(connection, first, "20260102") == []
    (change,) = note_settings(connection, first | {"sigmas": 2.0}, "20260103")
    assert change == SettingChange("sigmas", 1.0, 2.0, "20260103")
    assert str(change).startswith("association.sigmas was 1, and is 2 since night 20260103")
    (back,) = note_settings(connection, first, "20260104")
    assert (back.before, back.value) == (2.0, 1.0)
    rows = connection.execute(sa.select(SETTING.c.name, SETTING.c.before, SETTING.c.value, SETTING.c.night)).all()
    assert rows[: len(MATCHING)] == [(name, None, 1.0, "20260101") for name in MATCHING]
    assert rows[len(MATCHING) :] == [("sigmas", 1.0, 2.0, "20260103"), ("sigmas", 2.0, 1.0, "20260104")]


def test_rows_of_many_values_are_selected_in_several_queries(connection, monkeypatch):
    monkeypatch.setattr(association_tables, "_AT_ONCE", 1000)
    seen = TABLES.tables["event"]
    rows = [
        {"kind": "x", "diaObjectId": n % 2001, "otherId": None, "visit": n, "detector": 0, "at": ""}
        for n in range(2500)
    ]
    connection.execute(seen.insert(), rows)
    found = selected(connection, (seen.c.visit,), seen.c.diaObjectId, np.arange(2001))
    assert sorted(one.visit for one in found) == list(range(2500))
    found = selected(connection, (seen.c.visit,), seen.c.diaObjectId, [0, 5], also=seen.c.visit > 2000)
    assert sorted(one.visit for one in found) == [2001, 2006]
    counted = (seen.c.diaObjectId, sa.func.count())
    found = selected(connection, counted, seen.c.diaObjectId, {0, 5, 1000}, group=seen.c.diaObjectId)
    assert sorted(tuple(one) for one in found) == [(0, 2), (5, 2), (1000, 1)]
    assert selected(connection, (seen.c.visit,), seen.c.diaObjectId, []) == []
    assert STATIC_NIGHT.name in TABLES.tables
