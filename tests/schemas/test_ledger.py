import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import ledger as module
from schemas.exposure import ExposureKey
from schemas.ledger import (
    DatasetRecord,
    ExposureRecord,
    NightRecord,
    Percentiles,
    Previous,
    QuarantineRecord,
    SourceMemo,
    SourceStat,
    WatchRecord,
)

VALUES = {
    "night": "20260101",
    "visit": 5,
    "detector": 3,
    "source_uri": "a",
    "source_sha256": "b",
    "digest": "c",
    "software": "0.1.0",
    "finished_at": "2026-01-02T03:04:05+00:00",
}


@given(
    visit=st.integers(0, 2**42 - 1),
    detector=st.integers(0, 2**9 - 1),
    seconds=st.dictionaries(st.text(), st.floats(0, 1e6)),
    rows=st.integers(0),
)
def test_goes_through_json_unchanged(visit, detector, seconds, rows):
    datasets = {"hit": DatasetRecord(path="é", digest="d", rows=rows, sha256="s")}
    changes = {"visit": visit, "detector": detector, "seconds": seconds, "datasets": datasets}
    record = ExposureRecord(**(VALUES | changes))
    assert ExposureRecord.model_validate_json(record.model_dump_json()) == record
    assert record.key == ExposureKey(night="20260101", visit=visit, detector=detector)


@pytest.mark.parametrize(
    "change",
    [
        {"visit": 2**42},
        {"detector": 512},
        {"night": "2026-01-01"},
        {"status": "lost"},
        {"windows": -1},
        {"detections": -1},
        {"invented": 1},
    ],
)
def test_refuses_what_is_out_of_range(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        ExposureRecord(**(VALUES | change))


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../a", "a/../../b", "a/..", ".", "a//b", "a/", "./a", "s3://bucket/a", "a\0b"]
)
def test_a_file_lies_in_the_output_folder(path):
    with pytest.raises(ValidationError, match="does not lie in the output folder"):
        DatasetRecord(path=path, digest="d", rows=0, sha256="s")
    assert (
        DatasetRecord(path="catalogs/a..b/c.parquet", digest="d", rows=0, sha256="s").path == "catalogs/a..b/c.parquet"
    )


@pytest.mark.parametrize(
    ("kind", "given", "counts", "least"),
    [
        (SourceStat, {"size": 0, "mtime_ns": -1}, ["size"], 0),
        (DatasetRecord, {"path": "a", "digest": "d", "rows": 0, "sha256": "s"}, ["rows"], 0),
        (
            Previous,
            {"digest": "d", "provenance": None, "files": {}, "detections": 0, "finished_at": "now"},
            ["detections"],
            0,
        ),
        (ExposureRecord, VALUES, ["windows", "windows_unscored", "detections"], 0),
        (
            NightRecord,
            {"night": "20260101", "exposures": 0, "software": "0", "finished_at": "now"},
            ["exposures"],
            0,
        ),
        (Percentiles, {"n": 1, "p50": 0.0, "p99": 0.0}, ["n"], 1),
    ],
)
def test_counts_go_down_to_nothing_and_no_further(kind, given, counts, least):
    for name in counts:
        assert getattr(kind(**(given | {name: least})), name) == least
        with pytest.raises(ValidationError, match=name):
            kind(**(given | {name: least - 1}))


def test_what_an_exposure_holds_to_begin_with_is_nothing():
    record = ExposureRecord(**VALUES)
    assert (record.windows, record.windows_unscored, record.detections) == (0, 0, 0)
    assert (record.status, record.reason, record.datasets, record.previous) == ("done", None, {}, ())


@pytest.mark.parametrize("night", ["2026-01-01", "2026010", "202601011", "x20260101", "20260101x"])
def test_a_night_is_eight_digits(night):
    with pytest.raises(ValidationError, match="night"):
        NightRecord(night=night, exposures=0, software="0", finished_at="now")
    with pytest.raises(ValidationError, match="night"):
        ExposureKey(night=night, visit=1, detector=1)


def test_records_cannot_be_changed():
    key = ExposureKey(night="20260101", visit=5, detector=3)
    memo = SourceMemo(uri="a", sha256="b", size=1, mtime_ns=2, key=key)
    with pytest.raises(ValidationError, match="frozen"):
        memo.size = 2
    with pytest.raises(ValidationError, match="severity"):
        QuarantineRecord(code="a", where="b", problem="c", remedy="d", source_uri="e", when="f", severity="high")


def test_records_are_of_version_1_and_closed():
    assert (module.LEDGER_VERSION, module.PREVIOUS) == (1, 8)
    assert ExposureRecord(**VALUES).schema_version == 1
    assert NightRecord(night="20260101", exposures=0, software="0", finished_at="now").schema_version == 1


def test_a_stream_counts_from_nothing():
    counts = {"seen": 0, "done": 0, "skipped": 0, "quarantined": 0, "failed": 0}
    values = {
        "state": "running", "source": "a", "host": "b", "pid": 1, "since": "c", "updated_at": "d", "on_the_way": 0,
        "waiting": 0, "exposures": counts,
    }  # fmt: skip
    assert WatchRecord(**values).lag_s is None
    for name in ("on_the_way", "waiting"):
        with pytest.raises(ValidationError, match=name):
            WatchRecord(**(values | {name: -1}))
