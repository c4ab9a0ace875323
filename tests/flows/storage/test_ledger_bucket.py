"""The ledger in a bucket at each request: killed there, read there, taken over there."""

import json
from collections import Counter
from contextlib import suppress

import pytest

from flows.storage import ledger_bucket
from flows.storage.atomic import permit, release
from flows.storage.bucket_path import files_below
from flows.storage.ledger import Ledger
from flows.storage.night_sums import settle
from flows.storage.object_store import configure
from schemas.errors import Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, NightRecord, SourceMemo
from schemas.settings import StoreSettings
from tests.support.memory_store import another_process, bucket_in_memory, down_from

NIGHTS = ("20260101", "20260102")


@pytest.fixture
def memory(monkeypatch):
    yield bucket_in_memory(monkeypatch)
    configure(StoreSettings())


def record(visit, night=NIGHTS[0], detections=0, uri=None):
    return ExposureRecord(
        night=night, visit=visit, detector=3, source_uri=uri or f"/raw/{visit}.fits", source_sha256="ab", digest="cd",
        detections=detections, software="1", finished_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def memo(visit, night=NIGHTS[0]):
    key = ExposureKey(night=night, visit=visit, detector=3)
    return SourceMemo(uri=f"/raw/{visit}.fits 0123456789abcdef", sha256="ab", size=1, mtime_ns=2, key=key)


def whole(night, exposures):
    return NightRecord(night=night, exposures=exposures, software="1", finished_at="2026-01-01T00:00:00+00:00")


def put(visit, night=NIGHTS[0], **other):
    return lambda ledger: ledger.put(record(visit, night, **other))


OPERATIONS = (
    put(1), put(2), lambda ledger: ledger.remember(memo(1)),
    lambda ledger: ledger.put_night(whole(NIGHTS[0], 2)), settle,
    put(2, detections=5), put(10), lambda ledger: ledger.remove(record(1).key), put(7, NIGHTS[1]), settle,
    lambda ledger: ledger.remove(record(7, NIGHTS[1]).key), lambda ledger: ledger.forget(NIGHTS[1]),
    lambda ledger: ledger.remove_night(NIGHTS[0]), put(3), settle,
)  # fmt: skip


def known(out):
    """Return all that a process which knows nothing yet reads."""
    with another_process():
        return said(Ledger(out))


def said(ledger):
    records = {(one.night, one.visit): one.detections for one in ledger.records()}
    assert ledger.count() == len(records)
    assert ledger.nights() == sorted({night for night, _ in records})
    return records, {one.night: one.exposures for one in ledger.whole_nights()}


def states(out):
    """Return what is known after each number of the operations."""
    ledger, found = Ledger(out), [known(out)]
    for operation in OPERATIONS:
        operation(ledger)
        found.append(known(out))
    return found


def test_each_operation_is_seen_by_others_as_it_returns(memory):
    out, _ = memory
    expected = (
        ({(NIGHTS[0], 1): 0}, {}),
        ({(NIGHTS[0], 1): 0, (NIGHTS[0], 2): 0}, {}),
        ({(NIGHTS[0], 1): 0, (NIGHTS[0], 2): 0}, {NIGHTS[0]: 2}),
        ({(NIGHTS[0], 2): 5, (NIGHTS[0], 10): 0, (NIGHTS[1], 7): 0}, {NIGHTS[0]: 2}),
        ({(NIGHTS[0], 2): 5, (NIGHTS[0], 3): 0, (NIGHTS[0], 10): 0}, {}),
    )
    found = states(out)
    assert (found[1], found[2], found[5], found[10], found[-1]) == expected
    left = sorted(path.parts[-2] for path in files_below(out / "ledger"))
    assert len([one for one in left if one == "segments"]) == 2  # the night and the index
    assert not [path for path in files_below(out / "ledger") if "open" in path.parts]


def restarted(out, first):
    """Do the rest of the operations in a new process, from the one that was under way."""
    with another_process():
        for operation in OPERATIONS[first:]:
            operation(Ledger(out))


def another_run(out):
    with another_process():
        Ledger(out).put(record(11))
        settle(Ledger(out))


def kinds(out):
    """Return how many objects of each kind there are; that a source was recorded is a hint, and may outlive it."""
    return Counter(path.parts[4] for path in files_below(out / "ledger") if "held" not in path.parts)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_process_killed_at_any_request_leaves_a_true_ledger(memory, monkeypatch, lost):
    """Each state that is found is that before or after the operation under way, and a rerun ends as an undisturbed."""
    out, store = memory
    expected = states(out)
    last = store.requests
    another_run(out)
    undisturbed = kinds(out)
    for number in range(1, last):
        out, store = bucket_in_memory(monkeypatch, f"killed-{number}")
        setattr(store, "before" if lost == "request" else "after", down_from(number))
        done = 0
        with another_process(), suppress(Retryable):
            for operation in OPERATIONS:
                operation(Ledger(out))
                done += 1
        store.before = store.after = lambda number: None
        assert known(out) in expected[done : done + 2], f"request {number}: {store.names[number - 1]}"
        if done < len(OPERATIONS):
            restarted(out, done)
        assert known(out) == expected[-1], f"request {number}"
        another_run(out)  # who is killed last of all leaves objects that nothing names, to the next who writes
        assert kinds(out) == undisturbed, f"request {number}: {store.names[number - 1]}"
    assert last > 80


def test_readers_see_one_state_or_the_other_at_any_request_of_the_writer(memory, monkeypatch):
    out, _ = memory
    expected = states(out)
    out, store = bucket_in_memory(monkeypatch, "read")
    reader, process, done, looks = Ledger(out), {}, 0, 0

    def look(number):
        nonlocal looks
        store.before = lambda number: None
        with another_process(process):  # one that knows an earlier state, and one that knows nothing
            for ledger in (reader, Ledger(out)):
                assert said(ledger) in expected[: done + 2], (number, store.names[number - 1])
                looks += 1
        store.before = look

    store.before = look
    for operation in OPERATIONS:
        operation(Ledger(out))
        done += 1
    assert looks > 100
    with another_process():
        assert said(Ledger(out)) == expected[-1]


def test_of_two_writers_the_later_one_stays_and_the_other_is_told(memory, monkeypatch):
    """At each request of a run another one takes over, writes and settles: nothing that either was told is lost."""
    out, store = memory
    states(out)
    last = store.requests
    for number in range(1, last):
        out, store = bucket_in_memory(monkeypatch, f"taken-{number}")
        told = []

        def take_over(now, out=out, store=store, number=number):
            if now == number + 1:  # after it has looked at the ledger
                store.before = lambda number: None
                with another_process():
                    ledger = Ledger(out)
                    for visit in (2, 500):
                        ledger.put(record(visit, detections=99))
                    settle(ledger)

        store.before = take_over
        with another_process():
            permit(out)
            ledger, written = Ledger(out), len(Ledger(out).nights())
            with suppress(Misconfigured):
                for visit in range(1, 9):
                    ledger.put(record(visit, detections=1))
                    written = visit
                    if visit == 4:
                        settle(ledger)
                told.append("nothing")
            if store.requests <= number:
                break
            with pytest.raises(Misconfigured) as caught:  # nor does it become the later one by trying again
                ledger.put(record(600))
            assert caught.value.code == "taken_over"
        records, _ = known(out)
        assert records[NIGHTS[0], 500] == 99
        assert {(NIGHTS[0], visit) for visit in range(1, written + 1)} <= records.keys(), number
        assert told == [], (number, store.names[number - 1])
    assert number > 40


def test_a_process_that_writes_much_folds_as_it_goes(memory, monkeypatch):
    out, _ = memory
    monkeypatch.setattr(ledger_bucket, "FOLD", 4)
    ledger = Ledger(out)
    for visit in range(1, 12):
        ledger.put(record(visit))
    ledger.put(record(3, detections=7))
    ledger.remove(record(4).key)
    expected = {(NIGHTS[0], visit): 7 if visit == 3 else 0 for visit in range(1, 12) if visit != 4}
    head = json.loads((out / "ledger/head.json").read_bytes())
    assert len(head["groups"][NIGHTS[0]]["segments"]) == 3
    assert (known(out)[0], said(ledger)[0]) == (expected, expected)
    settle(ledger)
    assert (known(out)[0], said(ledger)[0]) == (expected, expected)
    assert [path.parts[-2] for path in files_below(out / "ledger/segments")] == ["segments"] * 2


def test_what_a_settled_night_costs_does_not_depend_on_its_length(memory):
    out, store = memory
    costs = []
    for visits in (range(1, 4), range(4, 60)):
        ledger = Ledger(out)
        for visit in visits:
            ledger.put(record(visit))
        settle(ledger)
        before = store.requests
        assert len(known(out)[0]) == visits.stop - 1
        costs.append(store.requests - before)
    assert costs == [3, 3]  # the head, and the segments of the night and of the index


def test_a_state_is_read_once_whoever_held_the_folder_before(memory):
    out, store = memory
    permit(out)
    Ledger(out).put(record(1))
    settle(Ledger(out))
    release(out)
    ledger, before = Ledger(out), store.requests
    for _ in range(3):
        assert (ledger.nights(), ledger.count()) == ([NIGHTS[0]], 1)
    assert store.requests == before + 1
    with another_process():
        Ledger(out).put(record(2))
    assert Ledger(out).count() == 2


def test_who_holds_the_folder_is_told_when_what_it_reads_was_settled_by_another(memory):
    out, _ = memory
    Ledger(out).put(record(1))
    settle(Ledger(out))
    with another_process():
        permit(out)
        ledger = Ledger(out)
        assert ledger.nights() == [NIGHTS[0]]
        with another_process():
            Ledger(out).put(record(2))
            settle(Ledger(out))
        with pytest.raises(Misconfigured) as caught:
            ledger.get(record(1).key)
        assert caught.value.code == "taken_over"


def test_sums_hold_until_the_night_changes(memory):
    out, _ = memory
    ledger = Ledger(out)
    ledger.put(record(1, detections=4))
    assert (ledger.stamp(NIGHTS[0]), ledger.sums(NIGHTS[0])) == ("", None)
    settle(ledger)
    stamp = ledger.stamp(NIGHTS[0])
    assert (ledger.sums(NIGHTS[0]).stamp, ledger.sums(NIGHTS[0]).detections) == (stamp, 4)
    ledger.put(record(2))
    assert ledger.stamp(NIGHTS[0]) == ""
    settle(ledger)
    assert ledger.stamp(NIGHTS[0]) not in ("", stamp)
    assert ledger.sums(NIGHTS[0]).states == {"done": 2}


def test_memos_are_found_by_their_source_and_forgotten_with_their_night(memory):
    out, _ = memory
    ledger = Ledger(out)
    for visit, night in ((1, NIGHTS[0]), (2, NIGHTS[1])):
        ledger.remember(memo(visit, night))
        ledger.put(record(visit, night))
    for _ in range(2):
        assert Ledger(out).remembered(memo(1).uri) == memo(1)
        assert Ledger(out).from_source("/raw/2.fits") == [record(2, NIGHTS[1])]
        assert Ledger(out).remembered("/raw/1.fits read otherwise") is None
        settle(ledger)
    ledger.remove(record(1).key)
    ledger.forget(NIGHTS[0])
    settle(ledger)
    with another_process():
        assert Ledger(out).remembered(memo(1).uri) is None
        assert Ledger(out).remembered(memo(2, NIGHTS[1]).uri) == memo(2, NIGHTS[1])
    assert len(files_below(out / "ledger/held")) == 1
    assert kinds(out) == {"head.json": 1, "segments": 2}


def test_a_night_that_is_only_remembered_has_no_records_and_is_forgotten_alone(memory):
    out, store = memory
    ledger = Ledger(out)
    ledger.remember(memo(1, NIGHTS[0]))
    assert ledger.nights() == []
    ledger.put(record(1, NIGHTS[1]))  # of the same source
    ledger.forget(NIGHTS[0])
    settle(ledger)
    with another_process():
        assert Ledger(out).from_source("/raw/1.fits") == [record(1, NIGHTS[1])]
        before = len(store.names)
        assert Ledger(out).settle() == []
    assert [operation for operation, *_ in store.names[before:]] == ["get"]  # of the head: nothing is written


def test_a_source_that_becomes_another_exposure_is_remembered_as_that(memory):
    out, _ = memory
    ledger = Ledger(out)
    ledger.remember(memo(1, NIGHTS[1]))
    settle(ledger)
    ledger.remember(memo(1, NIGHTS[0]))
    assert ledger.remembered(memo(1).uri).key.night == NIGHTS[0]
    ledger.remember(memo(1, NIGHTS[1]))
    settle(ledger)
    assert ledger.remembered(memo(1).uri).key.night == NIGHTS[1]
    assert Ledger(out).remembered_nights() == [NIGHTS[1]]


@pytest.mark.parametrize("content", [b"", b"no database", None])
def test_a_damaged_segment_is_refused_and_named(memory, content):
    out, _ = memory
    ledger = Ledger(out)
    for night in NIGHTS:
        ledger.put(record(1, night))
    settle(ledger)
    (segment,) = [path for path in files_below(out / "ledger/segments") if path.name.startswith(NIGHTS[0])]
    segment.unlink() if content is None else segment.write(content)
    with another_process():
        ledger = Ledger(out)
        with pytest.raises(Misconfigured) as caught:
            ledger.get(record(1).key)
        assert (caught.value.code, caught.value.where) == ("damaged_ledger", str(segment))
        assert ledger.get(record(1, NIGHTS[1]).key) == record(1, NIGHTS[1])
        assert [(one.code, one.where) for one in ledger.damage()] == [("damaged_ledger", str(segment))]
        assert list(ledger.damage(NIGHTS[1])) == []


@pytest.mark.parametrize(("content", "code"), [(b"{", "damaged_ledger"), (b'{"schema_version": 99}', "other_version")])
def test_a_head_that_is_none_of_ours_is_refused(memory, content, code):
    out, _ = memory
    (out / "ledger/head.json").write(content)
    for use in (lambda: Ledger(out).nights(), lambda: Ledger(out).put(record(1))):
        with pytest.raises(Misconfigured) as caught:
            use()
        assert caught.value.code == code


def test_the_ledger_of_an_earlier_version_is_refused(memory):
    out, _ = memory
    (out / "ledger/held/ab/abcd.json").write(b"[]")
    with pytest.raises(Misconfigured, match="earlier version") as caught:
        Ledger(out).nights()
    assert caught.value.code == "other_version"


def test_what_has_a_reason_is_troubled_in_a_bucket_as_in_a_folder(memory, tmp_path):
    found = []
    for out in (memory[0], tmp_path):
        permit(out)
        ledger = Ledger(out)
        for visit, reason in ((1, None), (2, "no_wcs"), (3, None)):
            ledger.put(record(visit).model_copy(update={"reason": reason}))
        found.append([(one.visit, one.reason) for one in ledger.troubled(NIGHTS[0])])
        assert [one.visit for one in ledger.of_visit(NIGHTS[0], 2)] == [2]
        release(out)
    assert found == [[(2, "no_wcs")]] * 2


def test_a_source_of_two_exposures_is_known_until_both_are_gone(memory):
    out, _ = memory
    ledger, uri = Ledger(out), "/raw/both.fits"
    for visit in (1, 2):
        ledger.put(record(visit, uri=uri))
    for gone, left in ((None, [1, 2]), (1, [2]), (2, [])):
        if gone is not None:
            ledger.remove(record(gone).key)
        with another_process():
            assert [one.visit for one in Ledger(out).from_source(uri)] == left
    assert not [path for path in files_below(out / "ledger") if "held" in path.parts]
