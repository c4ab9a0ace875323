import pyarrow.compute as pc
import pytest

from flows.results.exposure_rows import _STORED, SCHEMA, ExposureRows
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import read_info
from schemas.exposure import ExposureKey
from tests.support.alert_night import NIGHT, exposure_planes, info_of, places, put, rows_of

LATER = "20260102"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two nights of three exposures and one; the second exposure has no tiles any more, the third failed."""
    folder = tmp_path_factory.mktemp("exposures")
    x, y = places(4, (280, 300))
    for n in range(3):
        info = info_of(n, band="gri"[n])
        put(folder, info, rows_of(info, x, y), None if n == 1 else exposure_planes(info, x, y, n))
    info = info_of(7, night=LATER)
    put(folder, info, rows_of(info, x, y), status="failed", reason="it broke", detections=0)
    return folder


def test_a_row_says_what_the_ledger_and_the_tiles_do(out):
    rows = ExposureRows(out)
    table = rows.read(SCHEMA.names, None)
    assert table.schema.equals(SCHEMA)
    assert (rows.nights, rows.parts, rows.count(None)) == ((NIGHT, LATER), 2, 4)
    for row in table.to_pylist():
        key = ExposureKey(night=row["night"], visit=row["visit"], detector=row["detector"])
        record = Ledger(out).get(key)
        assert (row["status"], row["nDetections"], row["reason"]) == (record.status, record.detections, record.reason)
        assert (row["sourceUri"], row["finishedAt"]) == (record.source_uri, record.finished_at)
        if row["visit"] in (101, 107):
            assert {row[name] for name in _STORED.names} == {None}
            continue
        info = read_info(tile_path(out, key))
        assert (row["band"], row["midpointMjdTai"], row["zeroPoint"]) == (info.band, info.midpoint_mjd_tai, 26.0)
        assert (row["ny"], row["nx"], row["fwhm"]) == (*info.shape, info.psf.fwhm_px)
        assert (row["planes"].split(), row["assumed"].split()) == (list(info.planes), list(info.flags))


def test_conditions_and_limits_are_those_of_the_whole_table(out):
    rows = ExposureRows(out)
    visits = rows.read(["visit"], None)["visit"].to_pylist()
    assert visits == [100, 101, 102, 107]
    for limit in range(6):
        assert rows.read(["visit"], None, limit)["visit"].to_pylist() == visits[:limit]
        assert rows.read(["visit"], pc.field("nx") == 300, limit)["visit"].to_pylist() == [100, 102][:limit]
    late = pc.field("midpointMjdTai") > info_of(1).midpoint_mjd_tai
    assert rows.read(["band", "visit"], late).to_pylist() == [{"band": "i", "visit": 102}]
    counts = [rows.count(where) for where in (late, pc.field("status") == "failed", pc.field("band") == "z")]
    assert counts == [1, 1, 0]


@pytest.mark.parametrize(("nights", "visits"), [((LATER,), [107]), ((NIGHT,), [100, 101, 102]), (("20250101",), [])])
def test_some_nights_may_be_chosen(out, nights, visits):
    rows = ExposureRows(out).of(nights)
    assert rows.read(["visit"], None)["visit"].to_pylist() == visits
    assert rows.nights == tuple(night for night in nights if visits)


def test_tiles_are_looked_at_only_for_what_they_tell(out, monkeypatch):
    monkeypatch.setattr("flows.results.exposure_rows.stored_info", None)
    assert ExposureRows(out).read(["visit", "status"], None).num_rows == 4
    with pytest.raises(TypeError):
        ExposureRows(out).read(["visit", "band"], None)
