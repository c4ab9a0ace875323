from flows.pipeline.superseded import Superseded
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger, unpublish
from schemas.exposure import ExposureKey
from schemas.ledger import DatasetRecord, ProvenanceRecord
from tests.support.exposure import exposure_record


def record(visit, source_uri, provenance=None):
    file = DatasetRecord(path=f"catalogs/{visit}.parquet", digest="d", rows=3, sha256="s")
    return exposure_record(visit=visit, source_uri=source_uri, datasets={"dia_source": file}, provenance=provenance)


def publish(out, one):
    """Write what a run leaves of an exposure."""
    for path in (out / one.datasets["dia_source"].path, tile_path(out, one.key) / "zarr.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    Ledger(out).put(one)


def left(out):
    return sorted(path.name for path in out.rglob("*") if path.is_file() and path.name != "index.sqlite")


def test_takes_back_files_tiles_and_record_of_one_exposure_alone(tmp_path):
    for visit in (1, 2):
        publish(tmp_path, record(visit, f"{visit}.fits"))
    unpublish(record(1, "1.fits"), tmp_path)
    assert len(left(tmp_path)) == 3
    assert [one.visit for one in Ledger(tmp_path).records()] == [2]
    unpublish(record(1, "1.fits"), tmp_path)


def test_what_by_now_came_from_another_source_stays(tmp_path):
    publish(tmp_path, record(1, "new.fits"))
    unpublish(record(1, "old.fits"), tmp_path)
    assert len(left(tmp_path)) == 3


def test_a_source_supersedes_what_it_was_before_unless_another_stands_for_it(tmp_path):
    records = [record(1, "a"), record(2, "a"), record(3, "b"), record(4, "a")]
    for one in records:
        Ledger(tmp_path).put(one)
    Ledger(tmp_path).put(records[2].model_copy(update={"source_uri": "a"}))
    Ledger(tmp_path).put(records[2])  # by now from another source
    found = Superseded(Ledger(tmp_path), claimed={("20260101", 4, 0)})
    assert [one.visit for one in found.by("a", records[1].key)] == [1]
    assert [one.visit for one in found.by("a", None)] == [1, 2]
    assert found.by("a", ExposureKey(night="20260101", visit=9, detector=0)) == tuple(records[:2])
    assert found.by("c", None) == ()


def test_detectors_of_a_mosaic_that_are_searched_one_after_the_other_stay(tmp_path):
    ledger = Ledger(tmp_path)

    def searched(extension):
        fits = {} if extension is None else {"extension": extension}
        settings = {"fits": fits}
        made = ProvenanceRecord(settings=settings, models={}, stages={}, software="0", code="c")
        return ledger.put_provenance(made)

    for visit, extension in enumerate(("CCD1", "CCD2", None), start=1):
        ledger.put(record(visit, "a", searched(extension)))
    now = ExposureKey(night="20260101", visit=9, detector=0)
    assert [one.visit for one in Superseded(ledger, (), "CCD2").by("a", now)] == [2, 3]
    assert [one.visit for one in Superseded(ledger, (), 4).by("a", now)] == [3]
    assert [one.visit for one in Superseded(ledger, ()).by("a", now)] == [1, 2, 3]
