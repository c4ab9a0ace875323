from dataclasses import replace

import pytest

from flows.inputs.source import Source
from flows.inputs.source_state import sha256_of, stat_of
from flows.nights.recorder import PASSING, Recorder
from flows.pipeline.lineage import Stored, memo_name, trace, verdict_digest
from flows.pipeline.models import model_digests
from flows.pipeline.outcome import Item, Outcome
from flows.storage.ledger import Ledger
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, ExposureKey, PsfModel
from schemas.ledger import DatasetRecord
from schemas.settings import Settings
from schemas.summary import CauseCount, Trouble
from stages import PIPELINE

KEY = ExposureKey(night="20260101", visit=7, detector=3)
SETTINGS = Settings()


@pytest.fixture
def books(tmp_path):
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
    return Stored(info, lineage(item), False, {})


def publish(tmp_path, name):
    path = tmp_path / "out" / "catalogs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("rows")
    return DatasetRecord(path=f"catalogs/{name}", digest="d", rows=3, sha256="s")


def test_records_what_is_done_and_withdraws_what_is_not_published_any_more(books, item, tmp_path):
    ledger = Ledger(tmp_path / "out")
    causes = {"spike": CauseCount(refused=2, published=1)}
    outcome = Outcome(item, "done", windows=100, unscored=4, detections=3, seconds={"detect": 1.23456}, causes=causes)
    both = {name: publish(tmp_path, name) for name in ("old", "kept")}
    books.done(item, stored(item), both, outcome)
    record = ledger.get(KEY)
    assert (record.digest, record.status, record.seconds) == (lineage(item).final, "done", {"detect": 1.2346})
    assert record.causes == causes
    again = Item(item.source, KEY, item.stat, record=record)
    books.done(again, stored(item), {"kept": both["kept"]}, outcome)
    assert [path.name for path in (tmp_path / "out" / "catalogs").iterdir()] == ["kept"]


def test_remembers_what_a_source_holds(books, item, tmp_path):
    books.stored(item, stored(item))
    memo = Ledger(tmp_path / "out").remembered(memo_name(item.source, SETTINGS))
    assert (memo.key, memo.sha256, memo.size) == (KEY, "bytes", len("content"))


def test_a_verdict_is_kept_and_takes_back_what_was_published(books, item, tmp_path):
    ledger = Ledger(tmp_path / "out")
    books.done(item, stored(item), {"a": publish(tmp_path, "a")}, Outcome(item, "done"))
    bad = Item(item.source, KEY, item.stat, "bytes", ledger.get(KEY))
    outcome = books.quarantined(bad, BadInput("all_nan", item.source.uri, "has no pixel.", "fetch it."))
    assert (outcome.status, outcome.trouble.code) == ("quarantined", "all_nan")
    record = ledger.get(KEY)
    assert (record.status, record.datasets) == ("quarantined", {})
    assert record.digest == verdict_digest(lineage(item).final, SETTINGS)
    assert list((tmp_path / "out" / "catalogs").iterdir()) == []
    reasons = list((tmp_path / "out" / "quarantine").iterdir())
    assert len(reasons) == 1
    books.done(item, stored(item), {}, Outcome(item, "done"))
    assert list((tmp_path / "out" / "quarantine").iterdir()) == []


@pytest.mark.parametrize("code", sorted(PASSING))
def test_what_says_nothing_of_the_file_is_no_verdict(books, item, tmp_path, code):
    books.quarantined(item, BadInput(code, "where", "is wrong.", "mend it."))
    assert Ledger(tmp_path / "out").get(KEY) is None


def test_a_file_that_cannot_be_read_any_more_has_no_verdict(books, item, tmp_path):
    (tmp_path / "a.fits").unlink()
    assert books.quarantined(item, BadInput("unreadable_file", "x", "is gone.", "find it.")).status == "quarantined"
    assert Ledger(tmp_path / "out").get(KEY) is None


@pytest.mark.parametrize("ends", ["done", "quarantined"])
def test_what_the_source_was_taken_for_before_is_withdrawn(books, item, tmp_path, ends):
    ledger = Ledger(tmp_path / "out")
    other = ExposureKey(night="20260101", visit=8, detector=3)
    books.done(item, stored(item), {"a": publish(tmp_path, "a")}, Outcome(item, "done"))
    now = replace(item, key=other, superseded=(ledger.get(KEY),))
    if ends == "done":
        books.done(now, stored(now), {"b": publish(tmp_path, "b")}, Outcome(now, "done"))
    else:
        books.quarantined(now, BadInput("all_nan", item.source.uri, "has no pixel.", "fetch it."))
    assert [record.visit for record in ledger.records()] == [8]
    assert [path.name for path in (tmp_path / "out" / "catalogs").iterdir()] == ["b"] * (ends == "done")


def test_a_failure_that_cannot_be_recorded_is_told_all_the_same(books, item, tmp_path):
    (tmp_path / "out" / "ledger").mkdir(parents=True)
    (tmp_path / "out" / "ledger" / "provenance").write_text("in the way")
    trouble = Trouble(uri=item.source.uri, code="disk_full", message="no space")
    assert books.failed(item, trouble).trouble == trouble
    assert Ledger(tmp_path / "out").get(KEY) is None
