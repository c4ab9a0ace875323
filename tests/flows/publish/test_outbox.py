import errno
import os
import sqlite3
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.publish import outbox as module
from flows.publish.outbox import Letter, Outbox, mark_of, opened_outbox
from flows.publish.packet import Packet
from flows.storage.bucket_path import located
from flows.storage.layout import outbox_path
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureKey

SINK = "kafka://host/topic"


def packet(source, made_from="one search", body=b"avro"):
    return Packet(source, "20260102", 77, 3, "11.1", body, made_from)


@pytest.fixture
def box(tmp_path):
    with opened_outbox(tmp_path) as found:
        yield found


@pytest.fixture
def route(box):
    return box.route(SINK, "11.1")


def arrive(box, route, *packets):
    box.record(route, [(mark_of(one), 1.0) for one in packets])


def test_a_packet_waits_until_it_is_acknowledged(box, route):
    first, second = packet(1), packet(2)
    assert box.enter(route, [first, second]) == ["waiting", "waiting"]
    arrive(box, route, first)
    assert box.enter(route, [first, second, packet(3)]) == ["sent", "waiting", "waiting"]
    assert box.counts() == {(SINK, "11.1"): {"sent": 1, "waiting": 2}}


def test_what_is_entered_survives_the_process(tmp_path):
    with opened_outbox(tmp_path) as box:
        route = box.route(SINK, "11.1")
        box.enter(route, [packet(1), packet(2)])
        arrive(box, route, packet(1))
    with opened_outbox(tmp_path) as box:
        assert box.route(SINK, "11.1") == route
        assert box.standings(route, [mark_of(packet(1)), mark_of(packet(2))]) == ["sent", "waiting"]


def test_sinks_and_schemas_do_not_know_of_each_other(box, route):
    box.enter(route, [packet(1)])
    arrive(box, route, packet(1))
    for other in (box.route("kafka://host/other", "11.1"), box.route(SINK, "ztf")):
        assert other != route
        assert box.enter(other, [packet(1)]) == ["waiting"]


def test_a_detection_that_was_sent_and_is_made_again_is_held_unless_it_is_asked_for(box, route):
    box.enter(route, [packet(1)])
    arrive(box, route, packet(1))
    renewed = packet(1, "another search")
    assert box.enter(route, [renewed]) == ["held"]
    assert box.counts()[SINK, "11.1"] == {"sent": 1}
    assert box.enter(route, [renewed], again=True) == ["waiting"]
    arrive(box, route, renewed)
    assert box.enter(route, [renewed, packet(1)]) == ["sent", "sent"]


def test_one_that_was_not_sent_yet_is_sent_as_it_is_now(box, route):
    box.enter(route, [packet(1)])
    assert box.enter(route, [packet(1, "another search")]) == ["waiting"]


def test_without_a_digest_the_bytes_of_a_packet_tell_it_from_another(box, route):
    assert mark_of(packet(1, "", b"a")) != mark_of(packet(1, "", b"b"))
    assert mark_of(packet(1, "x", b"a")) == mark_of(packet(1, "x", b"b"))


def test_a_dead_letter_keeps_every_byte_until_it_arrives(box, route):
    dead, raw = packet(5), os.urandom(5000)
    box.enter(route, [dead])
    box.record(route, [], [Letter("5", "too_large", "it is", b"5", raw, mark_of(dead))])
    assert box.enter(route, [dead]) == ["dead"]
    (letter,) = box.letters()
    assert (letter.value, letter.key, letter.code, letter.reason) == (raw, b"5", "too_large", "it is")
    assert (letter.sink, letter.form, letter.mark) == (SINK, "11.1", mark_of(dead))
    box.revive(letter, 2.0)
    assert box.letters() == []
    assert box.enter(route, [dead]) == ["sent"]


def test_letters_are_read_a_few_at_a_time(box, route):
    box.record(route, [], [Letter(str(number), "code", "why", None, b"raw") for number in range(7)])
    found, last = [], 0
    while some := box.letters(last, most=3):
        assert len(some) <= 3
        found += [one.name for one in some]
        last = some[-1].number
    assert found == list("0123456")


def test_the_same_message_dies_once(box, route):
    for _ in range(2):
        box.record(route, [], [Letter("0/17", "no_alert", "why", None, b"raw")])
    assert len(box.letters()) == 1


def test_an_exposure_without_its_detections_leaves_nothing_waiting(box, route):
    sent, waits, stays = packet(1), packet(2), packet(3)
    box.enter(route, [sent, waits, stays])
    arrive(box, route, sent, stays)
    assert box.withdraw(route, ExposureKey(night="20260102", visit=77, detector=3), left=[3]) == 1
    assert box.counts()[SINK, "11.1"] == {"sent": 2}


def test_a_change_is_kept_whole_or_not_at_all(box, route):
    box.enter(route, [packet(1)])
    with pytest.raises(AttributeError):
        box.record(route, [(mark_of(packet(1)), 1.0)], [None])
    assert box.enter(route, [packet(1)]) == ["waiting"]


def test_a_full_disk_is_named_and_what_is_there_is_kept(box, route):
    box.enter(route, [packet(1)])
    base = box._base
    base.execute(f"PRAGMA max_page_count = {base.execute('PRAGMA page_count').fetchone()[0]}")
    packets = [packet(source) for source in range(2, 2000)]
    letters = [Letter("t/0/1", "damaged_alert", "x", None, bytes(1 << 16))]
    for fill in (lambda: box.record(route, [], letters), lambda: box.enter(route, packets)):
        with pytest.raises(Retryable) as caught:
            fill()
        assert caught.value.code == "disk_full"
    base.execute("PRAGMA max_page_count = 10000")
    assert box.enter(route, [packet(1)]) == ["waiting"]
    assert box.letters() == []
    assert box.counts()[SINK, "11.1"] == {"waiting": 1}


def test_one_process_sends_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("flows.publish.outbox.WAIT_S", 0.2)
    with (
        opened_outbox(tmp_path),
        pytest.raises(Misconfigured, match="has locked it") as caught,
        opened_outbox(tmp_path),
    ):
        pass
    assert caught.value.code == "lock_held"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refused(path, wait_s):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("flows.publish.outbox.file_lock", refused)
    with pytest.raises(Misconfigured, match=r"outbox\.sqlite: could not be written") as caught, opened_outbox(tmp_path):
        pass
    assert caught.value.code == "not_writable"


def test_readers_do_not_wait_for_the_sender(tmp_path):
    with opened_outbox(tmp_path) as box:
        box.enter(box.route(SINK, "11.1"), [packet(1)])
        found = []
        other = threading.Thread(target=lambda: found.append(Outbox(outbox_path(tmp_path)).counts()))
        other.start()
        other.join(60)
        assert found == [{(SINK, "11.1"): {"waiting": 1}}]


def test_an_output_folder_in_a_bucket_needs_a_file_on_this_machine(tmp_path):
    out = located("s3://bucket/out")
    with pytest.raises(Misconfigured, match=r"set alerts\.outbox to a file") as caught, opened_outbox(out):
        pass
    assert caught.value.code == "outbox_in_bucket"
    with opened_outbox(out, tmp_path / "var" / "outbox.sqlite") as box:
        assert box.counts() == {}


def test_a_damaged_outbox_names_the_remedy(tmp_path):
    path = outbox_path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(Misconfigured, match="consumers drop what they have") as caught:
        Outbox(path)
    assert caught.value.code == "damaged_outbox"


def test_another_version_is_refused(tmp_path):
    with opened_outbox(tmp_path):
        pass
    base = sqlite3.connect(outbox_path(tmp_path))
    base.execute("UPDATE meta SET version = 99")
    base.commit()
    base.close()
    with pytest.raises(Misconfigured, match="schema version 99"):
        Outbox(outbox_path(tmp_path))


def test_a_night_that_is_removed_is_forgotten_and_its_letters_stay(box, route):
    dead = packet(2)
    box.enter(route, [packet(1), dead])
    arrive(box, route, packet(1))
    box.record(route, [], [Letter("2", "too_large", "why", b"2", b"raw", mark_of(dead))])
    box.forget("20260102")
    assert box.counts() == {(SINK, "11.1"): {"letters": 1}}
    assert box.enter(route, [packet(1)]) == ["waiting"]


def test_visits_with_something_waiting_are_owed(box, route):
    box.enter(route, [packet(1)])
    assert box.owed(route) == {("20260102", 77)}
    arrive(box, route, packet(1))
    assert box.owed(route) == set()


def test_a_visit_is_owed_until_it_is_settled_and_again_if_it_begins_again(tmp_path, box, route):
    box.owe(route, "20260102", 78)
    first = box.turn(route, "20260102", 78)
    with opened_outbox(tmp_path, alone=False) as other:  # another thread, while alerts of the visit are sent
        other.owe(route, "20260102", 78)
    box.settle(route, "20260102", 78, first)
    assert box.owed(route) == {("20260102", 78)}
    assert box.counts() == {(SINK, "11.1"): {"owed": 1}}
    box.settle(route, "20260102", 78, box.turn(route, "20260102", 78))
    assert (box.owed(route), box.turn(route, "20260102", 78)) == (set(), 0)
    box.owe(route, "20260102", 78)
    box.forget("20260102")
    assert box.owed(route) == set()


def test_an_outbox_that_was_made_before_visits_were_owed_is_used(tmp_path):
    with opened_outbox(tmp_path) as box:
        box.enter(box.route(SINK, "11.1"), [packet(1)])
    base = sqlite3.connect(outbox_path(tmp_path))
    base.execute("DROP TABLE owed")
    base.commit()
    base.close()
    with opened_outbox(tmp_path) as box:
        box.owe(box.route(SINK, "11.1"), "20260101", 5)
        assert box.owed(box.route(SINK, "11.1")) == {("20260101", 5), ("20260102", 77)}


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.floats(-1e9, 4e9)), max_size=30))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_clock_of_the_host_decides_nothing(tmp_path_factory, steps):
    """It may jump back and forth between entries: what is sent, waits and is owed follows from their order alone."""
    sent, waiting = set(), set()
    with pytest.MonkeyPatch.context() as patch, opened_outbox(tmp_path_factory.mktemp("box")) as box:
        route = box.route(SINK, "11.1")
        for source, arrives, moment in steps:
            patch.setattr(module, "time", lambda moment=moment: moment)
            standing = box.enter(route, [packet(source)])
            assert standing == ["sent" if source in sent else "waiting"]
            if arrives:
                box.record(route, [(mark_of(packet(source)), moment)])
            (sent if arrives or source in sent else waiting).add(source)
            waiting -= sent
        states = {"sent": len(sent), "waiting": len(waiting)}
        assert box.counts().get((SINK, "11.1"), {}) == {name: count for name, count in states.items() if count}
        letters = [packet(source) for source in sorted(waiting)]
        for number, one in enumerate(letters):
            patch.setattr(module, "time", lambda number=number: -float(number))
            box.bury(route, one, BadInput("x", "y", "z.", "w."))
        assert [letter.name for letter in box.letters()] == [str(one.source_id) for one in letters]


def test_a_visit_is_given_up_with_its_reason_until_it_is_sent_or_owed_again(tmp_path, box, route):
    error, visit = BadInput("damaged", "x.parquet", "is damaged.", "mend it."), ("20260102", 78)
    box.owe(route, *visit)
    first = box.turn(route, *visit)
    with opened_outbox(tmp_path, alone=False) as other:  # searched again, while its alerts are sent
        other.owe(route, *visit)
    box.settle(route, *visit, first, error, "as it was")
    assert (box.given_up(), box.owed(route)) == ([], {visit})
    box.settle(route, *visit, box.turn(route, *visit), error, "as it is")
    (found,) = box.given_up(route)
    assert found[:7] == (SINK, "11.1", *visit, "damaged", "x.parquet: is damaged. To fix, mend it.", "as it is")
    assert (box.owed(route), box.counts()) == (set(), {(SINK, "11.1"): {"given_up": 1}})
    assert box.given_up(route + 1) == []
    box.owe(route, *visit)
    assert box.given_up() == []
    box.settle(route, *visit, box.turn(route, *visit), error)
    box.settle(route, *visit)
    assert box.counts() == {}
    box.settle(route, *visit, 0, error)
    box.forget("20260102")
    assert box.given_up() == []


def test_a_letter_that_was_no_packet_of_ours_is_forgotten_when_it_arrives(box, route):
    box.record(route, [], [Letter(name, "no_alert", "why", None, b"raw") for name in ("0/1", "0/2")])
    first, second = box.letters()
    assert first.mark is None
    box.revive(first, 2.0)
    assert box.letters() == [second]


def test_threads_share_an_outbox(box, route):
    found = []
    thread = threading.Thread(target=lambda: found.extend(box.enter(route, [packet(1)])))
    thread.start()
    thread.join()
    assert found == box.enter(route, [packet(1)]) == ["waiting"]


def test_what_another_search_had_found_is_held_unless_asked(box, route):
    box.enter(route, [packet(1)])
    arrive(box, route, packet(1))
    later = [mark_of(packet(1, "another search"))]
    assert box.standings(route, later) == box.standings(route, later, again=False) == ["held"]
    assert box.standings(route, later, again=True) == ["waiting"]


def test_what_had_been_sent_of_an_exposure_and_is_published_no_more_is_counted(box, route):
    box.enter(route, [packet(n) for n in (1, 2, 3, 4)])
    arrive(box, route, packet(1), packet(2), packet(3))
    box.enter(route, [packet(1, "another search")], again=True)
    arrive(box, route, packet(1, "another search"))
    key = ExposureKey(night="20260102", visit=77, detector=3)
    assert box.withdraw(route, key, left=[3]) == 2  # each detection once, and not what waited
    assert box.counts()[SINK, "11.1"] == {"sent": 4}


@pytest.mark.parametrize("lacking", [(), ("owed",), ("given_up",), ("owed", "given_up")])
def test_an_outbox_is_read_with_the_tables_that_it_has(tmp_path, lacking):
    with opened_outbox(tmp_path) as box:
        route = box.route(SINK, "11.1")
        box.enter(route, [packet(1)])
        box.owe(route, "20260102", 77)
        box.settle(route, "20260102", 78, 0, BadInput("bad", "x", "is bad.", "mend it."), "d")
    path = outbox_path(tmp_path)
    with sqlite3.connect(path) as base:
        for name in lacking:
            base.execute(f"DROP TABLE {name}")
    base.close()
    box = Outbox(path, write=False)
    expected = {"waiting": 1} | {name: 1 for name in ("owed", "given_up") if name not in lacking}
    assert box.counts() == {(SINK, "11.1"): expected}
    assert [one.visit for one in box.given_up()] == ([] if "given_up" in lacking else [78])
    assert box.owed(route) == {("20260102", 77)}
    box.close()
