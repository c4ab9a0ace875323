from shutil import rmtree

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from flows.results.forced.objects import (
    ObjectsAsked,
    ObjectsMeasured,
    forget_objects,
    measure_objects,
    object_targets,
    targets_in,
)
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from kernels.sky.patches import cover
from schemas.dia_object import DIA_OBJECT
from schemas.errors import BadInput, Misconfigured
from schemas.forced import FORCED_SOURCE
from schemas.patch import PatchKey
from tests.support.filled import filled_rows
from tests.support.forced import SHAPE, WCS_HEADER, at_pixel, plain_info, plain_planes, record_of, store

NIGHTS = ("20260101", "20260102")


def publish(out, night, rows):
    """Publish `dia_object` of a night in one patch; columns that rows lack are 0, or null."""
    table = filled_rows(DIA_OBJECT.schema, rows)
    return CatalogStore(out).publish(DIA_OBJECT, PatchKey(night=night, order=0, pixel=0), table, "d")


def test_objects_move_with_a_proper_motion_that_is_known_well(tmp_path):
    known = {"radecMjdTai": 60000.0, "pmRa": 3000.0, "pmDec": -4000.0, "pmRaErr": 400.0, "pmDecErr": 400.0}
    rows = [
        {"diaObjectId": 1, "ra": 10.0, "dec": 60.0} | known,
        {"diaObjectId": 2, "ra": 10.0, "dec": 60.0} | known | {"pmRaErr": 2000.0, "pmDecErr": 2000.0},
        {"diaObjectId": 3, "ra": 10.0, "dec": 60.0, "radecMjdTai": 60000.0},
    ]
    publish(tmp_path, "20260101", rows)
    sky = object_targets(tmp_path).at(60000.0 + 2 * 365.25)
    there = SkyCoord(sky.ra, sky.dec, unit="deg")
    start = SkyCoord(10, 60, unit="deg")
    np.testing.assert_allclose(start.separation(there).arcsec, [10, 0, 0], atol=1e-3)
    east, north = start.spherical_offsets_to(there[0])
    assert (east.arcsec, north.arcsec) == pytest.approx((6, -8), abs=2e-3)


def test_an_object_is_where_the_last_of_its_catalogues_has_it(tmp_path):
    rows = [{"diaObjectId": 7, "ra": 10.0, "dec": 1.0}, {"diaObjectId": 8, "ra": 20.0, "dec": 2.0}]
    paths = [publish(tmp_path, NIGHTS[0], rows), publish(tmp_path, NIGHTS[1], [rows[0] | {"dec": 1.5}])]
    found = targets_in(paths)
    assert (found.name.tolist(), found.dec.tolist()) == (["7", "8"], [1.5, 2.0])
    assert object_targets(tmp_path).digest == found.digest
    assert targets_in(paths, lambda ra, dec: ra > 15).name.tolist() == ["8"]
    assert len(targets_in([])) == 0
    with pytest.raises(Misconfigured, match="has no catalogue dia_object"):
        object_targets(tmp_path / "none")


def test_an_exposure_that_is_withdrawn_or_quarantined_is_left(tmp_path):
    info = plain_info()
    key = record_of(info).key
    assert measure_objects(tmp_path, key, ObjectsAsked(())) == ObjectsMeasured("")
    Ledger(tmp_path).put(record_of(info, status="quarantined", reason="flood"))
    assert measure_objects(tmp_path, key, ObjectsAsked(())) == ObjectsMeasured("")


def test_objects_are_measured_once(tmp_path):
    info = plain_info()
    store(tmp_path, info, plain_planes())
    record = record_of(info, sky=cover(WCS_HEADER, SHAPE))
    ledger = Ledger(tmp_path)
    ledger.put(record)
    rows = [
        {"diaObjectId": n, "ra": ra, "dec": dec} for n, (ra, dec) in enumerate([at_pixel(50, 60), at_pixel(-900, 0)])
    ]
    asked = ObjectsAsked((publish(tmp_path, NIGHTS[0], rows).relative_to(tmp_path).as_posix(),))
    made = measure_objects(tmp_path, record.key, asked)
    assert (made.of, made.rows, made.no_tiles, made.dataset.rows) == (record.digest, 1, False, 1)
    ledger.put(record.model_copy(update={"datasets": {"forced_source": made.dataset}}))
    assert measure_objects(tmp_path, record.key, asked) == ObjectsMeasured(record.digest)
    assert measure_objects(tmp_path, record.key, ObjectsAsked(())) == ObjectsMeasured(record.digest)


def test_a_damaged_catalogue_of_objects_is_named(tmp_path):
    store(tmp_path, plain_info(), plain_planes())
    publish(tmp_path, NIGHTS[0], [{"diaObjectId": 1}]).write_bytes(b"no Parquet")
    (path,) = CatalogStore(tmp_path).list(DIA_OBJECT)
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        measure_objects(tmp_path, record_of(plain_info()).key, ObjectsAsked((str(path.relative_to(tmp_path)),)))


@pytest.fixture
def measured(tmp_path):
    """Record of an exposure with three objects, recorded with what was measured of them, and the catalogue of those."""
    store(tmp_path, plain_info(), plain_planes())
    record = record_of(plain_info(), sky=cover(WCS_HEADER, SHAPE))
    places = [at_pixel(50, 60), at_pixel(90, 60), at_pixel(50, 100)]
    rows = [{"diaObjectId": n, "ra": ra, "dec": dec} for n, (ra, dec) in enumerate(places, 5)]
    asked = ObjectsAsked((publish(tmp_path, NIGHTS[0], rows).relative_to(tmp_path).as_posix(),))
    Ledger(tmp_path).put(record)
    made = measure_objects(tmp_path, record.key, asked)
    Ledger(tmp_path).put(record.model_copy(update={"datasets": {"forced_source": made.dataset}}))
    return tmp_path, record.key, asked


def names(out, key):
    return CatalogStore(out).read(FORCED_SOURCE, key)["targetName"].to_pylist()


def test_rows_of_objects_that_are_no_more_are_left_out(measured):
    out, key, _ = measured
    before, said = Ledger(out).get(key), []
    for gone in ((), (4, 55)):
        assert forget_objects(out, gone, said.append) == []
        assert (Ledger(out).get(key), said) == (before, [])
    assert forget_objects(out, [5, 7, 8], said.append) == []
    assert names(out, key) == ["6"]
    assert Ledger(out).get(key).datasets["forced_source"].rows == 1
    assert "2 rows" in said[0]
    CatalogStore(out).path(FORCED_SOURCE, key).write_bytes(b"no Parquet")
    (trouble,) = forget_objects(out, [6], said.append)
    assert (trouble.uri.split()[0], len(said)) == ("exposure", 1)


def test_an_exposure_whose_tiles_are_gone_is_told_and_keeps_what_was_measured(measured):
    out, key, _ = measured
    more = publish(out, NIGHTS[1], [{"diaObjectId": 8, "ra": at_pixel(70, 70)[0], "dec": at_pixel(70, 70)[1]}])
    rmtree(tile_path(out, key))
    made = measure_objects(out, key, ObjectsAsked((more.relative_to(out).as_posix(),)))
    assert (made.no_tiles, made.rows, names(out, key)) == (True, 0, ["5", "6", "7"])


def test_what_was_published_and_not_recorded_is_recorded_by_the_next(measured):
    """As a run leaves it that is killed between the two."""
    out, key, asked = measured
    ledger = Ledger(out)
    record = ledger.get(key)
    entry = record.datasets["forced_source"]
    ledger.put(record.model_copy(update={"datasets": {"forced_source": entry.model_copy(update={"digest": "old"})}}))
    assert measure_objects(out, key, asked).dataset == entry
