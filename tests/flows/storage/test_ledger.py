import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from types import SimpleNamespace

import pytest

from flows.storage import ledger_local
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger, unpublish
from flows.storage.night_sums import drop_provenance
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.ledger import LEDGER_VERSION, DatasetRecord, ExposureRecord, NightRecord, SourceMemo, SourceStat
from schemas.quality import QualityRecord
from tests.support.ledger import overwrite_document, overwrite_memo, overwrite_record


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_whoever_may_not_read_it_is_told_so():
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Ledger(Path(folder)).put(record())
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            ledger = Ledger(Path(folder))
            looks = (lambda: ledger.stamp("20260101"), lambda: list(ledger.records("20260101")))
            os._exit(sum(_refused(look) for look in looks))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


def _refused(look):
    try:
        look()
    except Misconfigured as error:
        return error.code == "not_readable"
    except BaseException:
        return False
    return False


def test_records_come_in_numerical_order_and_by_night(tmp_path):
    ledger = Ledger(tmp_path)
    for visit, detector, night in [(10, 0, "20260101"), (9, 11, "20260101"), (9, 2, "20260101"), (1, 1, "20260102")]:
        ledger.put(record(visit, detector, night))
    ledger.remember(SourceMemo(uri="a", sha256="b", size=1, mtime_ns=2, key=record().key))
    order = [(found.night, found.visit, found.detector) for found in ledger.records()]
    assert order == [("20260101", 9, 2), ("20260101", 9, 11), ("20260101", 10, 0), ("20260102", 1, 1)]
    assert [found.visit for found in ledger.records("20260102")] == [1]
    assert list(ledger.records("20260103")) == []


def test_records_come_in_order_whatever_the_order_of_their_files(tmp_path):
    ledger = Ledger(tmp_path)
    order = [
        (night, visit, detector) for night in ("20260101", "20260102") for visit in (2, 10) for detector in (3, 20)
    ]
    for night, visit, detector in reversed(order):
        ledger.put(record(visit, detector, night))
    assert [(one.night, one.visit, one.detector) for one in ledger.records()] == order
    assert ledger.nights() == ["20260101", "20260102"]
    assert ledger.count() == 8


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
    overwrite_document(tmp_path, "quality", "20260101", quality.model_dump_json()[:-1].encode())
    assert ledger.quality("20260101") is None
    assert [one.code for one in ledger.qualities(["20260101", "20260102"])] == ["damaged_record"]


@pytest.mark.parametrize(
    "change", [lambda content: content.replace(b'"uri":"a"', b'"uri":"c"'), lambda content: content[:-3]]
)
def test_a_memo_under_the_name_of_another_source_or_damaged_is_not_believed(tmp_path, change):
    ledger = Ledger(tmp_path)
    ledger.remember(None)
    assert not (tmp_path / "ledger").exists()
    ledger.remember(SourceMemo(uri="a", sha256="b", size=1, mtime_ns=2, key=record().key))
    overwrite_memo(tmp_path, "a", change)
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
    assert list(ledger.records()) == [gone, kept]
    assert (tmp_path / "catalogs/5.parquet").exists()
    unpublish(gone, tmp_path)
    unpublish(gone, tmp_path)
    assert list(ledger.records()) == [kept]
    assert [path.name for path in (tmp_path / "catalogs").iterdir()] == ["6.parquet"]
    assert not tile_path(tmp_path, gone.key).exists()
    assert tile_path(tmp_path, kept.key).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": "new"}'])
def test_damaged_record_is_done_again(tmp_path, content):
    ledger = Ledger(tmp_path)
    ledger.put(record())
    overwrite_record(tmp_path, record().key, content.encode())
    assert ledger.get(record().key) is None
    assert list(ledger.records()) == []
    (error,) = ledger.entries()
    assert re.search(r"20260101.sqlite 5-3: is not a ledger record.* To fix, run the night again", str(error))


@pytest.mark.parametrize("path", ["../precious", "{there}/precious"])
def test_a_record_that_names_a_file_elsewhere_removes_nothing(tmp_path, path):
    out, precious = tmp_path / "out", tmp_path / "precious"
    precious.write_text("kept")
    known = record(datasets={"hit": DatasetRecord(path="catalogs/5.parquet", digest="d", rows=1, sha256="s")})
    ledger = Ledger(out)
    ledger.put(known)
    named = path.format(there=tmp_path)
    overwrite_record(out, known.key, known.model_dump_json().replace("catalogs/5.parquet", named).encode())
    assert ledger.get(known.key) is None
    (error,) = ledger.entries()
    assert "does not lie in the output folder" in str(error)
    assert precious.read_text() == "kept"


def test_a_record_of_a_later_version_stops_the_run(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put(record())
    now, later = (f'"schema_version":{version}' for version in (LEDGER_VERSION, LEDGER_VERSION + 1))
    overwrite_record(tmp_path, record().key, record().model_dump_json().replace(now, later).encode())
    told = rf"has schema version {LEDGER_VERSION + 1}, .* reads version {LEDGER_VERSION}\. To fix, use the version"
    for read in (lambda: ledger.get(record().key), lambda: list(ledger.records())):
        with pytest.raises(Misconfigured, match=told) as caught:
            read()
        assert caught.value.code == "other_version"
    assert [one.code for one in ledger.entries()] == ["other_version"]


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


def test_the_record_of_a_whole_night_is_no_exposure(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.night("20260101") is None
    record = NightRecord(night="20260101", exposures=2, software="0", finished_at="now")
    ledger.put_night(record)
    assert ledger.night("20260101") == record
    assert (ledger.nights(), ledger.named_nights(), list(ledger.whole_nights())) == ([], ["20260101"], [record])
    overwrite_document(tmp_path, "night", "20260101", b"{}")
    assert ledger.night("20260101") is None
    ledger.remove_night("20260101")
    assert ledger.named_nights() == []


def test_a_source_is_found_by_each_exposure_that_is_from_it_now(tmp_path):
    """Also where what it was taken for before was never withdrawn."""
    ledger = Ledger(tmp_path)
    ledger.put(record(5, source_uri="a"))
    ledger.put(record(6, night="20260102", source_uri="a"))
    ledger.put(record(7, source_uri="b"))
    assert [one.visit for one in Ledger(tmp_path).from_source("a")] == [5, 6]
    ledger.put(record(5, source_uri="b"))
    assert [one.visit for one in ledger.from_source("a")] == [6]
    assert [one.visit for one in ledger.from_source("b")] == [5, 7]
    ledger.remove(record(7).key)
    assert [one.visit for one in ledger.from_source("b")] == [5]
    assert ledger.from_source("c") == []


def test_the_file_of_a_night_goes_with_its_last_record(tmp_path):
    ledger = Ledger(tmp_path)
    for visit in (5, 6):
        ledger.put(record(visit))
    ledger.remove(record(5).key)
    assert ledger.nights() == ["20260101"]
    ledger.remove(record(6).key)
    ledger.remove(record(6).key)
    assert [path.name for path in (tmp_path / "ledger").iterdir()] == ["index.sqlite"]
    ledger.put(record(7))
    assert [one.visit for one in ledger.records()] == [7]


def test_more_records_than_a_page_and_more_nights_than_are_kept_open(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_local, "PAGE", 3)
    monkeypatch.setattr(ledger_local, "OPEN", 2)
    ledger = Ledger(tmp_path)
    nights = [f"2026010{number}" for number in range(1, 5)]
    for visit in (7, 1, 4, 3):
        for night in nights:
            ledger.put(record(visit, visit % 2, night, reason="late: x" if visit == 4 else None))
    assert [(one.night, one.visit) for one in ledger.records()] == [(one, n) for one in nights for n in (1, 3, 4, 7)]
    assert [one.visit for one in ledger.briefs(nights[2])] == [1, 3, 4, 7]
    assert [(one.visit, one.reason) for one in ledger.troubled(nights[2])] == [(4, "late: x")]
    assert ledger.get(record(3, 1, nights[0]).key).visit == 3


def test_a_night_is_stamped_again_with_each_change(tmp_path):
    ledger, stamps = Ledger(tmp_path), [""]
    assert ledger.stamp("20260101") == ""
    for change in (lambda: ledger.put(record()), lambda: ledger.put(record(6)), lambda: ledger.remove(record(6).key)):
        sleep(0.02)  # file systems tell times in steps of some milliseconds
        change()
        stamps.append(ledger.stamp("20260101"))
    assert len(set(stamps)) == 4


def test_what_is_remembered_of_a_night_is_forgotten_with_it(tmp_path):
    ledger = Ledger(tmp_path)
    for name, night in (("a", "20260101"), ("b", "20260102")):
        ledger.remember(SourceMemo(uri=name, sha256="s", size=1, mtime_ns=2, key=record(night=night).key))
    ledger.forget("20260101")
    assert (ledger.remembered("a"), ledger.remembered("b").sha256) == (None, "s")


def test_the_ledger_of_an_earlier_version_is_refused(tmp_path):
    (tmp_path / "ledger/sources").mkdir(parents=True)
    for use in (
        lambda ledger: ledger.get(record().key),
        lambda ledger: ledger.nights(),
        lambda ledger: ledger.put(record()),
    ):
        with pytest.raises(Misconfigured, match="one file per exposure") as caught:
            use(Ledger(tmp_path))
        assert caught.value.code == "other_version"


class Nights:
    """Ledger of nights of which sums are kept, by what they are stamped with then and now; counts what is read."""

    def __init__(self, **nights):
        self.of, self.read, self.left = nights, [], {"kept", "unused", *(f"new {night}" for night in nights)}

    def nights(self):
        return list(self.of)

    def sums(self, night):
        stamp = self.of[night][0]
        sums = {"states": {}, "detections": 0, "lag_s": None, "searched": {}, "referred": ("kept",)}
        return None if stamp is None else SimpleNamespace(stamp=stamp, **sums)

    def stamp(self, night):
        return self.of[night][1]

    def records(self, night):
        self.read.append(night)
        return [SimpleNamespace(provenance=f"new {night}", previous=[SimpleNamespace(provenance=None)])]

    def whole_nights(self):
        return []

    def provenances(self):
        return sorted(self.left)

    def remove_provenance(self, digest):
        self.left.remove(digest)


def test_sums_tell_what_a_night_refers_to_only_while_they_hold():
    ledger = Nights(same=("1", "1"), changed=("1", "2"), unknown=("", ""), none=(None, "1"))
    drop_provenance(ledger)
    assert ledger.read == ["changed", "unknown", "none"]
    assert ledger.left == {"kept", "new changed", "new unknown", "new none"}
