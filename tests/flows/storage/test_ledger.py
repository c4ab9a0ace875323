import pytest

from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger, load, unpublish
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.ledger import LEDGER_VERSION, DatasetRecord, ExposureRecord, NightRecord, SourceMemo, SourceStat
from schemas.quality import QualityRecord


def record(visit=5, detector=3, night="20260101", **other):
    values = {
        "night": night,
        "visit": visit,
        "detector": detector,
        "source_uri": "s3://bucket/é.fits",
        "source_sha256": "ab",
        "source_stat": SourceStat(size=10, mtime_ns=1_700_000_000_123_456_789),
        "digest": "cd",
        "datasets": {"dia_source": DatasetRecord(path="catalogs/x.parquet", digest="cd", rows=3, sha256="ef")},
        "windows": 190_532,
        "windows_unscored": 7,
        "detections": 3,
        "seconds": {"detect": 1.25},
        "software": "0.1.0",
        "finished_at": "2026-01-02T03:04:05+00:00",
    }
    return ExposureRecord(**(values | other))


def test_gives_back_what_was_put(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.get(record().key) is None
    ledger.put(record())
    assert Ledger(tmp_path).get(record().key) == record()
    ledger.put(record(detections=4))
    assert ledger.get(record().key).detections == 4
    ledger.remove(record().key)
    ledger.remove(record().key)
    assert ledger.get(record().key) is None


def test_records_come_in_numerical_order_and_by_night(tmp_path):
    ledger = Ledger(tmp_path)
    for visit, detector, night in [(10, 0, "20260101"), (9, 11, "20260101"), (9, 2, "20260101"), (1, 1, "20260102")]:
        ledger.put(record(visit, detector, night))
    ledger.remember(SourceMemo(uri="a", sha256="b", size=1, mtime_ns=2, key=record().key))
    order = [(found.night, found.visit, found.detector) for found in ledger.records()]
    assert order == [("20260101", 9, 2), ("20260101", 9, 11), ("20260101", 10, 0), ("20260102", 1, 1)]
    assert [found.visit for found in ledger.records("20260102")] == [1]
    assert ledger.records("20260103") == []


def test_records_come_in_order_whatever_the_order_of_their_files(tmp_path):
    ledger = Ledger(tmp_path)
    order = [
        (night, visit, detector) for night in ("20260101", "20260102") for visit in (2, 10) for detector in (3, 20)
    ]
    for night, visit, detector in reversed(order):
        ledger.put(record(visit, detector, night))
    assert [(one.night, one.visit, one.detector) for one in ledger.records()] == order
    assert ledger.files() == sorted(ledger.files("20260101") + ledger.files("20260102"))
    assert len(ledger.files()) == 8


def test_what_is_recorded_of_a_night_is_no_other_nights(tmp_path):
    ledger = Ledger(tmp_path)
    quality = QualityRecord(night="20260101", digest="d", rules="r", measured=(), judged=(), software="0")
    assert (ledger.quality("20260101"), ledger.quality_nights()) == (None, [])
    ledger.put_quality(quality)
    ledger.put_quality(quality.model_copy(update={"night": "20251231"}))
    assert ledger.quality("20260101") == quality
    assert ledger.quality_nights() == ["20251231", "20260101"]
    ledger.remove_quality("20251231")
    ledger.remove_quality("20251231")
    assert (ledger.quality("20251231"), ledger.quality_nights()) == (None, ["20260101"])
    ledger.quality_path("20260101").write_text(quality.model_dump_json()[:-1])
    assert ledger.quality("20260101") is None


def test_a_memo_under_the_name_of_another_source_is_not_believed(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.remember(None)
    assert not (tmp_path / "ledger").exists()
    ledger.remember(SourceMemo(uri="a", sha256="b", size=1, mtime_ns=2, key=record().key))
    (file,) = (tmp_path / "ledger/sources").rglob("*.json")
    file.write_text(file.read_text().replace('"uri":"a"', '"uri":"c"'))
    assert ledger.remembered("a") is None


def test_an_exposure_is_unpublished_with_its_files_and_no_other_is(tmp_path):
    ledger = Ledger(tmp_path)
    gone, kept = (
        record(visit, datasets={"t": DatasetRecord(path=f"catalogs/{visit}.parquet", digest="c", rows=3, sha256="e")})
        for visit in (5, 6)
    )
    for one in (gone, kept):
        ledger.put(one)
        (tmp_path / f"catalogs/{one.visit}.parquet").parent.mkdir(exist_ok=True)
        (tmp_path / f"catalogs/{one.visit}.parquet").touch()
        tile_path(tmp_path, one.key).mkdir(parents=True)
    unpublish(gone.model_copy(update={"source_uri": "elsewhere"}), tmp_path)
    assert ledger.records() == [gone, kept]
    assert (tmp_path / "catalogs/5.parquet").exists()
    unpublish(gone, tmp_path)
    unpublish(gone, tmp_path)
    assert ledger.records() == [kept]
    assert [path.name for path in (tmp_path / "catalogs").iterdir()] == ["6.parquet"]
    assert not tile_path(tmp_path, gone.key).exists()
    assert tile_path(tmp_path, kept.key).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": "new"}'])
def test_damaged_record_is_done_again(tmp_path, content):
    ledger = Ledger(tmp_path)
    ledger.put(record())
    ledger.path(record().key).write_text(content)
    assert ledger.get(record().key) is None
    assert ledger.records() == []
    with pytest.raises(BadInput, match=r"is no ledger record.* To fix, run the night again"):
        load(ledger.path(record().key))


def test_record_of_a_later_version_stops_the_run(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put(record())
    file = ledger.path(record().key)
    later = f'"schema_version": {LEDGER_VERSION + 1}, "invented_later": 0'
    file.write_text(file.read_text().replace(f'"schema_version": {LEDGER_VERSION}', later))
    told = rf"has schema version {LEDGER_VERSION + 1}, .* reads version {LEDGER_VERSION}\. To fix, use the version"
    for read in (lambda: ledger.get(record().key), ledger.records):
        with pytest.raises(Misconfigured, match=told) as caught:
            read()
        assert caught.value.code == "other_version"


def test_remembers_sources_by_their_uri(tmp_path):
    ledger = Ledger(tmp_path)
    key = ExposureKey(night="20260101", visit=5, detector=3)
    memos = [
        SourceMemo(uri=uri, sha256=f"sha of {uri}", size=5, mtime_ns=6, key=key)
        for uri in ("/data/a.fits", "s3://bucket/a.fits", "/data/" + "long" * 100)
    ]
    for memo in memos:
        ledger.remember(memo)
    assert [Ledger(tmp_path).remembered(memo.uri) for memo in memos] == memos
    assert ledger.remembered("/data/b.fits") is None
    newer = memos[0].model_copy(update={"size": 7})
    ledger.remember(newer)
    assert ledger.remembered("/data/a.fits") == newer


def test_damaged_memory_is_forgotten(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.remember(SourceMemo(uri="a", sha256="b", size=1, mtime_ns=2, key=record().key))
    (file,) = (tmp_path / "ledger/sources").rglob("*.json")
    file.write_text(file.read_text()[:-3])
    assert ledger.remembered("a") is None


def test_the_record_of_a_whole_night_is_no_exposure(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.night("20260101") is None
    record = NightRecord(night="20260101", exposures=2, software="0", finished_at="now")
    ledger.put_night(record)
    assert ledger.night("20260101") == record
    assert ledger.files() == []
    assert ledger.night_files() == [ledger.night_path("20260101")]
    ledger.night_path("20260101").write_text("{}")
    assert ledger.night("20260101") is None
    ledger.remove_night("20260101")
    assert ledger.night_files() == []
