"""What is left of pruned nights: nothing, on this machine and in a bucket."""

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import date

import numpy as np
import pytest

from flows.publish.outbox import opened_outbox
from flows.results.prune import Room, nights_to_prune, prune_by_policy, removals, room_of, take_out, total
from flows.results.verify import verify_output
from flows.storage.atomic import write_file
from flows.storage.bucket_path import BucketPath, files_below
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import outbox_path
from flows.storage.lease import lease
from flows.storage.ledger import Ledger
from flows.storage.night_sums import settle
from flows.storage.object_store import configure
from flows.storage.quarantine import Quarantine
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, NightRecord, Previous, ProvenanceRecord, SourceMemo
from schemas.quality import QualityRecord
from schemas.settings import PruneSettings, Settings, StoreSettings
from tests.support.ledger import overwrite_document
from tests.support.memory_store import bucket_in_memory

pytest_plugins = ("tests.support.s3_fixture",)

NIGHTS = ("20260101", "20260102", "20260103", "20260104")
LATER = date(2026, 2, 1)
MADE = {"software": "1", "finished_at": "2026-01-01T00:00:00+00:00"}


def provenance(text):
    return ProvenanceRecord(settings={"of": text}, models={}, stages={}, software="1", code="c")


def add_night(out, night):
    """Leave of a night what runs do: three exposures, one of them in quarantine, a copy, a nameless file, its page."""
    ledger, store, quarantine = Ledger(out), CatalogStore(out), Quarantine(out)
    own, before, of_all = (ledger.put_provenance(provenance(text)) for text in (night, f"{night} before", "all"))
    replaced = Previous(digest="d", provenance=before, files={}, detections=0, finished_at=MADE["finished_at"])
    for visit in (1, 2, 3):
        key, uri = ExposureKey(night=night, visit=visit, detector=0), f"/raw/{night}/{visit}.fits"
        for name in (uri, f"{uri}.copy"):
            ledger.remember(SourceMemo(uri=f"{name} 0123", sha256="ab", size=1, mtime_ns=2, key=key))
        made = {"source_uri": uri, "source_sha256": "ab", "digest": "cd", "provenance": own, **MADE}
        if visit == 3:
            quarantine.put(BadInput("truncated", uri, "ends early.", "fetch it again."), uri, key)
            ledger.put(ExposureRecord(**key.model_dump(), status="quarantined", reason="truncated: x", **made))
            continue
        path = store.publish(DIA_SOURCE, key, DIA_SOURCE.empty(), "cd")
        datasets = {"dia_source": store.record(path)}
        ledger.put(ExposureRecord(**key.model_dump(), datasets=datasets, previous=(replaced,), **made))
    ledger.put_night(NightRecord(night=night, exposures=2, provenance=of_all, **MADE))
    ledger.put_quality(QualityRecord(night=night, digest="d", rules="r", measured=(), judged=(), software="1"))
    write_file(out / "reports" / night / "index.html", b"the page", out / "staging")
    settle(ledger, [night])


def prune(out, keep):
    nights = nights_to_prune(out, keep, None, LATER)
    listed = removals(out, nights, Settings(), irreplaceable=True)
    with lease(out):
        take_out(out, listed)


def size(out):
    """Return how many files or objects there are by folder, and rows in the ledger by table."""
    found = Counter(path.relative_to(out).parts[0] for path in files_below(out))
    if isinstance(out, BucketPath):
        found["held"] = sum("held" in path.parts for path in files_below(out))
    else:
        found["folders"] = sum(path.is_dir() for path in out.rglob("*") if path.name != "staging")
    for path in files_below(out / "ledger"):
        if path.suffix == ".sqlite":
            with closing(sqlite3.connect(":memory:")) as database:
                database.deserialize(path.read_bytes())
                tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                found.update({t: database.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for (t,) in tables})
    return found


def test_an_output_folder_from_which_nights_were_pruned_is_one_that_never_had_them(out):
    sizes = []
    with lease(out):
        add_night(out, NIGHTS[0])
    sizes.append(size(out))
    for night in NIGHTS[1:]:
        with lease(out):
            add_night(out, night)
        grown = size(out)
        prune(out, 1)
        sizes.append(size(out))
        assert Ledger(out).nights() == Ledger(out).remembered_nights() == [night]
        assert all(grown[name] >= sizes[0][name] for name in grown)
        assert grown.total() > 1.5 * sizes[0].total()
    for name in sizes[0]:
        slope = np.polyfit(range(len(sizes)), [one[name] for one in sizes], 1)[0]
        assert slope == pytest.approx(0, abs=1e-9), (name, sizes)
    assert sizes[-1] == sizes[0]
    assert verify_output(out, {"dia_source": DIA_SOURCE}).problems == ()
    assert [one.key.night for one in Quarantine(out).list()] == [NIGHTS[-1]]
    kept = next(Ledger(out).records())
    assert Ledger(out).provenance(kept.provenance) == provenance(NIGHTS[-1])
    assert Ledger(out).provenance(kept.previous[0].provenance) == provenance(f"{NIGHTS[-1]} before")
    assert Ledger(out).provenance(Ledger(out).night(NIGHTS[-1]).provenance) == provenance("all")
    assert Ledger(out).remembered(f"{kept.source_uri} 0123").key == kept.key
    assert Ledger(out).from_source(kept.source_uri) == [kept]


def test_a_prune_that_was_killed_is_finished_by_the_next(tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    with lease(out), lease(other):
        for night in NIGHTS[:2]:
            add_night(out, night)
        add_night(other, NIGHTS[1])
    listed = removals(out, NIGHTS[:1], Settings(), irreplaceable=True)
    for one in listed[:-1]:
        take_out(out, [one])
    assert nights_to_prune(out, 1, None, LATER) == NIGHTS[:1]
    prune(out, 1)
    assert size(out) == size(other)


def test_the_policy_of_a_run_removes_provenance_that_nothing_refers_to(out):
    with lease(out):
        add_night(out, NIGHTS[0])
        unused = Ledger(out).put_provenance(provenance("of a run whose results were replaced since"))
        before = Ledger(out).provenances()
        prune_by_policy(out, Settings(prune=PruneSettings(keep_nights=1)), LATER)
        assert set(Ledger(out).provenances()) == set(before) - {unused}


def test_provenance_stays_while_a_record_cannot_say_what_it_refers_to(tmp_path):
    with lease(tmp_path):
        add_night(tmp_path, NIGHTS[0])
        before = Ledger(tmp_path).provenances()
        unused = Ledger(tmp_path).put_provenance(provenance("unused"))
        overwrite_document(tmp_path, "night", NIGHTS[0], b"{")
        prune_by_policy(tmp_path, Settings(prune=PruneSettings(keep_nights=1)), LATER)
    assert Ledger(tmp_path).provenances() == sorted([*before, unused])


def test_what_was_sent_of_a_pruned_night_is_forgotten_and_of_others_kept(tmp_path):
    add_night(tmp_path, NIGHTS[0])
    (memory,) = [one for one in removals(tmp_path, NIGHTS[:1], Settings(), True) if one.kind == "memory"]
    take_out(tmp_path, [memory])
    assert not outbox_path(tmp_path).exists()  # nothing was sent, and nothing is made to forget it
    with opened_outbox(tmp_path) as box:
        route = box.route("somewhere", "11.1")
        for night in NIGHTS[:2]:
            box.owe(route, night, 1)
    take_out(tmp_path, [memory])
    with opened_outbox(tmp_path) as box:
        assert box.owed(route) == {(NIGHTS[1], 1)}


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_what_is_gone_already_costs_nothing_and_takes_no_room(tmp_path, monkeypatch, where):
    """As two prunes would do that listed the same, one after the other."""
    out = tmp_path / "out" if where == "folder" else bucket_in_memory(monkeypatch, "pruned")[0]
    with lease(out):
        add_night(out, NIGHTS[0])
        add_night(out, NIGHTS[1])
    listed = removals(out, NIGHTS[:1], Settings(), irreplaceable=True)
    assert {one.kind for one in listed} == {"exposure", "night", "quarantine", "report", "memory"}
    assert all(room_of(out, one).bytes > 0 for one in listed if one.kind in ("report", "quarantine"))
    with lease(out):
        for _ in range(2):
            take_out(out, listed)
    assert total(room_of(out, one) for one in listed) == Room()
    assert removals(out, NIGHTS[:1], Settings(), irreplaceable=True) == []
    assert {path.name for path in (out / "reports").iterdir()} == {NIGHTS[1]}
    assert len(CatalogStore(out).list(DIA_SOURCE)) == 2
    configure(StoreSettings())
