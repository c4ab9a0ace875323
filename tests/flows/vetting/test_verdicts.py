"""The record of verdicts, the labels out of it, and agreement."""

import json
import multiprocessing
import traceback
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.results.backup import backup_output
from flows.storage.bucket_path import BucketPath
from flows.vetting import verdicts
from flows.vetting.labels import agreements, export_labels, label_table
from flows.vetting.verdicts import VerdictStore
from schemas.errors import Misconfigured
from schemas.vetting import LABEL, Verdict

NIGHT = "20261103"


def add(store, source_id, verdict="real", user="a", blind=False):
    return store.add(user, NIGHT, source_id, (10.0, 20.0), Verdict(verdict), blind=blind)


def lines(out):
    return (out / "vetting" / "verdicts.jsonl").read_bytes().splitlines()


def test_lines_are_only_ever_added(tmp_path):
    store, before = VerdictStore(tmp_path), b""
    for n in range(4):
        add(store, n)
        now = (tmp_path / "vetting" / "verdicts.jsonl").read_bytes()
        assert now.startswith(before)
        before = now
    assert store.undo("a", store.standing()[1].id) is not None
    assert (tmp_path / "vetting" / "verdicts.jsonl").read_bytes().startswith(before)
    assert [one.diaSourceId for one in store.standing()] == [0, 2, 3]


def test_two_servers_see_each_other(tmp_path):
    first, second = VerdictStore(tmp_path), VerdictStore(tmp_path)
    made = add(first, 1)
    assert [one.id for one in second.standing()] == [made.id]
    assert second.undo("a", made.id).id == made.id
    assert first.standing() == []
    assert first.undo("a", made.id) is None
    assert first.undo("b", add(first, 2).id) is None


def work(out, user):
    verdicts.WAIT_S = 100.0  # without pause, unlike people
    verdicts.os.fsync = lambda _: None  # of a busy disk it takes seconds, and the lock is tried
    try:
        store = VerdictStore(out)
        for n in range(40):
            made = add(store, n, user=user)
            if n % 4 == 0:
                store.undo(user, made.id)
    except BaseException:
        (out / f"failed {user}").write_text(traceback.format_exc())
        raise


def test_many_vetters_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")  # what other tests have in this process is none of theirs
    workers = [context.Process(target=work, args=(tmp_path, f"user {n}")) for n in range(4)]
    for one in workers:
        one.start()
    for one in workers:
        one.join(120)
    assert [path.read_text() for path in tmp_path.glob("failed *")] == []
    assert [one.exitcode for one in workers] == [0] * 4
    store = VerdictStore(tmp_path)
    assert len(store.standing()) == 4 * 30
    assert store.unreadable == 0
    assert len(lines(tmp_path)) == 4 * 50


@pytest.mark.parametrize("torn", [b'{"id": "12', b"\xff\xfe", b"null", b'{"id": "x"}'])
def test_what_a_killed_process_left_is_passed_over(tmp_path, torn):
    store = VerdictStore(tmp_path)
    add(store, 1)
    with (tmp_path / "vetting" / "verdicts.jsonl").open("ab") as file:
        file.write(torn)
    again = VerdictStore(tmp_path)
    assert len(again.standing()) == 1
    add(again, 2)
    add(store, 3)
    for one in (store, again, VerdictStore(tmp_path)):
        assert [line.diaSourceId for line in one.standing()] == [1, 2, 3]
        assert one.unreadable == 1
    assert torn in lines(tmp_path)


def test_a_record_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "vetting").write_text("a file")
    with pytest.raises(Exception, match="vetting"):
        add(VerdictStore(tmp_path), 1)


def test_times_go_up_and_modes_are_the_umask(tmp_path):
    store = VerdictStore(tmp_path)
    times = [add(store, n).at for n in range(3)]
    assert all(one <= other for one, other in pairwise(times))
    assert json.loads(lines(tmp_path)[0])["verdict"] == "real"
    assert not (tmp_path / "vetting" / "verdicts.jsonl").stat().st_mode & 0o002


def test_a_backup_has_them(tmp_path):
    out, to = tmp_path / "out", tmp_path / "backup"
    (out / "catalogs").mkdir(parents=True)
    store = VerdictStore(out)
    for n in range(2):
        add(store, n)
        backup_output(out, to)
        assert lines(to) == lines(out)
    assert [path.name for path in (to / "vetting").iterdir()] == ["verdicts.jsonl"]


def test_a_bucket_is_refused():
    with pytest.raises(Misconfigured, match="cannot be added"):
        VerdictStore(BucketPath("s3://bucket/out"))


def test_labels_are_the_last_verdicts(tmp_path):
    store = VerdictStore(tmp_path)
    one = 101 << 21 | 3 << 12
    add(store, one + 1, "real")
    add(store, one + 1, "bogus")
    add(store, one, "satellite", "b")
    add(store, one, "real", "b", blind=True)
    store.undo("a", add(store, one + 5).id)
    table = label_table(store.standing())
    assert table.schema.equals(LABEL.schema)
    assert LABEL.schema.names == ["diaSourceId", "visit", "detector", "x", "y", "label", "user", "time"]
    rows = table.to_pylist()
    assert [(row["diaSourceId"], row["label"], row["user"]) for row in rows] == [
        (one, "satellite", "b"), (one + 1, "bogus", "a"),
    ]  # fmt: skip
    assert {(row["visit"], row["detector"], row["x"], row["y"]) for row in rows} == {(101, 3, 10.0, 20.0)}
    assert export_labels(tmp_path, tmp_path / "labels.parquet") == 2
    assert pq.read_table(tmp_path / "labels.parquet").equals(table)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".staging"] == []
    with pytest.raises(Misconfigured, match="holds no verdict on night"):
        export_labels(tmp_path, tmp_path / "labels.parquet", "20200101")


def test_agreement_is_of_pairs_and_of_rechecks(tmp_path):
    store = VerdictStore(tmp_path)
    for n in range(10):
        add(store, n, "real" if n < 5 else "bogus", "a")
        add(store, n, "real" if n < 4 else "bogus", "b")
    add(store, 3, "bogus", "a", blind=True)
    add(store, 8, "bogus", "a", blind=True)
    add(store, 99, "real", "c")
    (between,), (within,) = agreements(store.standing())
    assert (between.first, between.second, between.both, between.agreed) == ("a", "b", 10, 9)
    assert between.table[0, 1] == 1
    assert between.kappa == pytest.approx(0.8)
    assert (within.first, within.both, within.agreed) == ("a", 2, 1)
    assert within.table[0, 1] == within.table[1, 1] == 1
    assert np.isfinite(within.kappa)
