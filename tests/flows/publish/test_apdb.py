"""Nights in Rubin's alert-production database, on SQLite and PostgreSQL, read back by its own package."""

import re
import shutil
import sqlite3
from contextlib import closing
from uuid import uuid4

import numpy as np
import pyarrow.compute as pc
import pytest

from flows.nights.association import associate
from flows.publish.apdb import joined_columns
from flows.publish.avro_rows import Column
from flows.publish.published import PublishedExposures
from flows.storage.association_tables import FILE
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from schemas.dia_source import DIA_SOURCE, DetectionFlag
from schemas.settings import AssociationSettings
from tests.flows.publish.test_rubin_alert import known_table
from tests.support.alert_night import NIGHT, exposure_planes, info_of, make_night, places, put, rows_of, visit_of
from tests.support.cli import nightstride
from tests.support.services import association_database

pytest.importorskip("lsst.dax.apdb")

COUNT = 12


@pytest.fixture(scope="module")
def postgres():
    with association_database() as found:
        yield found


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def database(request, tmp_path, monkeypatch):
    """An empty database, by its configuration."""
    return new_database(request.param, request, tmp_path, monkeypatch)


def new_database(kind, request, folder, monkeypatch):
    from lsst.dax.apdb.sql import ApdbSql

    if kind == "sqlite":
        config = ApdbSql.init_database(f"sqlite:///{folder}/apdb.db")
    else:
        server, url = request.getfixturevalue("postgres")
        monkeypatch.setenv("PGPASSWORD", server.folder.database_password)
        config = ApdbSql.init_database(url.replace("psycopg", "psycopg2"), namespace=f"apdb_{uuid4().hex}")
    config.connection_config.connection_pool = False  # which nothing would close
    path = folder / "apdb.yaml"
    config.save(str(path))
    return path


@pytest.fixture
def sqlite(tmp_path, request, monkeypatch):
    return new_database("sqlite", request, tmp_path, monkeypatch)


def store(out, database, *more, code=0, **environment):
    done = nightstride("apdb", out, "--to", database, *more, "--json", **environment)
    assert done.code == code, done.stderr
    return done


def tables(database):
    """Rows of the three tables, as the package reads them: objects of the last version, sources, forced sources."""
    from astropy.time import Time
    from lsst.dax.apdb import Apdb
    from lsst.sphgeom import Angle, Circle, LonLat, UnitVector3d

    apdb, since = Apdb.from_uri(str(database)), Time(50000.0, format="mjd", scale="tai")
    sky = Circle(UnitVector3d(LonLat.fromDegrees(150.0, 20.0)), Angle.fromDegrees(10.0))
    objects = apdb.getDiaObjects(sky)
    forced = apdb.getDiaForcedSources(sky, objects["diaObjectId"].tolist(), since, since)
    return objects, apdb.getDiaSources(sky, None, since, since), forced


def versions(database):
    """Versions of objects: id, since when, until when, number of detections."""
    with closing(sqlite3.connect(database.with_name("apdb.db"))) as connection:
        query = 'SELECT "diaObjectId", "validityStartMjdTai", "validityEndMjdTai", "nDiaSources" FROM "DiaObject"'
        return connection.execute(f"{query} ORDER BY 1, 2").fetchall()


def add(out, n, detector=0, *, finished=None, **columns):
    """Publish an exposure of the night, and associate it."""
    x, y = places(COUNT, (280, 300), 5)
    info = info_of(n, detector)
    more = {} if finished is None else {"finished_at": finished}
    put(out, info, rows_of(info, x, y, **columns), exposure_planes(info, x, y, 10 * n + detector), **more)


def associated(out):
    assert not associate(out, AssociationSettings(), None).summary.failed


def test_a_night_is_there_as_it_was_published(tmp_path, database):
    out = make_night(tmp_path / "out", visits=3, detectors=2)
    summary = store(out, database).summary
    assert {name: summary[name] for name in ("exposures", "sources", "objects", "kept", "failed")} == {
        "exposures": 6, "sources": 72, "objects": 72, "kept": 0, "failed": [],
    }  # fmt: skip
    objects, sources, forced = tables(database)
    assert len(forced) == 0
    ours = CatalogStore(out).read(DIA_SOURCE, info_of(1, 1)).to_pandas().set_index("diaSourceId").sort_index()
    found = sources[(sources["visit"] == visit_of(1)) & (sources["detector"] == 1)]
    found = found.set_index("diaSourceId").sort_index()
    assert list(found.index) == list(ours.index)
    for name in ("ra", "dec", "midpointMjdTai", "x", "y", "psfFlux", "psfFluxErr", "apFlux", "trailLength", "snr"):
        np.testing.assert_allclose(found[name], ours[name], rtol=1e-6)
    assert set(found["band"]) == {"r"}
    assert found["timeProcessedMjdTai"].nunique() == 1
    # The science image shows each object twice as bright as the difference.
    np.testing.assert_allclose(np.median(found["scienceFlux"] / (2 * found["psfFlux"])), 1, atol=0.1)
    assert set(sources["diaObjectId"]) == set(objects["diaObjectId"])
    assert set(objects["nDiaSources"]) == {3}
    assert set(objects["r_psfFluxNdata"]) == {3}
    assert set(objects["g_psfFluxNdata"]) == {0}
    assert set(objects["validityStartMjdTai"]) == {info_of(2).midpoint_mjd_tai}
    again = store(out, database).summary
    assert (again["exposures"], again["kept"], again["changed"]) == (0, 6, 0)
    assert len(tables(database)[1]) == 72


def test_versions_of_an_object_follow_each_other(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=3, count=4)
    store(out, sqlite)
    found, times = versions(sqlite), [info_of(n).midpoint_mjd_tai for n in range(3)]
    assert len(found) == 12
    first = [one[1:] for one in found if one[0] == found[0][0]]
    assert first == [(times[0], times[1], 1), (times[1], times[2], 2), (times[2], None, 3)]


def test_a_detector_or_visit_that_comes_late_ends_no_version_before_it_began(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=1)
    for n in (3, 2):  # the second is a backfill
        add(out, n)
        associated(out)
        store(out, sqlite)
    add(out, 3, detector=1, ra=150 + np.arange(COUNT) / 100, dec=np.full(COUNT, 21.0))
    associated(out)
    assert store(out, sqlite).summary["exposures"] == 1
    found = versions(sqlite)
    assert all(end is None or end > begin for _, begin, end, _ in found)
    assert [end for *_, end, _ in found].count(None) == 2 * COUNT
    _, sources, _ = tables(sqlite)
    assert len(sources) == 4 * COUNT
    assert sources["diaObjectId"].notna().all()


def test_one_object_on_two_detectors_of_a_visit_has_one_version(tmp_path, sqlite):
    out = tmp_path / "out"
    add(out, 0, ra=150 + np.arange(COUNT) / 100, dec=np.full(COUNT, 20.0))
    add(out, 0, 1, ra=150 + np.arange(COUNT) / 100, dec=np.full(COUNT, 20.0))
    associated(out)
    assert store(out, sqlite).summary["sources"] == 2 * COUNT
    assert [one[3] for one in versions(sqlite)] == [2] * COUNT


def test_an_exposure_that_was_processed_again_is_told_and_stays(tmp_path, database):
    out = make_night(tmp_path / "out", visits=2)
    store(out, database)
    before = tables(database)[1].sort_values("diaSourceId")
    add(out, 1, finished="2026-03-01T00:00:00+00:00", psfFlux=np.full(COUNT, 77.0))
    associated(out)
    done = store(out, database)
    assert (done.summary["kept"], done.summary["changed"], done.summary["sources"]) == (1, 1, 0)
    assert "1 exposure there as they were processed before" in done.stderr
    after = tables(database)[1].sort_values("diaSourceId")
    np.testing.assert_array_equal(before["psfFlux"], after["psfFlux"])


def test_an_exposure_that_has_no_detection_with_a_place_any_more_is_told_to_have_changed(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=1)
    store(out, sqlite)
    add(out, 0, ra=np.full(COUNT, np.nan))
    associated(out)
    summary = store(out, sqlite).summary
    assert (summary["kept"], summary["changed"], summary["failed"]) == (0, 1, [])


def test_what_has_no_place_no_time_or_no_band_of_rubins_is_counted(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=1)
    info = info_of(1)
    x, y = places(COUNT, (280, 300), 5)
    ra = rows_of(info, x, y)["ra"].to_numpy(zero_copy_only=False).copy()
    ra[0], flags = np.nan, np.zeros(COUNT, np.int64)
    flags[1] = int(DetectionFlag.NO_TIME)
    put(out, info, rows_of(info, x, y, ra=ra, flags=flags, band=["clear"] * COUNT))
    associated(out)
    summary = store(out, sqlite).summary
    assert summary["skipped"] == {"no_position": 1, "no_time": 1, "no_band": COUNT - 2}
    _, sources, _ = tables(sqlite)
    late = sources[sources["visit"] == visit_of(1)]
    assert len(late) == COUNT - 2
    assert late["band"].isna().all()
    assert late["scienceFlux"].isna().all()  # whose pixels are gone


def test_an_exposure_that_is_not_associated_waits_and_the_others_are_stored(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=2)
    add(out, 2)
    done = store(out, sqlite, code=1)
    assert (done.summary["exposures"], done.summary["exposures_failed"]) == (2, 1)
    assert "is not associated yet" in done.summary["failed"][0]
    associated(out)
    assert store(out, sqlite).summary["exposures"] == 1


def test_a_catalogue_that_is_damaged_takes_its_exposure_alone(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=3)
    CatalogStore(out).path(DIA_SOURCE, info_of(1)).write_bytes(b"no Parquet")
    done = store(out, sqlite, code=1)
    assert (done.summary["exposures"], done.summary["exposures_failed"]) == (2, 1)
    assert str(visit_of(1)) in done.summary["failed"][0]


def test_ids_that_something_else_has_stored_are_told_and_nothing_of_the_visit_is_stored(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=2)
    store(out, sqlite)
    with closing(sqlite3.connect(sqlite.with_name("apdb.db"))) as connection, connection:
        connection.execute('UPDATE "DiaSource" SET visit = 5 WHERE visit = ?', (visit_of(1),))
    before = versions(sqlite)
    done = store(out, sqlite, code=1)
    assert (done.summary["exposures"], done.summary["exposures_failed"]) == (0, 1)
    assert "refuses rows" in done.summary["failed"][0]
    assert versions(sqlite) == before


def test_forced_fluxes_are_those_of_objects_on_exposures_that_are_there(tmp_path, database):
    out = make_night(tmp_path / "out", visits=3)
    rows = CatalogStore(out).read(DIA_SOURCE, info_of(0))
    targets = tmp_path / "targets.csv"
    placed = zip(rows["ra"].to_pylist(), rows["dec"].to_pylist(), strict=True)
    lines = [f"t{n},{ra},{dec}" for n, (ra, dec) in enumerate(placed)]
    targets.write_text("name,ra,dec\n" + "\n".join(lines) + "\n")
    store(out, database)
    assert nightstride("forced", out, targets).code == 0
    assert store(out, database).summary["forced"] == 3 * COUNT
    _, sources, forced = tables(database)
    assert set(forced["visit"]) == {visit_of(n) for n in range(3)}
    assert forced["diaForcedSourceId"].is_unique
    merged = forced.merge(sources, on=["diaObjectId", "visit", "detector"], suffixes=("", "_seen"))
    assert len(merged) == 3 * COUNT
    assert (np.abs(merged["psfFlux"] - merged["psfFlux_seen"]) < 6 * merged["psfFluxErr"]).mean() > 0.9
    assert store(out, database).summary["forced"] == 0


def test_damaged_pixels_take_their_detector_alone_and_pruned_ones_leave_nulls(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=1, detectors=3)
    shutil.rmtree(tile_path(out, info_of(0, 0)))
    chunk = max((tile_path(out, info_of(0, 1)) / "difference").rglob("c/*/*"), key=lambda path: path.stat().st_size)
    chunk.write_bytes(b"damaged")
    done = store(out, sqlite, code=1)
    assert (done.summary["exposures"], done.summary["exposures_failed"]) == (2, 1)
    _, sources, _ = tables(sqlite)
    known = sources.groupby("detector")["scienceFlux"].count()
    assert known.to_dict() == {0: 0, 2: COUNT}
    assert sources["psfFlux"].notna().all()


def test_without_an_association_it_is_refused(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=1)
    (out / FILE).unlink()
    assert store(out, sqlite, code=2).summary["error"]["code"] == "no_association"
    assert not (out / FILE).exists()
    done = store(out, sqlite, code=2, NIGHTSTRIDE_ASSOCIATION__STORE="none")
    assert done.summary["error"]["code"] == "no_association"


def test_what_is_no_database_is_refused(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=1)
    assert store(out, tmp_path / "none.yaml", code=2).summary["error"]["code"] == "bad_apdb"
    (tmp_path / "odd.yaml").write_text("just: this\n")
    assert store(out, tmp_path / "odd.yaml", code=2).summary["error"]["code"] == "bad_apdb"
    with closing(sqlite3.connect(sqlite.with_name("apdb.db"))) as connection, connection:
        connection.execute("UPDATE metadata SET value = '99.0.0' WHERE name = 'version:schema'")
    assert store(out, sqlite, code=2).summary["error"]["code"] == "apdb_version"
    text = sqlite.read_text()
    sqlite.write_text(re.sub(r"db_url: .*", "db_url: postgresql+psycopg://nobody@127.0.0.1:1/none", text))
    assert store(out, sqlite, code=1).summary["error"]["code"] == "apdb_down"
    sqlite.write_text(text)
    sqlite.with_name("apdb.db").unlink()
    assert store(out, sqlite, code=1).summary["error"]["code"] == "apdb_down"


@pytest.mark.services
def test_a_driver_that_cannot_write_is_refused(tmp_path, postgres, request, monkeypatch):
    database = new_database("postgresql", request, tmp_path, monkeypatch)
    database.write_text(database.read_text().replace("psycopg2", "psycopg"))
    out = make_night(tmp_path / "out", visits=1)
    assert store(out, database, code=2).summary["error"]["code"] == "apdb_driver"


def test_reading_back_ids_and_times_of_all_exposures(tmp_path, sqlite):
    """Each detection is there once, with the time at which its exposure was processed."""
    out = make_night(tmp_path / "out", visits=2, detectors=2)
    store(out, sqlite, "--night", NIGHT)
    published, (_, sources, _) = PublishedExposures(out), tables(sqlite)
    for record in published.exposures(NIGHT):
        rows = published.detections(record.key)
        assert pc.all(pc.is_valid(rows["ra"])).as_py()
        here = sources[(sources["visit"] == record.visit) & (sources["detector"] == record.detector)]
        assert sorted(here["diaSourceId"]) == sorted(rows["diaSourceId"].to_pylist())
        np.testing.assert_allclose(here["timeProcessedMjdTai"], published.processed(record), atol=1e-9)


def test_an_exposure_that_lacks_a_column_has_null_there():
    ids = Column(np.arange(2))
    full = {"diaSourceId": ids, "n": Column(np.array([7, 8])), "band": Column(["r", "g"])}
    found = joined_columns([full, {"diaSourceId": ids}])
    assert found["band"].values == ["r", "g", "", ""]
    assert found["n"].values.tolist() == [7, 8, 0, 0]
    assert found["n"].valid.tolist() == [True, True, False, False]


def test_a_visit_of_two_nights_is_told_and_not_stored_of_the_second(tmp_path, sqlite):
    """The ids of its detections are the same in both, and objects have them of the first."""
    out = make_night(tmp_path / "out", visits=2)
    again = info_of(1, night="20260102")
    put(out, again, rows_of(again, *places(COUNT, (280, 300), 5)))
    failed = associate(out, AssociationSettings(), None).summary.failed
    assert [one.code for one in failed] == ["two_nights"]
    summary = store(out, sqlite, code=1).summary
    assert (summary["exposures"], summary["exposures_failed"]) == (2, 1)
    assert [one for one in summary["failed"] if "is in nights 20260101 and 20260102" in one]
    assert set(tables(sqlite)[1]["visit"]) == {visit_of(0), visit_of(1)}


def test_exposures_without_a_detection_that_has_a_place_are_counted_and_need_no_object(tmp_path, sqlite):
    out = make_night(tmp_path / "out", visits=1)
    add(out, 1, ra=np.full(COUNT, np.nan))
    put(out, info_of(2), rows_of(info_of(2), np.zeros(0), np.zeros(0)))
    associated(out)
    for kept in (0, 1):
        summary = store(out, sqlite).summary
        assert (summary["exposures"], summary["empty"], summary["kept"]) == (1 - kept, 2, kept)
        assert summary["skipped"] == {"no_position": COUNT}


def test_known_objects_of_detections_are_stored_with_them(tmp_path, sqlite):
    out, info = make_night(tmp_path / "out", visits=1), info_of(1)
    rows = rows_of(info, *places(COUNT, (280, 300), 5))
    known = known_table(rows["diaSourceId"].to_pylist()[:2], ["(433) Eros", "2026 TA3"])
    put(out, info, rows, known=known)
    associated(out)
    store(out, sqlite)
    _, sources, _ = tables(sqlite)
    found = sources.set_index("diaSourceId")["ssObjectId"].dropna()
    assert found.to_dict() == dict(zip(known["diaSourceId"].to_pylist(), known["ssObjectId"].to_pylist(), strict=True))
