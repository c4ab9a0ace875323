import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from flows.storage import ledger_local as module
from flows.storage.lease import lease
from flows.storage.ledger_local import Database, LocalRecords
from schemas.errors import Misconfigured, Retryable
from tests.flows.storage.test_ledger import record

TABLES = "CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, text TEXT);"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a folder" / "with 100 %?.sqlite"


@pytest.fixture
def database(path):
    return Database(path, TABLES, 3)


def insert(database, *numbers):
    with database.change() as connection:
        connection.executemany("INSERT INTO t VALUES (?, 'x')", [(number,) for number in numbers])


def numbers(database):
    return [n for (n,) in database.rows("SELECT n FROM t ORDER BY n")]


def test_what_was_changed_is_there_for_others_and_nothing_before(database, path):
    assert (numbers(database), path.exists()) == ([], False)
    insert(database, 2, 1)
    assert numbers(database) == numbers(Database(path, TABLES, 3)) == [1, 2]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_change_that_fails_is_dropped_as_a_whole(database, path):
    insert(database, 1)
    with pytest.raises(Retryable, match="UNIQUE constraint failed"):
        insert(database, 2, 1)
    insert(database, 3)
    assert numbers(Database(path, TABLES, 3)) == [1, 3]


def test_a_killed_process_leaves_what_was_there_before_its_change(database, path):
    insert(database, 1)
    code = f"""
import os, signal
from pathlib import Path
from flows.storage.ledger_local import Database
with Database(Path({str(path)!r}), {TABLES!r}, 3).change() as connection:
    connection.execute("PRAGMA cache_size = 1")  # so that the file itself is written before the end
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, "y" * 5000) for n in range(2, 500)])
    os.kill(os.getpid(), signal.SIGKILL)
"""
    size = path.stat().st_size
    process = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(Path.cwd())}, check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert path.stat().st_size > size
    assert numbers(database) == [1]
    insert(database, 2)
    assert (numbers(Database(path, TABLES, 3)), database.damage()) == ([1, 2], None)


def test_who_keeps_it_locked_is_waited_for_and_not_for_ever(database, path, monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 0.1)
    insert(database, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        database.close()
        for use in (lambda: numbers(database), lambda: insert(database, 2)):
            with pytest.raises(Retryable, match=r"has kept it locked for 0\.1 s") as caught:
                use()
            assert (caught.value.code, caught.value.where) == ("lock_held", str(path))
    insert(database, 2)
    assert numbers(database) == [1, 2]


def test_nobody_but_its_owner_and_their_group_may_lock_it(database, path):
    insert(database, 1)
    assert path.stat().st_mode & 0o007 == 0


def test_a_full_disk_drops_the_change_and_says_so(database, path):
    insert(database, 1)
    database.rows("PRAGMA max_page_count = 4")
    with pytest.raises(Retryable, match="No space left") as caught:
        insert(database, *range(2, 5000))
    assert (caught.value.code, caught.value.where) == ("disk_full", str(path))
    assert numbers(Database(path, TABLES, 3)) == [1]


def test_a_night_whose_first_record_has_no_room_is_none(tmp_path, monkeypatch):
    records, one = LocalRecords(tmp_path), record()

    def full(database):
        connection = original(database)
        if database.path.stem == one.night:
            connection.execute("PRAGMA max_page_count = 8")
        return connection

    original = Database._connect
    with monkeypatch.context() as patch:
        patch.setattr(Database, "_connect", full)
        with pytest.raises(Retryable, match="No space left"):
            records.put(one, bytes(50_000))
    assert (records.nights(), records.count(one.night), records.get(one.key)) == ([], 0, None)
    records.put(one, bytes(50_000))
    assert (records.nights(), records.get(one.key)) == ([one.night], bytes(50_000))


@pytest.mark.parametrize("content", [b"no database " * 99, b"SQLite format 3\x00" + bytes(4096)])
def test_a_damaged_file_is_named_with_the_remedy(database, path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"put it back from a backup; or move it away") as caught:
        numbers(database)
    assert (caught.value.code, caught.value.where) == ("damaged_ledger", str(path))


def test_damage_within_is_found_by_its_check(database, path):
    insert(database, *range(3000))
    assert database.damage() is None
    content = bytearray(path.read_bytes())
    content[2 * 4096 : 2 * 4096 + 64] = bytes(range(64))
    path.write_bytes(content)
    assert Database(path, TABLES, 3).damage()


def test_another_version_is_refused(database, path):
    insert(database, 1)
    for version in (2, 4):
        with pytest.raises(Misconfigured, match=f"has schema version 3, this nightstride reads version {version}"):
            numbers(Database(path, TABLES, version))


def test_a_file_without_tables_is_an_empty_one(database, path):
    """As a process leaves it that is killed before the first change."""
    path.parent.mkdir()
    path.touch()
    assert numbers(database) == []
    insert(database, 1)
    assert numbers(database) == [1]


def test_a_file_that_was_replaced_is_opened_again(database, path):
    insert(database, 1)
    path.unlink()
    assert numbers(database) == []
    insert(database, 2)
    assert numbers(database) == [2]


def test_who_has_lost_the_lease_changes_nothing(tmp_path):
    path = tmp_path / "ledger" / "x.sqlite"
    database = Database(path, TABLES, 3)
    with lease(tmp_path, heartbeat_s=1000):
        insert(database, 1)
        other = tmp_path / "lease.new"
        other.write_text((tmp_path / "lease.json").read_text())
        other.replace(tmp_path / "lease.json")  # as a taker does it: by a new file
        with pytest.raises(Misconfigured) as caught:
            insert(database, 2)
        assert caught.value.code == "taken_over"
        assert numbers(database) == [1]
    with lease(tmp_path):
        insert(database, 3)
    assert numbers(database) == [1, 3]


def test_what_was_removed_by_another_thread_in_the_meantime_is_made_again(database, path, monkeypatch):
    insert(database, 1)
    begun = []

    def identity(found):
        if not begun:  # once the connection was looked at, and before its transaction begins
            begun.append(1)
            known = original(found)
            path.unlink()
            return known
        return original(found)

    original = module.file_identity
    monkeypatch.setattr(module, "file_identity", identity)
    insert(database, 2)
    assert numbers(Database(path, TABLES, 3)) == [2]


def test_a_file_that_may_not_be_read_is_named(database, path, monkeypatch):
    insert(database, 1)
    database.close()
    monkeypatch.setattr(module.os, "access", lambda name, mode: mode != os.R_OK)
    with pytest.raises(Misconfigured, match="To fix") as caught:
        numbers(database)
    assert str(path) in str(caught.value)


def test_threads_share_a_file(database):
    insert(database, 1)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: insert(database, n), range(2, 20)))
        assert [len(one) for one in threads.map(lambda _: numbers(database), range(4))] == [19] * 4


def test_the_nights_used_last_stay_open(tmp_path):
    records = LocalRecords(tmp_path)
    nights = [f"202601{day:02}" for day in range(1, module.OPEN + 2)]
    for night in nights[:-1]:
        records.put(record(night=night), b"x")
    assert list(records._nights) == nights[:-1]
    records.get(record(night=nights[0]).key)
    records.put(record(night=nights[-1]), b"x")
    assert list(records._nights) == [*nights[2:-1], nights[0], nights[-1]]


def test_damage_is_that_of_a_night_or_of_all_files(tmp_path):
    records = LocalRecords(tmp_path)
    for night in ("20260101", "20260102"):
        records.put(record(night=night), b"x")
    assert list(records.damage(None)) == list(records.damage("20260101")) == []
    (tmp_path / "ledger/20260102.sqlite").write_bytes(b"no database" * 1000)
    assert list(LocalRecords(tmp_path).damage("20260101")) == []
    for night in (None, "20260102"):
        ((where, _, _),) = LocalRecords(tmp_path).damage(night)
        assert where == str(tmp_path / "ledger/20260102.sqlite")


def test_a_file_without_a_byte_is_no_night_and_one_that_goes_meanwhile_neither(tmp_path):
    records = LocalRecords(tmp_path)
    records.put(record(), b"x")
    (tmp_path / "ledger/20260102.sqlite").touch()
    assert records.nights() == [record().night]
    assert module._holds_anything(tmp_path / "none.sqlite") is False


def test_a_night_has_patches_or_none(tmp_path):
    records, one = LocalRecords(tmp_path), record()
    records.put(one, b"x")
    assert list(records.patches(one.night)) == list(records.patches("20270101")) == []
    for name in ("b", "a"):
        records.put_patch(one.night, name, name.encode())
    assert list(records.patches(one.night)) == [("a", b"a"), ("b", b"b")]


@pytest.mark.parametrize(
    ("name", "beside", "tries"),
    [("SQLITE_CANTOPEN", False, 2), ("SQLITE_READONLY_DIRECTORY", False, 2), ("SQLITE_CANTOPEN", True, 1),
     ("SQLITE_BUSY", False, 1), ("SQLITE_BUSY", True, 1)],
)  # fmt: skip
def test_a_file_is_read_as_it_is_where_nothing_can_be_written_beside_it(tmp_path, name, beside, tries):
    path, asked = tmp_path / "a.sqlite", []
    if beside:
        path.with_name("a.sqlite-wal").touch()

    def read(uri):
        asked.append(uri)
        if len(asked) < 2:
            error = sqlite3.OperationalError("words")
            error.sqlite_errorname = name
            raise error
        return "read"

    if tries == 2:
        assert module.as_it_is(path, read) == "read"
        assert asked == [f"{path.as_uri()}?mode=rw", f"{path.as_uri()}?mode=rw&immutable=1"]
    else:
        with pytest.raises(sqlite3.OperationalError):
            module.as_it_is(path, read)
        assert len(asked) == 1
