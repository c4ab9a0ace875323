from dataclasses import replace
from datetime import UTC, datetime

import pytest

from flows.inputs.source import Source
from flows.inputs.source_state import sha256_of, stat_of
from flows.nights.recorder import PASSING, Recorder
from flows.pipeline.lineage import Stored, memo_name, trace, verdict_digest
from flows.pipeline.models import model_digests
from flows.pipeline.outcome import Item, Outcome
from flows.storage.digest import content_digest
from flows.storage.ledger import Ledger
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, ExposureKey, PsfModel
from schemas.ledger import PREVIOUS, DatasetRecord
from schemas.settings import Settings
from schemas.summary import CauseCount, Trouble
from stages import PIPELINE

KEY = ExposureKey(night="20260101", visit=7, detector=3)
SETTINGS = Settings()


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path / "out", SETTINGS, PIPELINE, sha256_of)


@pytest.fixture
def item(tmp_path):
    (tmp_path / "a.fits").write_text("content")
    source = Source(str(tmp_path / "a.fits"))
    return Item(source, KEY, stat_of(source))


def lineage(item, sha256="bytes"):
    return trace(item.source, sha256, PIPELINE, model_digests(PIPELINE, SETTINGS), SETTINGS)


def stored(item):
    info = ExposureInfo(
        **KEY.model_dump(), instrument="test", band="g", midpoint_mjd_tai=6e4, exposure_time_s=30, shape=(60, 60),
        psf=PsfModel(fwhm_px=2), background=0, noise=1, source_uri=item.source.uri, source_sha256="bytes",
    )  # fmt: skip
    return Stored(info, lineage(item), {})


def publish(tmp_path, name):
    path = tmp_path / "out" / "catalogs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("rows")
    return DatasetRecord(path=f"catalogs/{name}", digest="d", rows=3, sha256="s")


def test_records_what_is_done_and_withdraws_what_is_not_published_any_more(recorder, item, tmp_path):
    ledger = Ledger(tmp_path / "out")
    causes = {"spike": CauseCount(refused=2, published=1)}
    outcome = Outcome(item, "done", windows=100, unscored=4, detections=3, seconds={"detect": 1.23456}, causes=causes)
    both = {name: publish(tmp_path, name) for name in ("old", "kept")}
    recorder.done(item, stored(item), both, outcome)
    record = ledger.get(KEY)
    assert (record.digest, record.status, record.seconds) == (lineage(item).final, "done", {"detect": 1.2346})
    assert record.causes == causes
    again = Item(item.source, KEY, item.stat, record=record)
    recorder.done(again, stored(item), {"kept": both["kept"]}, outcome)
    assert [path.name for path in (tmp_path / "out" / "catalogs").iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("searched", "whole", "stays"), [(False, True, True), (True, True, False), (False, False, False)]
)
def test_forced_photometry_stays_while_the_detections_do(recorder, item, tmp_path, searched, whole, stays):
    """A new file of orbits, say, makes other catalogues of the same pixels."""
    path = tmp_path / "out" / "catalogs" / "forced.parquet"
    entry = publish(tmp_path, path.name)
    entry = entry.model_copy(update={"sha256": content_digest(path) if whole else "other"})
    recorder.done(item, stored(item), {"forced_source": entry}, Outcome(item, "done"))
    again = replace(item, record=Ledger(tmp_path / "out").get(KEY))
    recorder.done(again, stored(item), {}, Outcome(again, "done", searched=searched))
    assert Ledger(tmp_path / "out").get(KEY).datasets == ({"forced_source": entry} if stays else {})
    assert path.exists() is stays


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_file_in_quarantine_that_was_moved_is_forgotten_once_its_exposure_is_published(
    recorder, item, tmp_path, is_moved
):
    """Its folder is gone, so that the file alone does not say whether a disk is not mounted."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "b.fits").write_text("half")
    bad = replace(item, source=Source(str(tmp_path / "old" / "b.fits")))
    recorder.quarantined(bad, BadInput("truncated", bad.source.uri, "the file ends too early.", "fetch it again."))
    if is_moved:
        (tmp_path / "old").rename(tmp_path / "new")
    item = replace(item, record=Ledger(tmp_path / "out").get(KEY))
    recorder.done(item, stored(item), {}, Outcome(item, "done", windows=1))
    assert [one.source_uri for one in recorder._quarantine.list()] == ([] if is_moved else [bad.source.uri])


def test_files_of_an_exposure_are_recorded_by_plane_and_kept_with_its_tiles(recorder, item, tmp_path):
    ledger, whole = Ledger(tmp_path / "out"), stored(item)
    recorder.done(item, replace(whole, file_sha256=((item.source.uri, "1"),)), {}, Outcome(item, "done"))
    assert ledger.get(KEY).source_files == {}  # one file: `source_uri`, `source_sha256`
    several = replace(item, source=replace(item.source, siblings=(("science", "s"), ("mask", "m"))))
    read = ((item.source.uri, "1"), ("m", "2"), ("s", "3"))
    recorder.done(several, replace(whole, file_sha256=read), {}, Outcome(several, "done"))
    found = ledger.get(KEY).source_files
    assert list(found) == ["difference", "mask", "science"]
    assert [(file.uri, file.sha256) for file in found.values()] == list(read)
    again = replace(several, record=ledger.get(KEY))
    recorder.done(again, whole, {}, Outcome(again, "done"))
    assert ledger.get(KEY).source_files == found
    recorder.done(several, whole, {}, Outcome(several, "done"))  # by an earlier version, which kept no digests
    assert {file.sha256 for file in ledger.get(KEY).source_files.values()} == {None}


def test_remembers_what_a_source_holds(recorder, item, tmp_path):
    recorder.stored(item, stored(item))
    memo = Ledger(tmp_path / "out").remembered(memo_name(item.source, SETTINGS))
    assert (memo.key, memo.sha256, memo.size) == (KEY, "bytes", len("content"))


def test_a_verdict_is_kept_and_takes_back_what_was_published(recorder, item, tmp_path):
    ledger = Ledger(tmp_path / "out")
    recorder.done(item, stored(item), {"a": publish(tmp_path, "a")}, Outcome(item, "done"))
    bad = Item(item.source, KEY, item.stat, "bytes", ledger.get(KEY))
    outcome = recorder.quarantined(bad, BadInput("all_nan", item.source.uri, "has no pixel.", "fetch it."))
    assert (outcome.status, outcome.trouble.code) == ("quarantined", "all_nan")
    record = ledger.get(KEY)
    assert (record.status, record.datasets) == ("quarantined", {})
    assert record.digest == verdict_digest(lineage(item).final, SETTINGS)
    assert list((tmp_path / "out" / "catalogs").iterdir()) == []
    reasons = list((tmp_path / "out" / "quarantine").iterdir())
    assert len(reasons) == 1
    recorder.done(item, stored(item), {}, Outcome(item, "done"))
    assert list((tmp_path / "out" / "quarantine").iterdir()) == []


@pytest.mark.parametrize("code", sorted(PASSING))
def test_what_says_nothing_of_the_file_is_no_verdict(recorder, item, tmp_path, code):
    recorder.quarantined(item, BadInput(code, "where", "is wrong.", "mend it."))
    assert Ledger(tmp_path / "out").get(KEY) is None


def test_a_file_that_cannot_be_read_any_more_has_no_verdict(recorder, item, tmp_path):
    (tmp_path / "a.fits").unlink()
    assert recorder.quarantined(item, BadInput("unreadable_file", "x", "is gone.", "find it.")).status == "quarantined"
    assert Ledger(tmp_path / "out").get(KEY) is None


@pytest.mark.parametrize("ends", ["done", "quarantined"])
def test_what_the_source_was_taken_for_before_is_withdrawn(recorder, item, tmp_path, ends):
    ledger = Ledger(tmp_path / "out")
    other = ExposureKey(night="20260101", visit=8, detector=3)
    recorder.done(item, stored(item), {"a": publish(tmp_path, "a")}, Outcome(item, "done"))
    now = replace(item, key=other, superseded=(ledger.get(KEY),))
    if ends == "done":
        recorder.done(now, stored(now), {"b": publish(tmp_path, "b")}, Outcome(now, "done"))
    else:
        recorder.quarantined(now, BadInput("all_nan", item.source.uri, "has no pixel.", "fetch it."))
    assert [record.visit for record in ledger.records()] == [8]
    assert [path.name for path in (tmp_path / "out" / "catalogs").iterdir()] == ["b"] * (ends == "done")


def test_a_failure_that_cannot_be_recorded_is_told_all_the_same(recorder, item, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ledger").write_text("in the way")
    trouble = Trouble(uri=item.source.uri, code="disk_full", message="no space")
    assert recorder.failed(item, trouble).trouble == trouble
    assert (tmp_path / "out" / "ledger").read_text() == "in the way"


def test_what_was_published_before_is_told_the_latest_first_up_to_a_limit(recorder, item, tmp_path):
    """A run with the same result, and one after a failure that published nothing, replace nothing."""
    ledger, now = Ledger(tmp_path / "out"), stored(item)

    def done(record):
        recorder.done(replace(item, record=record), now, {}, Outcome(item, "done", detections=2))
        return ledger.get(KEY)

    same = done(None)
    assert same.previous == ()
    assert done(same).previous == ()
    for count in range(1, PREVIOUS + 3):
        other = ledger.get(KEY).model_copy(update={"digest": f"digest {count}", "detections": count})
        found = done(other).previous
        assert [one.digest for one in found] == [f"digest {n}" for n in range(count, max(0, count - PREVIOUS), -1)]
        assert found[0].detections == count
    failed = ledger.get(KEY).model_copy(update={"status": "failed", "digest": "", "previous": found[:2]})
    assert done(failed).previous == found[:2]


@pytest.mark.parametrize(
    ("searched", "known", "windows"), [(True, True, (7, 2)), (False, True, (100, 4)), (False, False, (7, 2))]
)
def test_windows_are_those_that_the_detections_come_from(recorder, item, tmp_path, searched, known, windows):
    recorder.done(item, stored(item), {}, Outcome(item, "done", windows=100, unscored=4))
    now = replace(item, record=Ledger(tmp_path / "out").get(KEY) if known else None)
    recorder.done(now, stored(now), {}, Outcome(now, "done", windows=7, unscored=2, searched=searched))
    record = Ledger(tmp_path / "out").get(KEY)
    assert (record.windows, record.windows_unscored) == windows


@pytest.mark.parametrize("before", ["done", "quarantined", None])
def test_a_failure_leaves_what_is_published_and_is_recorded_as_the_reason(recorder, item, tmp_path, before):
    ledger = Ledger(tmp_path / "out")
    if before is not None:
        recorder.done(item, stored(item), {"a": publish(tmp_path, "a")}, Outcome(item, "done"))
        ledger.put(ledger.get(KEY).model_copy(update={"status": before}))
    now = replace(item, record=ledger.get(KEY), sha256="bytes")
    outcome = recorder.failed(now, Trouble(uri=item.source.uri, code="io_error", message="timed out"))
    record = ledger.get(KEY)
    assert (outcome.status, record.reason) == ("failed", "io_error: timed out")
    assert record.status == ("done" if before == "done" else "failed")
    assert set(record.datasets) == ({"a"} if before == "done" else set())
    assert record.source_sha256 == "bytes"
    assert (tmp_path / "out" / "catalogs" / "a").exists() == (before is not None)


def test_the_end_of_the_exposure_is_kept_to_the_millisecond_and_nothing_of_one_that_is_not_known(
    recorder, item, tmp_path
):
    closed = datetime(2026, 1, 1, 3, 4, 5, 678_901, tzinfo=UTC)
    for given, kept in ((closed, "2026-01-01T03:04:05.678+00:00"), (None, None)):
        recorder.done(item, stored(item), {}, Outcome(item, "done", exposure_ended=given))
        assert Ledger(tmp_path / "out").get(KEY).shutter_closed_at == kept


@pytest.mark.parametrize("known", ["bytes", None])
def test_a_verdict_reads_the_file_only_if_its_digest_is_not_known(item, tmp_path, known):
    read = []

    def digest(source, settings):
        read.append(source)
        return "read now"

    recorder = Recorder(tmp_path / "out", SETTINGS, PIPELINE, digest)
    recorder.quarantined(replace(item, sha256=known), BadInput("all_nan", "where", "has no pixel.", "fetch it."))
    assert read == ([] if known else [item.source])
    ledger = Ledger(tmp_path / "out")
    assert ledger.get(KEY).source_sha256 == (known or "read now")
    assert ledger.remembered(memo_name(item.source, SETTINGS)).sha256 == (known or "read now")


@pytest.mark.parametrize("ends", ["done", "quarantined"])
def test_what_is_to_be_withdrawn_may_be_gone_already(recorder, item, tmp_path, ends):
    gone = publish(tmp_path, "a")
    recorder.done(item, stored(item), {"a": gone}, Outcome(item, "done"))
    (tmp_path / "out" / "catalogs" / "a").unlink()
    again = replace(item, record=Ledger(tmp_path / "out").get(KEY))
    if ends == "done":
        recorder.done(again, stored(item), {}, Outcome(item, "done"))
    else:
        recorder.quarantined(again, BadInput("all_nan", "where", "has no pixel.", "fetch it."))
    assert Ledger(tmp_path / "out").get(KEY).status == ends
