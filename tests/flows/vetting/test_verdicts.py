"""The record of verdicts, the labels out of it, and agreement."""

import json
import multiprocessing
from itertools import pairwise
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow.parquet as pq
import pytest
from obstore.exceptions import GenericError

from flows.results.backup import backup_output
from flows.storage.atomic import WriteConditions
from flows.storage.bucket_path import located
from flows.storage.object_store import configure
from flows.vetting import verdicts
from flows.vetting.labels import agreements, export_labels, label_table
from flows.vetting.server import Workplace
from flows.vetting.verdicts import VerdictStore
from schemas.errors import Misconfigured, Retryable
from schemas.night_range import NightRange
from schemas.settings import StoreSettings
from schemas.vetting import LABEL
from tests.support.cli import nightstride
from tests.support.memory_store import bucket_in_memory
from tests.support.vetter import add, work
from tests.support.vetting import build, source_id

pytest_plugins = ("tests.support.s3_fixture",)


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


def test_what_is_said_twice_is_one_line(tmp_path):
    store = VerdictStore(tmp_path)
    first = add(store, 1, "bogus")
    assert add(store, 1, "bogus").id == first.id
    assert len(lines(tmp_path)) == 1
    other = add(store, 1, "bogus", "b")
    blind, changed = add(store, 1, "bogus", blind=True), add(store, 1, "real")
    assert len({first.id, other.id, blind.id, changed.id}) == 4
    assert add(store, 1, "real").id == changed.id
    assert store.undo("a", changed.id) is not None
    assert store.undo("a", blind.id) is not None
    assert add(store, 1, "bogus").id == first.id  # it stands again


def test_a_recheck_said_twice_is_one_line(tmp_path):
    store = VerdictStore(tmp_path)
    assert len({add(store, 1, "bogus", blind=True).id for _ in range(3)}) == 1


def test_many_vetters_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")  # what other tests have in this process is not theirs
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


@pytest.mark.parametrize("torn", [b'{"id": "12', b"\xff\xfe", b"null", b'{"id": "x"}', 5000 * b"["])
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


def test_in_a_bucket_two_servers_lose_nothing_and_an_answer_that_is_lost_doubles_nothing(monkeypatch):
    out, watched = bucket_in_memory(monkeypatch)
    first, second = VerdictStore(out), VerdictStore(out)
    assert (first.standing(), first.version) == ([], 0)
    made = add(first, 1)
    threads = [Thread(target=lambda store=store, n=n: [add(store, 10 * n + k) for k in range(5)])
               for n, store in ((1, first), (2, second))]  # fmt: skip
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    ids = {1, *range(10, 15), *range(20, 25)}
    assert [{one.diaSourceId for one in store.standing()} for store in (first, second)] == [ids, ids]
    before = (out / "vetting" / "verdicts.jsonl").read_bytes()
    assert second.undo("a", made.id).id == made.id

    def lost(number, puts=[0]):  # noqa: B006
        if watched.names[-1][0] == "put":
            puts[0] += 1
            if puts[0] == 1:
                raise GenericError("timed out")

    watched.after = lost
    add(first, 99)
    after = (out / "vetting" / "verdicts.jsonl").read_bytes()
    assert after.startswith(before)
    assert [one.diaSourceId for one in VerdictStore(out).standing()].count(99) == 1
    assert len(after.splitlines()) == len(before.splitlines()) + 2
    assert VerdictStore(out).unreadable == 0


def test_a_store_without_conditions_is_refused_and_nothing_is_written(monkeypatch):
    out, _ = bucket_in_memory(monkeypatch)
    monkeypatch.setattr(verdicts, "write_conditions", lambda out: WriteConditions(enforced=False))
    with pytest.raises(Misconfigured, match="knows no conditions") as caught:
        add(VerdictStore(out), 1)
    assert caught.value.code == "vet_bucket"
    assert not (out / "vetting").exists()


def test_a_night_in_a_bucket_is_judged_and_its_labels_are_exported(moto, tmp_path, monkeypatch):
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    configure(StoreSettings(endpoint=moto.endpoint))
    out = build(located(f"s3://{moto.new_bucket()}/some/out"))
    place = Workplace(out)
    index = place.index()
    assert len(index) == 36
    row = place.row(index, source_id(101, 0))
    found = place.candidate(index, row)
    assert (len(found.stamps), found.tracklet_id) == (3, source_id(101, 0))
    assert place.pyramid.tile(index.key(row), "difference", 0, 0, 0).startswith(b"\x89PNG")
    add(place.verdicts, source_id(101, 0))
    assert len(Workplace(out).verdicts.standing()) == 1
    assert place._now() == place._stamp  # a verdict is not a change of the night
    to = tmp_path / "labels.parquet"
    run = nightstride("vet", str(out), "--export", to, "--json", **moto.environment)
    assert (run.code, run.summary) == (0, {"labels": 1, "path": str(to)}), run.stderr
    assert pq.read_table(to)["label"].to_pylist() == ["real"]
    configure(StoreSettings())


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
    assert {(row["visit"], row["detector"], row["x"], row["y"]) for row in rows} == {
        (101, 3, 10.0, 20.0),
        (101, 3, 30.0, 20.0),
    }
    assert export_labels(tmp_path, tmp_path / "labels.parquet") == 2
    assert pq.read_table(tmp_path / "labels.parquet").equals(table)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".staging"] == []
    assert export_labels(tmp_path, tmp_path / "UPPER.PARQUET") == 2
    for name in ("labels.csv", "labels.txt"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(Misconfigured, match=r"labels are written as Parquet alone.*name it labels\.parquet"):
            export_labels(tmp_path, tmp_path / name)
        assert (tmp_path / name).read_text() == "mine"
    with pytest.raises(Misconfigured, match=r"name it labels\.parquet"):
        export_labels(tmp_path, Path())
    with pytest.raises(Misconfigured, match="holds no verdict of night 20200101"):
        export_labels(tmp_path, tmp_path / "labels.parquet", NightRange.of("20200101"))


def test_another_detection_that_got_an_id_has_its_own_label_and_agreement(tmp_path):
    store, other = VerdictStore(tmp_path), (300.0, 20.0)
    add(store, 1, "real", "a")
    add(store, 1, "bogus", "a", place=other)
    add(store, 1, "bogus", "b", place=other)
    add(store, 1, "bogus", "a", blind=True)
    rows = label_table(store.standing()).to_pylist()
    assert [(row["x"], row["label"], row["user"]) for row in rows] == [
        (30.0, "real", "a"), (300.0, "bogus", "a"), (300.0, "bogus", "b"),
    ]  # fmt: skip
    (between,), (within,) = agreements(store.standing())
    assert (between.both, between.agreed) == (1, 1)
    assert (within.both, within.agreed) == (1, 0)
    add(store, 1, "unsure", "c", place=(31.0, 21.0))  # within 2 px: the first again
    assert [(one.first, one.second, one.agreed) for one in agreements(store.standing())[0]] == [
        ("a", "b", 1), ("a", "c", 0),
    ]  # fmt: skip


def test_a_detection_that_got_another_id_keeps_its_label(tmp_path):
    store, place = VerdictStore(tmp_path), (50.0, 60.0)
    add(store, 1, "real", "a", place=place)
    add(store, 2, "bogus", "a", place=(51.0, 61.0))
    add(store, 7, "bogus", "b", place=place)
    add(store, 1 << 12, "unsure", "b", place=place)  # on another detector
    rows = label_table(store.standing()).to_pylist()
    assert [(row["diaSourceId"], row["label"], row["user"]) for row in rows] == [
        (2, "bogus", "a"), (7, "bogus", "b"), (1 << 12, "unsure", "b"),
    ]  # fmt: skip
    (between,), _ = agreements(store.standing())
    assert (between.both, between.agreed) == (1, 1)


def test_agreement_is_of_pairs_and_of_rechecks(tmp_path):
    store = VerdictStore(tmp_path)
    for n in range(10):
        add(store, n, "real" if n < 5 else "bogus", "a")
        add(store, n, "real" if n < 4 else "bogus", "b")
    add(store, 3, "bogus", "a", blind=True)
    add(store, 2, "real", "a", blind=True)
    add(store, 8, "bogus", "a", blind=True)
    for n in range(4, 7):
        add(store, n, "real", "c")
    (between, one_sided, _), (within,) = agreements(store.standing())
    assert (between.first, between.second, between.both, between.agreed) == ("a", "b", 10, 9)
    assert between.table[0, 1] == 1
    assert between.kappa == pytest.approx(0.8)
    assert (one_sided.both, one_sided.agreed, one_sided.words) == (3, 1, "–")  # c always says the same
    assert (within.first, within.both, within.agreed) == ("a", 3, 2)
    assert within.table[0, 1] == within.table[1, 1] == 1
    assert np.isfinite(within.kappa)


class Contested:
    """Conditions of a store in which somebody else writes first, so often."""

    enforced = True

    def __init__(self, losses, clock):
        self.losses, self.clock = losses, clock

    def write(self, path, content, version):
        self.clock[0] += 1.0
        if self.losses:
            self.losses -= 1
            raise FileExistsError
        path.write(content)


@pytest.mark.parametrize(("losses", "lost"), [(0, False), (3, False), (4, True)])
def test_a_verdict_in_a_bucket_is_tried_again_for_a_while(monkeypatch, losses, lost):
    (out, _), clock = bucket_in_memory(monkeypatch), [0.0]
    contested = Contested(losses, clock)
    monkeypatch.setattr(verdicts, "write_conditions", lambda _: contested)
    monkeypatch.setattr(verdicts, "monotonic", lambda: clock[0])
    monkeypatch.setattr(verdicts, "WAIT_S", 3.0)
    if lost:
        with pytest.raises(Retryable, match="again and again for 3 s") as caught:
            add(VerdictStore(out), 1)
        assert caught.value.code == "lock_held"
    else:
        made = add(VerdictStore(out), 1)
        assert [one.id for one in VerdictStore(out).standing()] == [made.id]
    configure(StoreSettings())


def test_a_verdict_whose_answer_was_lost_is_written_once(monkeypatch):
    out, _ = bucket_in_memory(monkeypatch)

    class Lossy:
        enforced, written = True, 0

        def write(self, path, content, version):
            path.write(content)
            self.written += 1
            raise FileExistsError

    lossy = Lossy()
    monkeypatch.setattr(verdicts, "write_conditions", lambda _: lossy)
    add(VerdictStore(out), 1)
    assert lossy.written == 1
    assert len((out / "vetting" / "verdicts.jsonl").read_bytes().splitlines()) == 1
    configure(StoreSettings())


def test_a_recheck_before_any_verdict_is_compared_with_nothing(tmp_path):
    store = VerdictStore(tmp_path)
    add(store, 1, "real", blind=True)
    assert agreements(store.standing()) == ([], [])
    add(store, 1, "real")
    add(store, 1, "bogus", blind=True)
    assert [(one.first, one.second) for one in agreements(store.standing())[1]] == [("a", "a")]
