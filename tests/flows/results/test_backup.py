import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

import numpy as np
import pytest

from flows.publish.outbox import opened_outbox
from flows.results import backup
from flows.results.backup import (
    Copied,
    _copy_files,
    _Totals,
    backup_output,
    copy_database,
    recorded_files,
    restore_output,
)
from flows.results.verify import verify_output
from flows.storage.array_store import ArrayStore
from flows.storage.atomic import STAGED
from flows.storage.bucket_path import located
from flows.storage.catalog_store import CatalogStore
from flows.storage.compaction import compact
from flows.storage.lease import lease
from flows.storage.ledger import Ledger, unpublish
from flows.storage.quarantine import Quarantine
from schemas.dataset import ArrayOf
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.injection import INJECTION
from schemas.ledger import NightRecord
from schemas.negative import NEGATIVE
from tests.support.exposure import exposure_record
from tests.support.night import DETECTORS, VISITS, catalogues
from tests.support.unwritable import nobody_may_write

pytest_plugins = ("tests.support.night_fixture",)
TABLES = {"dia_source": DIA_SOURCE, "injection": INJECTION, "negative": NEGATIVE}
ALL = VISITS * DETECTORS


@pytest.fixture
def out(uninterrupted, tmp_path):
    """A copy of a finished night, with something in quarantine."""
    out = shutil.copytree(uninterrupted[1], tmp_path / "out")
    Quarantine(out).put(BadInput("flood", "x.fits", "too many.", "look."), "x.fits")
    return out


def test_what_is_restored_is_what_was_backed_up(out, tmp_path):
    with lease(out):  # a run may go on
        copied = backup_output(out, tmp_path / "to")
    assert copied.files == len([path for path in (tmp_path / "to").rglob("*") if path.is_file()])
    assert not (tmp_path / "to/tiles").exists()
    before, records = catalogues(out), list(Ledger(out).records())
    pages = (out / "reports" / records[0].night / "index.html").read_bytes()
    shutil.rmtree(out)
    restored, found = restore_output(tmp_path / "to", out, TABLES)
    assert (found.problems, found.exposures, found.quarantined) == ((), ALL, 1)
    assert (restored.files, restored.bytes) == (copied.files, copied.bytes)
    assert (catalogues(out), list(Ledger(out).records())) == (before, records)
    assert (out / "reports" / records[0].night / "index.html").read_bytes() == pages
    assert not (out / "lease.json").exists()


def test_a_run_goes_on_where_the_backup_was(nightstride_run, raw_night, out, tmp_path):
    backup_output(out, tmp_path / "to")
    restore_output(tmp_path / "to", tmp_path / "new", TABLES)
    run = nightstride_run.here(raw_night, "--out", tmp_path / "new")
    assert run.counts == (ALL, 0, ALL, 0, 0), run.stderr


def test_a_second_backup_copies_what_has_changed(out, tmp_path):
    first = backup_output(out, tmp_path / "to")
    assert first.kept == 0  # into a new folder: each file is copied, and none was there
    again = backup_output(out, tmp_path / "to")
    assert again == Copied(0, 0, first.files)
    record = next(Ledger(out).records())
    Ledger(out).put(record.model_copy(update={"reason": "disk_full: no space"}))
    third = backup_output(out, tmp_path / "to")
    assert (third.files, third.kept) == (1, first.files - 1)
    assert next(Ledger(tmp_path / "to").records()).reason == "disk_full: no space"


def test_nothing_is_removed_from_a_backup_and_what_is_not_published_is_left_out(out, tmp_path):
    (out / "catalogs/dia_source/.x.staging").write_text("half")
    first = backup_output(out, tmp_path / "to")
    assert not list((tmp_path / "to").rglob("*.staging"))
    for lost in ("ledger", "catalogs"):
        shutil.rmtree(out / lost)
        backup_output(out, tmp_path / "to")
        assert len([path for path in (tmp_path / "to").rglob("*") if path.is_file()]) == first.files


def test_what_was_withdrawn_does_not_come_back(out, tmp_path):
    ledger, night = Ledger(out), next(Ledger(out).records()).night
    backup_output(out, tmp_path / "to")
    gone = next(ledger.records())
    unpublish(gone, out)
    backup_output(out, tmp_path / "to")
    _, found = restore_output(tmp_path / "to", tmp_path / "new", TABLES)
    assert (found.problems, found.exposures) == ((), ALL - 1)
    for record in ledger.records():
        unpublish(record, out)
    backup_output(out, tmp_path / "to")
    assert not (tmp_path / "to/ledger" / f"{night}.sqlite").exists()


def test_an_array_that_was_made_again_with_fewer_files_is_as_it_is_now(out, tmp_path):
    form, ledger, night = ArrayOf("stamps", "float32", ("thing",), "nJy"), Ledger(out), "20260109"
    for rows in (300, 5):
        entry = ArrayStore(out).publish(form, night, np.arange(rows, dtype=np.float32), "d", {"id": np.arange(rows)})
        made = {"exposures": 1, "software": "0", "finished_at": "now"}
        ledger.put_night(NightRecord(night=night, datasets={"stamps": entry}, **made))
        sleep(0.02)  # file systems tell times in steps of some milliseconds
        backup_output(out, tmp_path / "to")
    _, found = restore_output(tmp_path / "to", tmp_path / "new", TABLES)
    assert found.problems == ()


def test_parts_are_backed_up_and_an_exposure_of_which_one_holds_another_state_is_its_own_file(tmp_path):
    out, to = tmp_path / "out", tmp_path / "to"
    ledger, store = Ledger(out), CatalogStore(out)
    for visit in (1, 2):
        record = exposure_record(visit=visit)
        path = store.publish(DIA_SOURCE, record.key, DIA_SOURCE.empty(), "d")
        ledger.put(record.model_copy(update={"datasets": {"dia_source": store.record(path)}}))
    compact(out, record.night, 2, lambda function, *given: function(*given))
    (part,) = recorded_files(out)
    for _ in range(2):
        backup_output(out, to)
        assert list(recorded_files(to)) == [to / part.relative_to(out)]
    entry = ledger.get(record.key).datasets["dia_source"].model_copy(update={"sha256": "of another search"})
    ledger.put(record.model_copy(update={"datasets": {"dia_source": entry}}))
    assert list(recorded_files(out)) == [path, part]


def test_what_is_left_of_a_killed_backup_is_in_the_way_of_none(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as one, one:
        one.execute("CREATE TABLE t (n)")
    (tmp_path / f".b.sqlite{STAGED}").write_bytes(b"half of another" * 99)
    copy_database(tmp_path / "a.sqlite", tmp_path / "b.sqlite")
    with closing(sqlite3.connect(tmp_path / "b.sqlite")) as copy:
        assert copy.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]


def test_the_index_of_a_ledger_is_copied_after_its_nights(out, tmp_path, monkeypatch):
    copied = []
    monkeypatch.setattr(backup, "copy_database", lambda path, to: copied.append(path.name) or copy_database(path, to))
    restore_output(out, tmp_path / "new", TABLES)
    assert [one.startswith("2") for one in copied if (out / "ledger" / one).exists()] == [True, False]


def test_a_damaged_ledger_is_named(out, tmp_path):
    (path,) = (out / "ledger").glob("2*.sqlite")
    path.write_bytes(b"no database " * 99)
    with pytest.raises(Misconfigured, match=path.name) as caught:
        backup_output(out, tmp_path / "to")
    assert caught.value.code == "damaged_ledger"


@pytest.mark.parametrize("first", [1, 4])  # pages that stay: SQLite copies all others as they are
def test_a_database_with_damaged_pages_does_not_replace_its_backup(out, tmp_path, first):
    backup_output(out, tmp_path / "to")
    (path,) = (out / "ledger").glob("2*.sqlite")
    before = (tmp_path / "to/ledger" / path.name).read_bytes()
    content = path.read_bytes()
    path.write_bytes(content[: first * 4096] + b"x" * (len(content) - first * 4096))
    with pytest.raises(Misconfigured, match=path.name) as caught:
        backup_output(out, tmp_path / "to")
    assert caught.value.code == "damaged_ledger"
    assert (tmp_path / "to/ledger" / path.name).read_bytes() == before
    assert not list((tmp_path / "to").rglob(f"*{STAGED}"))


@pytest.mark.parametrize("lost", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_lost_ledger_stays_in_the_backup(out, tmp_path, lost):
    backup_output(out, tmp_path / "to")
    (path,) = (out / "ledger").glob("2*.sqlite")
    lost(path)
    backup_output(out, tmp_path / "to")
    _, found = restore_output(tmp_path / "to", tmp_path / "new", TABLES)
    assert (Ledger(tmp_path / "new").count(), found.problems) == (ALL, ())


def test_a_ledger_in_the_middle_of_a_change_is_copied_as_before_it(out, tmp_path):
    night = next(Ledger(out).records()).night
    with closing(sqlite3.connect(out / "ledger" / f"{night}.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM exposure")
        backup_output(out, tmp_path / "to")
        other.execute("ROLLBACK")
    assert Ledger(tmp_path / "to").count() == ALL


def test_an_outbox_is_copied_from_where_nothing_can_be_written():
    with TemporaryDirectory() as top:  # that of pytest is its user's alone
        there, to = Path(top, "alerts"), Path(top, "to")
        to.mkdir()
        for folder in (Path(top), to):
            folder.chmod(0o777)
        with opened_outbox(Path(top), there / "outbox.sqlite") as box:
            route = box.route("folder", "11.1")
        (there / "outbox.sqlite").chmod(0o644)
        with nobody_may_write(there):
            assert copy_database(there / "outbox.sqlite", to / "outbox.sqlite")
        with opened_outbox(Path(top), to / "outbox.sqlite") as box:
            assert box.route("folder", "11.1") == route


def test_damage_of_a_backup_is_told(out, tmp_path):
    backup_output(out, tmp_path / "to")
    next((tmp_path / "to/catalogs/dia_source").rglob("*.parquet")).write_bytes(b"PAR1")
    _, found = restore_output(tmp_path / "to", tmp_path / "new", TABLES)
    assert [one.code for one in found.problems] == ["unreadable_catalogue"]
    assert verify_output(tmp_path / "new", TABLES).problems == found.problems


def test_what_makes_no_sense_is_refused(out, tmp_path):
    backup_output(out, tmp_path / "to")
    (tmp_path / "link").symlink_to(out)
    for code, use in {
        "no_output": lambda: backup_output(tmp_path / "none", tmp_path / "other"),
        "bad_backup": lambda: backup_output(out, tmp_path / "link" / "backup"),
        "not_empty": lambda: restore_output(tmp_path / "to", out, TABLES),
        "local_folder": lambda: backup_output(located("s3://bucket/out"), tmp_path / "other"),
    }.items():
        with pytest.raises(Misconfigured) as caught:
            use()
        assert caught.value.code == code
    with pytest.raises(Misconfigured, match="not an output folder"):
        restore_output(tmp_path / "none", tmp_path / "new", TABLES)


def test_of_an_array_no_file_stays_that_it_has_not_any_more(tmp_path):
    source, to = tmp_path / "out", tmp_path / "copy"
    for folder, names in ((source, ("a.zarr/0", "b/1", "c.zarr/d/2")), (to, ("a.zarr/old", "b/old", "c.zarr/d/old"))):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
    _copy_files(source, to, sorted(one for one in source.rglob("*") if one.is_file()), _Totals())
    found = {one.relative_to(to).as_posix() for one in to.rglob("*") if one.is_file()}
    assert found == {"a.zarr/0", "b/1", "b/old", "c.zarr/d/2"}
