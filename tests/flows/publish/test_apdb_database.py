"""Rubin's alert-production database, on SQLite in this process: what is stored, read back and refused."""

import shutil
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.publish.apdb_database import FORCED, OBJECT, SOURCE, ApdbDatabase, _about
from flows.publish.avro_rows import Column
from schemas.errors import BadInput, Misconfigured, Retryable

pytest.importorskip("lsst.dax.apdb")

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # of the package, by pandas 3.1

MJD = 61347.25
RA, DEC = np.array([150.0, 150.001]), np.array([20.0, 20.001])
COUNTS = {OBJECT: ["nDiaSources", *(f"{band}_psfFluxNdata" for band in "ugrizy")],
          SOURCE: ["psfNdata", "dipoleNdata", "bboxSize", "x", "y"], FORCED: []}  # fmt: skip


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    from lsst.dax.apdb.sql import ApdbSql

    folder = tmp_path_factory.mktemp("empty")
    config = ApdbSql.init_database(f"sqlite:///{folder}/apdb.db")
    config.connection_config.connection_pool = False  # which nothing would close
    config.save(str(folder / "apdb.yaml"))
    return folder


@pytest.fixture
def database(empty, tmp_path):
    shutil.copy(empty / "apdb.db", tmp_path)
    (tmp_path / "apdb.yaml").write_text((empty / "apdb.yaml").read_text().replace(str(empty), str(tmp_path)))
    with ApdbDatabase(str(tmp_path / "apdb.yaml")) as found:
        yield found


def columns(table, **given):
    """Two rows with all that a table wants."""
    ids = {"diaObjectId": [1, 2], "diaSourceId": [11, 12], "diaForcedSourceId": [21, 22], "visit": [7, 7]}
    times = {"midpointMjdTai": [MJD] * 2, "timeProcessedMjdTai": [MJD + 0.5, MJD + 0.75]}
    wanted = ids | times | {"detector": [3, 4], "ra": RA, "dec": DEC} | {name: [0, 0] for name in COUNTS[table]}
    return {name: Column(np.asarray(values)) for name, values in wanted.items()} | given


def fill(database, mjd=MJD, *tables):
    database.put(mjd, *(database.frame(table, columns(table)) if table in tables else None for table in COUNTS))


def test_detections_are_found_by_exposure_id_place_and_time(database):
    fill(database, MJD, OBJECT, SOURCE)
    assert [database.contains(7, detector) for detector in (3, 4, 5)] == [True, True, False]
    assert database.processed(11, RA[0], DEC[0], MJD) == MJD + 0.5
    assert database.processed(12, RA[1], DEC[1], MJD) == MJD + 0.75
    for identity, ra, mjd in ((13, RA[0], MJD), (11, RA[0] + 1, MJD), (11, RA[0], MJD + 1)):
        assert database.processed(identity, ra, DEC[0], mjd) is None


def test_versions_of_objects_count_from_their_visit_on(database):
    fill(database, MJD, OBJECT)
    for mjd, late in ((MJD - 1, {1, 2}), (MJD, {1, 2}), (MJD + 1, set())):
        assert database.as_late(RA, DEC, mjd) == late
    assert database.as_late(RA + 1, DEC, MJD) == set()


def test_forced_fluxes_are_found_since_a_time(database):
    fill(database, MJD, OBJECT, FORCED)
    for mjd, stored in ((MJD, {(1, 7, 3), (2, 7, 4)}), (MJD + 1, set())):
        assert database.forced([1, 2], RA, DEC, mjd) == stored


@given(places=st.lists(st.tuples(st.floats(0, 60), st.floats(-30, 60)), min_size=1, max_size=5))
def test_what_is_read_around_positions_holds_each_of_them(places):
    from lsst.sphgeom import LonLat, UnitVector3d

    around = _about(*np.array(places).T)
    assert all(around.contains(UnitVector3d(LonLat.fromDegrees(*one))) for one in places)


def test_what_the_database_does_not_have_is_left_out_and_what_it_wants_is_named(database):
    given = {
        "ours": Column(np.zeros(2)),
        "band": Column(["riz", ""]),
        "trailFlux": Column(np.array([1.0, np.inf])),
        "trailFluxErr": Column(np.array([1.0, 2.0]), np.array([False, True])),
        "trailRa": Column(np.array([np.nan, 2.0]), np.array([True, True])),
        "parentDiaSourceId": Column(np.array([5, 6]), np.array([True, False])),
    }
    frame = database.frame(SOURCE, columns(SOURCE, **given))
    assert "ours" not in frame
    nulls = frame.isna()
    told = {name: [None if nulls[name][n] else frame[name][n] for n in range(2)] for name in given if name != "ours"}
    assert told == {
        "band": ["r", None], "trailFlux": [1.0, None], "trailFluxErr": [None, 2.0], "trailRa": [None, 2.0],
        "parentDiaSourceId": [5, None],
    }  # fmt: skip
    for name in ("visit", "bboxSize"):
        lacking = {one: values for one, values in columns(SOURCE).items() if one != name}
        with pytest.raises(Misconfigured, match=f"its DiaSource wants {name}: not known here"):
            database.frame(SOURCE, lacking)


def test_what_is_there_is_refused_and_a_table_that_is_gone_is_said_to_be(database, tmp_path):
    fill(database, MJD, OBJECT, SOURCE)
    with pytest.raises(BadInput, match=r"refuses rows: .*UNIQUE constraint") as refused:
        fill(database, MJD + 1, OBJECT, SOURCE)
    assert (refused.value.code, "INSERT" in str(refused.value)) == ("apdb_refuses", False)
    with closing(sqlite3.connect(tmp_path / "apdb.db")) as file:
        file.execute('DROP TABLE "DiaSource"')
    with pytest.raises(Retryable, match="no such table") as down:
        database.contains(7, 3)
    assert down.value.code == "apdb_down"
    with pytest.raises(ValueError, match="mjd"):  # a fault of ours is not one of the database
        database.put("noon")


def test_what_is_no_configuration_is_said_to_be(tmp_path):
    texts = {"other": "a: 1", "broken": "a: b: c", "binary": "\0\1", "cassandra": "implementation_type: cassandra"}
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    given = [("absent.yaml", "there is no such file"), *((f"{name}.yaml", "") for name in texts)]
    for name, why in given:
        with pytest.raises(Misconfigured, match=f"is not a configuration of an APDB: {why}") as refused:
            ApdbDatabase(str(tmp_path / name))
        assert refused.value.code == "bad_apdb"
        assert ("no such file" in str(refused.value)) is bool(why)


@pytest.mark.parametrize("url", ["postgresql+psycopg://here/db", "postgresql+psycopg2://here/db", None])
def test_a_driver_that_stores_nothing_is_refused_and_connections_are_closed(monkeypatch, url):
    from lsst.dax.apdb import Apdb

    closed = []
    engine = SimpleNamespace(dispose=lambda: closed.append(url))
    stand_in = SimpleNamespace(getConfig=lambda: SimpleNamespace(**{"db_url": url} if url else {}))
    if url:  # Cassandra's has none
        stand_in._engine = engine
    monkeypatch.setattr(Apdb, "from_uri", lambda where: stand_in)
    if url == "postgresql+psycopg://here/db":
        with pytest.raises(Misconfigured, match="psycopg 3") as refused:
            ApdbDatabase("apdb.yaml")
        assert refused.value.code == "apdb_driver"
    else:
        with ApdbDatabase("apdb.yaml"):
            assert closed == []
    assert closed == ([url] if url else [])
